"""
The numbers of the Centrifuge client protocol: what a reply, an unsubscribe push and a close may say.

Only the tables; who says which of them, and when, is decided in `core/session.py`. A client library
reads three things out of these numbers: a temporary error is tried again, an unsubscribe code from
2500 on is subscribed again, and a close code of 3500-3999 or 4500-4999 is never connected again.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReplyError:
    """Why one command was refused; *temporary* means that trying again can succeed."""

    code: int
    message: str
    temporary: bool = False


@dataclass(frozen=True, slots=True)
class CloseCode:
    """Why a connection ends: a WebSocket close code and a reason of at most 123 bytes."""

    code: int
    reason: str

    @property
    def terminal(self) -> bool:
        """Whether the stock clients stay away after it."""
        return 3500 <= self.code < 4000 or 4500 <= self.code < 5000


INTERNAL = ReplyError(100, "internal server error", temporary=True)
UNAUTHORIZED = ReplyError(101, "unauthorized")
UNKNOWN_CHANNEL = ReplyError(102, "unknown channel")
PERMISSION_DENIED = ReplyError(103, "permission denied")
METHOD_NOT_FOUND = ReplyError(104, "method not found")
ALREADY_SUBSCRIBED = ReplyError(105, "already subscribed")
LIMIT_EXCEEDED = ReplyError(106, "limit exceeded")
BAD_REQUEST = ReplyError(107, "bad request")
NOT_AVAILABLE = ReplyError(108, "not available")
TOKEN_EXPIRED = ReplyError(109, "token expired")
EXPIRED = ReplyError(110, "expired")
TOO_MANY_REQUESTS = ReplyError(111, "too many requests", temporary=True)
UNRECOVERABLE_POSITION = ReplyError(112, "unrecoverable position")
CONCURRENT_PAGINATION = ReplyError(113, "concurrent pagination", temporary=True)

ERRORS: dict[int, ReplyError] = {
    error.code: error
    for error in (
        INTERNAL,
        UNAUTHORIZED,
        UNKNOWN_CHANNEL,
        PERMISSION_DENIED,
        METHOD_NOT_FOUND,
        ALREADY_SUBSCRIBED,
        LIMIT_EXCEEDED,
        BAD_REQUEST,
        NOT_AVAILABLE,
        TOKEN_EXPIRED,
        EXPIRED,
        TOO_MANY_REQUESTS,
        UNRECOVERABLE_POSITION,
        CONCURRENT_PAGINATION,
    )
}

# The client may connect again.
CLOSED_NORMALLY = CloseCode(3000, "connection closed")
SHUTDOWN = CloseCode(3001, "shutdown")
CLOSED_INTERNAL = CloseCode(3004, "internal server error")
CLOSED_EXPIRED = CloseCode(3005, "connection expired")
SUBSCRIPTION_EXPIRED = CloseCode(3006, "subscription expired")
SLOW = CloseCode(3008, "slow")
WRITE_ERROR = CloseCode(3009, "write error")
INSUFFICIENT_STATE = CloseCode(3010, "insufficient state")
FORCE_RECONNECT = CloseCode(3011, "force reconnect")
NO_PONG = CloseCode(3012, "no pong")
CLOSED_TOO_MANY_REQUESTS = CloseCode(3013, "too many requests")
STATE_INVALIDATED = CloseCode(3014, "state invalidated")

# The client stays away.
INVALID_TOKEN = CloseCode(3500, "invalid token")
CLOSED_BAD_REQUEST = CloseCode(3501, "bad request")
STALE = CloseCode(3502, "stale")
FORCE_NO_RECONNECT = CloseCode(3503, "force disconnect")
CONNECTION_LIMIT = CloseCode(3504, "connection limit")
CHANNEL_LIMIT = CloseCode(3505, "channel limit")
INAPPROPRIATE_PROTOCOL = CloseCode(3506, "inappropriate protocol")
CLOSED_PERMISSION_DENIED = CloseCode(3507, "permission denied")
CLOSED_NOT_AVAILABLE = CloseCode(3508, "not available")
TOO_MANY_ERRORS = CloseCode(3509, "too many errors")

# Unsubscribe pushes; from 2500 on the client subscribes again by itself.
UNSUBSCRIBED_BY_SERVER = 2000
UNSUBSCRIBED_INSUFFICIENT_STATE = 2500
UNSUBSCRIBED_EXPIRED = 2501
UNSUBSCRIBED_STATE_INVALIDATED = 2502
