"""
What a caller over its limit is told: the members of the problem document, and the lines of its head.

The same whichever door refuses. Limits are named, whom they count is not: a key may be a secret.
"""

from __future__ import annotations

import math

from silence_gateway.core.status import Code
from silence_gateway.errors import RateLimited

QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded"
"""The type that draft-ietf-httpapi-ratelimit-headers registers, with its `violated-policies`."""

STATUS = 429

CLOSE_CODE = 4029
"""Closes a WebSocket whose client is over its limit; it may come back."""

MAX_CLOSE_REASON = 123
"""Bytes of a reason: what RFC 6455 leaves in a control frame beside the code."""


def refusal_problem(refused: RateLimited) -> dict[str, object]:
    """Return the members of the RFC 9457 problem document, in the order in which they are written."""
    said: dict[str, object] = {
        "type": QUOTA_EXCEEDED,
        "title": "Too Many Requests",
        "status": STATUS,
        "detail": str(refused),
        "code": Code.RESOURCE_EXHAUSTED.name,
        "violated-policies": list(refused.limits),
    }
    if refused.retry_after_s is not None:
        said["retry_after_s"] = round(refused.retry_after_s, 3)
    return said


def refusal_lines(refused: RateLimited) -> list[tuple[bytes, bytes]]:
    """Return the header lines that tell about limits; Retry-After among them unless it can never succeed."""
    lines = list(refused.headers)
    if refused.retry_after_s is not None and not any(name.lower() == b"retry-after" for name, _ in lines):
        lines.append((b"retry-after", b"%d" % max(1, math.ceil(refused.retry_after_s))))
    return lines


def close_reason(refused: RateLimited) -> str:
    """Return why a WebSocket is closed, as short as it must be."""
    return str(refused).encode()[:MAX_CLOSE_REASON].decode(errors="ignore")
