"""Envoy's rate limit service, as the file says it; its rules are in files of their own (`rls_files.py`)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from silence_gateway.app.config.kinds import FILE, RATIO, Flag, ListenAddress, pattern, whole
from silence_gateway.app.config.section import Section

HEADER = pattern(
    "name of a header",
    r"[A-Za-z0-9!#$%&'*+.^`|~-]{1,100}",
    "RateLimit-Limit",
    "use letters, digits and '-', such as X-RateLimit-Limit",
)
RULES = replace(FILE, name="path of a file or directory", examples=("ratelimit.yaml",))


class RlsHeadersConfig(Section):
    """Three header lines about the limit that is closest to refusing."""

    SHORTHAND = "enabled"

    enabled: Flag = Field(default=True, description="Whether they are sent.")
    limit: Annotated[str, HEADER] = Field(default="RateLimit-Limit", description="Name of: hits per window.")
    remaining: Annotated[str, HEADER] = Field(
        default="RateLimit-Remaining", description="Name of: hits left in this window."
    )
    reset: Annotated[str, HEADER] = Field(
        default="RateLimit-Reset", description="Name of: seconds until this window ends."
    )


NO_HEADERS = RlsHeadersConfig(enabled=False)


class RlsConfig(Section):
    """Envoy's rate limit service v3 (gRPC), with rules in envoyproxy/ratelimit's own form."""

    listen: ListenAddress | None = Field(
        default=None, description="Address that Envoy calls by gRPC; absent: no gRPC."
    )
    json_listen: ListenAddress | None = Field(
        default=None,
        alias="json",
        description="Address of `POST /json` and `GET /healthcheck`; absent: none.",
    )
    config: Annotated[Path, RULES] = Field(
        description="File of rules, or a directory of them (`*.yaml`); read again when it changes."
    )
    merge_domains: Flag = Field(
        default=False, description="Whether several files may say something about one domain."
    )
    headers: RlsHeadersConfig = Field(
        default=NO_HEADERS, description="Header lines for the answer of Envoy's client; absent: none."
    )
    request_headers: RlsHeadersConfig = Field(
        default=NO_HEADERS, description="Header lines for the request that Envoy sends on; absent: none."
    )
    shadow_mode: Flag = Field(default=False, description="Refuse nothing, but count what would be refused.")
    quota_mode: Flag = Field(
        default=False, description="Refuse only where all limits that a request meets are reached."
    )
    near_limit_ratio: Annotated[float, RATIO] = Field(
        default=0.8, description="Share of a limit from which hits are counted as near it."
    )
    local_cache: Annotated[int, whole(0, 1_000_000)] = Field(
        default=0,
        description="Most counters remembered as over their limit, so that the store is not asked; 0: none.",
    )
    dynamic_metadata: Flag = Field(
        default=False,
        description="Send what was asked, and `metadata` of rules not reached, with each answer.",
    )
    negative_hits: Flag = Field(default=False, description="Whether callers may give hits back.")
