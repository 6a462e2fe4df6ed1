"""Bounds of the HTTP edge: how long, how large and how many."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from silence_gateway.app.config.kinds import FilePath, duration, size, whole
from silence_gateway.app.config.section import Section


class ServerConfig(Section):
    """Limits and timeouts of client connections; requests outside them are refused, never repaired."""

    header_timeout_s: Annotated[float, duration("10ms", "24h")] = Field(
        default=10.0,
        alias="header_timeout",
        description="Longest time from a request's first byte to the end of its headers.",
    )
    body_timeout_s: Annotated[float, duration("10ms", "24h")] = Field(
        default=30.0,
        alias="body_timeout",
        description="Longest time for a request's body to arrive after its headers.",
    )
    idle_timeout_s: Annotated[float, duration("10ms", "24h")] = Field(
        default=75.0,
        alias="idle_timeout",
        description="How long a connection may stay open between requests.",
    )
    max_header_bytes: Annotated[int, size("256B", "1MiB")] = Field(
        default=16 * 1024, description="Largest request line and headers together; more is answered 431."
    )
    max_body_bytes: Annotated[int, size("0B", "1GiB")] = Field(
        default=4 * 1024 * 1024, alias="max_body", description="Largest request body; more is answered 413."
    )
    max_connections: Annotated[int, whole(0, 10_000_000)] = Field(
        default=0, description="Most client connections of one worker at once; 0 means no bound of our own."
    )
    drain_s: Annotated[float, duration("0s", "24h")] = Field(
        default=30.0, alias="drain", description="How long running requests may take to finish after SIGTERM."
    )


class ServerTlsConfig(Section):
    """TLS of the main listener."""

    certificate: FilePath = Field(description="Certificate chain in PEM form, our own certificate first.")
    key: FilePath = Field(description="Private key of the certificate, in PEM form without a passphrase.")
    client_ca: FilePath | None = Field(
        default=None,
        description="CA certificates in PEM form; with them, clients must present a certificate they signed.",
    )
