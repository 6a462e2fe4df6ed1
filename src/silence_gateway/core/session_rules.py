"""
What a session is told about the world: the rules of its hub, and who its client is.

Only values. What follows from them is decided in `core/session.py` and `core/session_commands.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from silence_gateway.core.channels import NamespaceRules


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRules:
    """
    What holds for every session of a hub.

    Attributes:
        namespaces: What is allowed where.
        server_version: Sent in the connect reply; never empty, the stock clients read it.
        stale_us: How long a connection may stay without `connect`.
        ping_us: Interval of pings; 0 sends none.
        pong_timeout_us: How long to wait for a pong; less than *ping_us*.
        expiry_grace_us: How long an expired connection is left open for a refresh.
    """

    namespaces: Mapping[str, NamespaceRules]
    server_version: str = "1"
    stale_us: int = 10_000_000
    ping_us: int = 25_000_000
    pong_timeout_us: int = 8_000_000
    expiry_grace_us: int = 25_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """
    What a token (or its absence) says about a client.

    Attributes:
        user: Empty for an anonymous client.
        authenticated: Whether a token was verified.
        ttl_us: How long from now on this is good for; 0 for ever.
        info: Encoded JSON that other clients see as `conn_info`; empty for none.
    """

    user: str = ""
    authenticated: bool = False
    ttl_us: int = 0
    info: bytes = b""
