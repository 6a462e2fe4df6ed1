"""What may be the matter with a server that does not answer as HTTP servers do: a question for a person."""

from __future__ import annotations

import asyncio

from silence_gateway.upstreams.statistics import TrafficCounts


def doubt(*, strange: bool, known: bool, tls: bool) -> str:
    """
    Return the end of a message about a connection that was closed without an answer.

    Args:
        strange: Whether what it said is no HTTP. gRPC servers speak first, and mail servers do.
        known: Whether its endpoint has ever said anything; then it is only broken.
        tls: Whether the connection is one of TLS.
    """
    if strange:
        return ": does it speak HTTP/1.1?"
    if known:
        return ""
    return ": does it want a certificate?" if tls else ": does it want TLS?"


def doubt_at_end(begun: bytearray, traffic: TrafficCounts, transport: asyncio.BaseTransport) -> str:
    """Return `doubt` of a connection that was asked and ended when *begun* of a head had come."""
    strange = bool(begun) and not begun.startswith(b"HTTP/1")
    tls = transport.get_extra_info("sslcontext") is not None
    return doubt(strange=strange, known=traffic.bytes_in > 0, tls=tls)
