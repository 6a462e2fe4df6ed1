"""
How our errors look outside: the one table.

A test fails while an error of `errors.py` has no row, so that none is added without deciding this.
"""

from __future__ import annotations

from typing import NamedTuple

from silence_gateway.core import refusal
from silence_gateway.core.status import Code, http_of_code
from silence_gateway.errors import (
    AccessDenied,
    BadRequest,
    ConfigError,
    Draining,
    GatewayError,
    HeadersTooLarge,
    MethodNotAllowed,
    NotFound,
    RateLimited,
    RequestTimeout,
    RequestTooLarge,
    RpcError,
    StoreMisconfigured,
    StoreUnavailable,
    Unauthenticated,
    UnsupportedMedia,
    UpstreamBroken,
    UpstreamProtocolError,
    UpstreamTimeout,
    UpstreamUnavailable,
)


class Codes(NamedTuple):
    """One error in three protocols."""

    http: int
    grpc: Code
    close: int  # WebSocket; 4xxx are ours, and 45xx mean "do not reconnect"


CODES: dict[type[GatewayError], Codes] = {
    ConfigError: Codes(500, Code.INTERNAL, 1011),
    Unauthenticated: Codes(401, Code.UNAUTHENTICATED, 4501),
    AccessDenied: Codes(403, Code.PERMISSION_DENIED, 4503),
    RateLimited: Codes(refusal.STATUS, Code.RESOURCE_EXHAUSTED, refusal.CLOSE_CODE),
    Draining: Codes(503, Code.UNAVAILABLE, 1012),
    BadRequest: Codes(400, Code.INVALID_ARGUMENT, 4500),
    NotFound: Codes(404, Code.NOT_FOUND, 4504),
    MethodNotAllowed: Codes(405, Code.UNIMPLEMENTED, 4505),
    RequestTooLarge: Codes(413, Code.RESOURCE_EXHAUSTED, 1009),
    HeadersTooLarge: Codes(431, Code.RESOURCE_EXHAUSTED, 1009),
    UnsupportedMedia: Codes(415, Code.INVALID_ARGUMENT, 1003),
    RequestTimeout: Codes(408, Code.DEADLINE_EXCEEDED, 4008),
    UpstreamUnavailable: Codes(503, Code.UNAVAILABLE, 4003),
    UpstreamBroken: Codes(502, Code.UNAVAILABLE, 1014),
    UpstreamTimeout: Codes(504, Code.DEADLINE_EXCEEDED, 4004),
    UpstreamProtocolError: Codes(502, Code.INTERNAL, 1014),
    # Its own code decides, see codes_of; this row is what an impossible code becomes.
    RpcError: Codes(500, Code.UNKNOWN, 1011),
    StoreUnavailable: Codes(503, Code.UNAVAILABLE, 1013),
    StoreMisconfigured: Codes(500, Code.INTERNAL, 1011),
}

UNEXPECTED = Codes(500, Code.INTERNAL, 1011)
"""An exception that nobody raised on purpose."""


def codes_of(error: BaseException) -> Codes:
    """Return the codes of *error*; a subclass of an error in the table has its parent's."""
    if isinstance(error, RpcError) and 1 <= error.code <= 16:
        return Codes(http_of_code(error.code), Code(error.code), 1011)
    for kind in type(error).__mro__:
        codes = CODES.get(kind)
        if codes is not None:
            return codes
    return UNEXPECTED
