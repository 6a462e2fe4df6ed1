"""
Whether a call is made once more, and when: the answer for one failed attempt.

Only for calls that may run twice without harm; who those are is decided elsewhere. A call that provably
never left is not a case for this file: it is offered elsewhere at once and costs no budget. Nothing here
reads a clock, draws a number or knows what an upstream is. Times are integer microseconds. The rules are
gRFC A6's, with two differences: a budget of the whole fleet instead of a token bucket per process, and an
attempt that outlived its own time counts as repeatable.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from silence_gateway.core.backoff import Backoff, wait_us

PUSHBACK = b"grpc-retry-pushback-ms"
"""Trailing metadata by which a server says when to come back."""

PREVIOUS_ATTEMPTS = b"grpc-previous-rpc-attempts"
"""Metadata by which a server learns that it, or another one, may have had the call before."""

NEVER = -1
"""A pushback that says: do not come back."""

MAX_ATTEMPTS = 10
"""More than this is load and not help; gRPC's own clients stop at 5."""

MAX_PUSHBACK_DIGITS = 9  # eleven days in milliseconds; what is longer outlives every deadline anyway
MAX_ATTEMPTS_DIGITS = 3  # a caller that says more of itself has made it up


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """
    When calls are repeated.

    Attributes:
        attempts: How often a call may be made in all, the first time included.
        codes: gRPC codes after which it is made again.
        backoff: How long to wait before that.

    Raises:
        ValueError: If *attempts* is not 1 to 10, or a code is not an error's.
    """

    attempts: int
    codes: frozenset[int]
    backoff: Backoff

    def __post_init__(self) -> None:
        if not 1 <= self.attempts <= MAX_ATTEMPTS:
            raise ValueError(f"attempts must be 1 to {MAX_ATTEMPTS}, got {self.attempts}")
        wrong = sorted(code for code in self.codes if not 1 <= code <= 16)
        if wrong:
            raise ValueError(f"calls are repeated after gRPC codes from 1 to 16, got {wrong}")


@dataclass(frozen=True, slots=True)
class Ended:
    """
    How an attempt ended.

    Attributes:
        code: Its gRPC code, not OK.
        timed_out: Whether its own time ran out, with time left for the call.
        pushback_ms: What the server said about coming back: milliseconds, `NEVER`, or None for nothing.
    """

    code: int
    timed_out: bool = False
    pushback_ms: int | None = None


class Why(Enum):
    """Why a call is not made again."""

    FATAL = "its error is none to repeat after"
    ATTEMPTS = "it was made as often as it may be"
    PUSHBACK = "the server said so"
    DEADLINE = "its deadline leaves no time"
    BUDGET = "the retry budget is spent"


@dataclass(frozen=True, slots=True)
class Again:
    """Make the call once more, in *after_us* microseconds."""

    after_us: int


@dataclass(frozen=True, slots=True)
class Over:
    """Leave it at that."""

    why: Why


Step: TypeAlias = Again | Over


def next_step(
    policy: RetryPolicy,
    ended: Ended,
    *,
    begun: int,
    left_us: int,
    affordable: bool,
    draw: float,
    hedged: bool = False,
) -> Step:
    """
    Return what follows an attempt that *ended* without success.

    Args:
        policy: When calls are repeated.
        ended: How it ended.
        begun: Attempts begun so far, this one included.
        left_us: Microseconds until the call's deadline.
        affordable: Whether the budget has room for one more.
        draw: In [0, 1): where in its range the wait lies.
        hedged: Whether the next attempt would have come anyway, so that there is nothing to wait for.

    The budget is looked at last, so whoever gets `Again` has used a part of it.
    """
    if not ended.timed_out and ended.code not in policy.codes:
        return Over(Why.FATAL)
    if ended.pushback_ms is not None and ended.pushback_ms < 0:
        return Over(Why.PUSHBACK)
    if begun >= policy.attempts:
        return Over(Why.ATTEMPTS)
    if ended.pushback_ms is not None:
        after_us = ended.pushback_ms * 1000
    else:
        after_us = 0 if hedged else wait_us(policy.backoff, begun - 1, draw)
    # Later than the deadline helps nobody: the error is told now, and not when time is up.
    if after_us >= left_us:
        return Over(Why.DEADLINE)
    return Again(after_us) if affordable else Over(Why.BUDGET)


def read_pushback(metadata: Iterable[tuple[bytes, bytes]]) -> int | None:
    """
    Return what a server said about coming back: milliseconds, `NEVER`, or None if it said nothing.

    What is not one plain number counts as `NEVER`, as gRFC A6 has it: a server that tries to say something
    does not want to be called at will. Several values are none either, as for grpc-go.
    """
    said = [value.strip() for name, value in metadata if name == PUSHBACK]
    if not said:
        return None
    text = said[0]
    return int(text) if len(said) == 1 and text.isdigit() and len(text) <= MAX_PUSHBACK_DIGITS else NEVER


def counting_attempts(
    metadata: Sequence[tuple[bytes, bytes]], previous: int
) -> tuple[tuple[bytes, bytes], ...]:
    """
    Return *metadata* for an attempt that *previous* ones of ours were begun before (gRFC A6).

    A caller may be at it for the second time itself. Its attempts are added to ours if it says one plain
    number, and forgotten otherwise: a server is told once, and the number only grows.
    """
    said = [value.strip() for name, value in metadata if name == PREVIOUS_ATTEMPTS]
    if len(said) == 1 and said[0].isdigit() and len(said[0]) <= MAX_ATTEMPTS_DIGITS:
        previous += int(said[0])
    others = (pair for pair in metadata if pair[0] != PREVIOUS_ATTEMPTS)
    return (*others, (PREVIOUS_ATTEMPTS, b"%d" % previous))
