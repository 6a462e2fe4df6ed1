"""
What the end of a call says about the endpoint that served it.

The one place that sorts errors into evidence. INVALID_ARGUMENT, NOT_FOUND and their like are answers: the
endpoint did its work. RESOURCE_EXHAUSTED is pushback, and so is a call turned away unseen (REFUSED_STREAM):
grpcio servers do that to clients that keep to their cap, because they count calls for a moment longer.
A call whose caller left, or broke off its own body, says nothing.
"""

from __future__ import annotations

import asyncio
from enum import Enum

from silence_gateway.core.http_answer_head import AnswerHead
from silence_gateway.core.http_head import Rejected
from silence_gateway.core.retry import PUSHBACK
from silence_gateway.core.retry_after import retry_after_ms
from silence_gateway.core.status import Code
from silence_gateway.errors import (
    RpcError,
    UpstreamBroken,
    UpstreamProtocolError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from silence_gateway.upstreams.contracts import Metadata


class Evidence(Enum):
    """What a call's end says."""

    ANSWER = "answer"
    FAILURE = "failure"
    SILENCE = "silence"
    """Nobody answered until the deadline; how much that says depends on how long it was."""
    PUSHBACK = "pushback"
    """It is there but has enough to do: fewer calls for a while, and nothing for the breaker."""
    NOTHING = "nothing"


class NotConnectedInTime(UpstreamUnavailable):
    """An attempt's time went by before there was a connection for it, and its call has time left."""


def evidence_of(error: BaseException, failure_codes: frozenset[int], *, connection_lost: bool) -> Evidence:
    """
    Sort *error*, raised by a call on one connection.

    A connection that broke under many calls is one event, and is counted once where it is noticed; with
    *connection_lost* the calls that went down with it add nothing.
    """
    if isinstance(error, RpcError):
        if error.code == Code.DEADLINE_EXCEEDED:
            return Evidence.SILENCE
        return Evidence.FAILURE if error.code in failure_codes else Evidence.ANSWER
    if isinstance(error, UpstreamTimeout | NotConnectedInTime):
        return Evidence.SILENCE
    if isinstance(error, UpstreamUnavailable | UpstreamBroken):
        if isinstance(error, UpstreamUnavailable) and error.refused:
            return Evidence.PUSHBACK
        return Evidence.NOTHING if connection_lost else Evidence.FAILURE
    if isinstance(error, UpstreamProtocolError):
        return Evidence.FAILURE
    return Evidence.NOTHING


def without_work(error: BaseException) -> bool:
    """
    Return whether *error* is an answer that an endpoint may give without having done the work.

    RESOURCE_EXHAUSTED is as often about one caller's quota, and UNKNOWN about one request, so neither is a
    failure. But who answers so is quick and idle, and would be given the calls of those that work.
    """
    return isinstance(error, RpcError) and error.code in {Code.RESOURCE_EXHAUSTED, Code.UNKNOWN}


SAID_BY_STATUS: dict[int, Code] = {
    429: Code.RESOURCE_EXHAUSTED,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.UNAVAILABLE,
}
"""
What an HTTP answer says about its endpoint, in the words of gRPC. Any other 5xx is UNKNOWN, which is an
answer: a program that fails at one request may be well, as one whose gRPC method raised.
"""


def code_of_status(status: int) -> Code:
    """Return what an HTTP status, or a `counted_status`, stands for among the ends of calls."""
    if status < 100:
        status *= 100
    if status < 500 and status != 429:
        return Code.OK
    return SAID_BY_STATUS.get(status, Code.UNKNOWN)


def said_by_status(head: AnswerHead) -> RpcError | None:
    """Return what an answer with *head* stands for among the ends of calls; None for a good one."""
    status = head.status
    code = code_of_status(status)
    if code is Code.OK:
        return None
    after = head.value(b"retry-after")
    pushback: Metadata = ()
    if after is not None:
        pushback = ((PUSHBACK, b"%d" % retry_after_ms(after, head.value(b"date"))),)
    return RpcError(code, f"the upstream answered {status}", trailing_metadata=pushback)


def code_of(error: BaseException) -> int:
    """Return the gRPC code under which the end of a call is counted."""
    if isinstance(error, RpcError):
        return error.code if 1 <= error.code <= 16 else Code.UNKNOWN
    if isinstance(error, UpstreamTimeout):
        return Code.DEADLINE_EXCEEDED
    if isinstance(error, UpstreamUnavailable | UpstreamBroken):
        return Code.UNAVAILABLE
    if isinstance(error, UpstreamProtocolError):
        return Code.INTERNAL
    if isinstance(error, asyncio.CancelledError | GeneratorExit | Rejected):
        return Code.CANCELLED
    return Code.UNKNOWN
