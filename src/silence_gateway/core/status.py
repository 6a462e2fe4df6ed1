"""
gRPC status codes and how they map to and from HTTP.

The tables are those of google/rpc/code.proto and of gRPC's http-grpc-status-mapping.md.
"""

from __future__ import annotations

from silence_gateway.rpc_words import Code

__all__ = ["CODE_OF_HTTP", "HTTP_OF_CODE", "Code", "http_of_code", "name_of_code"]

HTTP_OF_CODE: dict[int, int] = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}

CODE_OF_HTTP: dict[int, Code] = {
    400: Code.INTERNAL,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.UNIMPLEMENTED,
    429: Code.UNAVAILABLE,
    431: Code.INTERNAL,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.UNAVAILABLE,
}
"""Only for reading an upstream that answers HTTP where gRPC was expected."""


FAULTS = frozenset({Code.UNKNOWN, Code.DEADLINE_EXCEEDED, Code.INTERNAL, Code.UNAVAILABLE, Code.DATA_LOSS})
"""
Ends that a person would call failed: what is a 5xx in HTTP and no word about the request. A caller that asks
for what is not there is answered; and UNIMPLEMENTED is how servers say which reflection they do not have.
"""


def http_of_code(code: int) -> int:
    """Return the HTTP status for a gRPC status; a number that is not a status counts as UNKNOWN."""
    return HTTP_OF_CODE.get(code, 500)


def name_of_code(code: int) -> str:
    """Return the name of a gRPC status; a number that is not a status counts as UNKNOWN."""
    return Code(code).name if 0 <= code <= 16 else "UNKNOWN"
