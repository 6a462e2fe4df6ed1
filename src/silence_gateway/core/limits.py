"""
What a limit is, what a decision is, and how several decisions become one answer.

Nothing here awaits, reads a clock, or knows where counters live. The two algorithms are in
`core/sliding_window.py` and `core/token_bucket.py`; how it all looks in headers is in
`core/limit_headers.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from silence_gateway.core.rates import Rate

NEVER: Final = -1
"""The `retry_after_us` of a request that can never be allowed: it costs more than the limit holds."""

MAX_EXACT: Final = 2**53
"""Lua counts in doubles; whole numbers below this are exact in both executors."""

LIMIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)


class Algorithm(StrEnum):
    """
    How uses are counted.

    SLIDING_WINDOW remembers every use and never lets more than the rate through in any window,
    wherever it begins; it keeps one entry per use, so prefer it for limits up to some thousands.
    TOKEN_BUCKET keeps two numbers per key; it lets `burst` through at once, then the rate, so any
    window sees at most the burst plus the rate.
    """

    SLIDING_WINDOW = "sliding_window"
    TOKEN_BUCKET = "token_bucket"  # noqa: S105 - a kind of bucket, not a password


class Mode(StrEnum):
    """Whether a limit refuses, or only counts what it would have refused."""

    ENFORCE = "enforce"
    SHADOW = "shadow"


class WhenDown(StrEnum):
    """
    What decides while the shared store is away.

    LOCAL_SHARE: this instance's part of the limit. LOCAL_FULL: the whole limit, on this instance.
    ALLOW and DENY: everything, or nothing.
    """

    LOCAL_SHARE = "local_share"
    LOCAL_FULL = "local_full"
    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitRule:
    """
    One limit, apart from where it applies and whom it counts.

    Attributes:
        name: Letters, digits, `_`, `.`, `-`; at most 64 of them. It is part of every stored key.
        algorithm: How uses are counted.
        rate: How many uses in how long.
        burst: Most uses at once, for TOKEN_BUCKET; the rate's count when None.
        mode: Whether it refuses.
        when_down: What decides while the shared store is away.
        capacity: Derived: the most that a request may ever cost.
        earn_units: Derived: what a bucket earns per microsecond.
        token_units: Derived: what one token is worth, in the same units. With both, rates that are no
            whole number of microseconds per token are still exact.
        shadow: Derived: it only counts what it would have refused.
        sliding: Derived: it is a SLIDING_WINDOW.
        counter: Derived: names what is counted; the same for two rules that may share their counts. A
            changed window or limit goes on with a log as it is; a changed rate starts a bucket anew.

    Raises:
        ValueError: If a value is out of range, or two do not go together.
    """

    name: str
    algorithm: Algorithm
    rate: Rate
    burst: int | None = None
    mode: Mode = Mode.ENFORCE
    when_down: WhenDown = WhenDown.LOCAL_SHARE
    capacity: int = field(init=False)
    earn_units: int = field(init=False)
    token_units: int = field(init=False)
    shadow: bool = field(init=False)
    sliding: bool = field(init=False)
    counter: str = field(init=False)

    def __post_init__(self) -> None:
        if not LIMIT_NAME.fullmatch(self.name):
            raise ValueError(
                f"a limit's name is 1 to 64 letters, digits, '_', '.' or '-', not {self.name[:80]!r}"
            )
        sliding = self.algorithm is Algorithm.SLIDING_WINDOW
        if sliding and self.burst is not None:
            raise ValueError(f"limit {self.name}: burst belongs to token_bucket; a sliding_window has none")
        if self.burst is not None and self.burst < 1:
            raise ValueError(f"limit {self.name}: burst is at least 1, not {self.burst}")
        capacity = self.burst or self.rate.count
        shared = math.gcd(self.rate.count, self.rate.window_us)
        token_units = self.rate.window_us // shared
        if not sliding and capacity * token_units >= MAX_EXACT // 4:
            raise ValueError(
                f"limit {self.name}: a token_bucket of {capacity} at {self.rate} cannot be counted exactly; "
                "use a smaller burst or a shorter window"
            )
        put = object.__setattr__
        put(self, "capacity", capacity)
        put(self, "earn_units", self.rate.count // shared)
        put(self, "token_units", token_units)
        put(self, "shadow", self.mode is Mode.SHADOW)
        put(self, "sliding", sliding)
        kind = "w" if sliding else f"b{self.earn_units}-{token_units}"
        put(self, "counter", f"{self.name}:{kind}")


class Decision(NamedTuple):
    """
    The answer of one limit to one request; a refusal is data here, never an exception.

    A named tuple because one is made per limit per request (0.25 us; a frozen dataclass takes 1 us).

    Attributes:
        allowed: Whether this limit lets the request pass.
        limit: The most it lets pass at once.
        remaining: What is left after this decision.
        retry_after_us: 0 if allowed; else when the same request can succeed; NEVER if it cannot.
        reset_us: When the whole limit is free again, if nothing more is spent.
    """

    allowed: bool
    limit: int
    remaining: int
    retry_after_us: int
    reset_us: int


class Ask(NamedTuple):
    """One limit asked about one key: *cost* uses of *rule* for *key*."""

    rule: LimitRule
    key: str
    cost: int = 1


class Refusal(NamedTuple):
    """
    What several limits say together, when they say no.

    Attributes:
        limits: Names of every limit that refused, in the order asked.
        retry_after_us: The longest of their waits; NEVER if one of them can never allow it.
    """

    limits: tuple[str, ...]
    retry_after_us: int


def refusal_of(asks: Sequence[Ask], decisions: Sequence[Decision]) -> Refusal | None:
    """Return who refused and for how long; None if the request may pass. Shadow limits refuse nothing."""
    names: list[str] = []
    longest_us = 0
    for ask, decision in zip(asks, decisions, strict=True):
        if decision.allowed or ask.rule.shadow:
            continue
        names.append(ask.rule.name)
        if NEVER in (decision.retry_after_us, longest_us):
            longest_us = NEVER
        elif decision.retry_after_us > longest_us:
            longest_us = decision.retry_after_us
    return Refusal(tuple(names), longest_us) if names else None


def seconds_rounded_up(time_us: int) -> int:
    """Whole seconds that are never too short."""
    return -(-time_us // 1_000_000)
