"""
What a limit is, what it is asked, what it answers, and how several answers become one.

Nothing here awaits, reads a clock, or knows where counters live. Each algorithm has a file of its own
(`core/sliding_window.py` and so on); how it all looks in headers is in `core/limit_headers.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from silence_gateway.core.rates import Rate

new_tuple = tuple.__new__
"""`new_tuple(Ask, (rule, key, 1, ""))` takes half the time of `Ask(rule, key)`; for hot paths only."""

NEVER: Final = -1
"""The `retry_after_us` of a request that can never be allowed: it costs more than the limit holds."""

NOT_ASKED: Final = -1
"""The `remaining` of a limit that nobody asked, because another one had refused already."""

MAX_EXACT: Final = 2**53
"""Lua counts in doubles; whole numbers below this are exact in both executors."""

MAX_HOLDERS = 100_000
"""The most that a concurrency limit may let run at once: each takes an entry in the store."""

WEEK_US = 7 * 86_400 * 1_000_000
MONDAY_US = 4 * 86_400 * 1_000_000
"""The first Monday since the epoch."""

MAX_BLOCK_US = 366 * 86_400 * 1_000_000
COUNTER_STEPS = 1 << 20
"""Steps in which a sliding counter weighs its last window: products with a billion uses stay exact."""

LIMIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)


class Algorithm(StrEnum):
    """
    How uses are counted.

    SLIDING_WINDOW remembers every use and never lets more than the rate through in any window,
    wherever it begins; it keeps one entry per use, so prefer it for limits up to some thousands.
    SLIDING_COUNTER keeps two numbers: the uses of this window and of the last one, which it weighs by
    how much of it is still within reach.
    TOKEN_BUCKET keeps two numbers; it lets `burst` through at once, then the rate, so any window sees at
    most the burst plus the rate.
    FIXED_WINDOW keeps two numbers and begins anew with every window, so that twice the rate may pass
    around its end; it is what quotas "per day" and "per month" mean.
    CONCURRENCY counts those that run now.
    """

    SLIDING_WINDOW = "sliding_window"
    SLIDING_COUNTER = "sliding_counter"
    TOKEN_BUCKET = "token_bucket"  # noqa: S105 - a kind of bucket, not a password
    FIXED_WINDOW = "fixed_window"
    CONCURRENCY = "concurrency"


class Alignment(StrEnum):
    """
    Where a fixed window begins.

    CALENDAR: in UTC, weeks on Mondays. FIRST_HIT: with a key's first use. EPOCH: at whole windows since
    1970-01-01, a Thursday, as envoyproxy/ratelimit counts.
    """

    CALENDAR = "calendar"
    FIRST_HIT = "first_hit"
    EPOCH = "epoch"


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
        rate: How many uses in how long; None for CONCURRENCY alone.
        burst: Most uses at once, for TOKEN_BUCKET; the rate's count when None.
        max: How many may run at once, for CONCURRENCY.
        ttl_us: After how long the place of a holder that has gone silent is free, for CONCURRENCY.
        align: Where a FIXED_WINDOW begins.
        block_us: For how long a key that was refused stays refused; 0 for no longer than its uses count.
        lease: How many uses an instance may take at a time and spend by itself; 0 for none.
        mode: Whether it refuses.
        when_down: What decides while the shared store is away.
        capacity: Derived: the most that a request may ever cost.
        kind: Derived: the algorithm as one letter, as scripts and stores know it.
        window_us: Derived: the rate's window; 0 for CONCURRENCY.
        months: Derived: the months of the rate's window, or 0.
        offset_us: Derived: where the first window of a FIXED_WINDOW that follows a clock begins.
        earn_units: Derived: what a bucket earns per microsecond.
        token_units: Derived: what one token is worth, in the same units. With both, rates that are no
            whole number of microseconds per token are still exact.
        grain_us: Derived: a sliding counter weighs its last window in steps of this.
        shadow: Derived: it only counts what it would have refused.
        counter: Derived: names what is counted; the same for two rules that may share their counts. A
            changed limit goes on with its counts, a changed window too if it is a SLIDING_WINDOW; a
            bucket with another rate starts anew.

    Raises:
        ValueError: If a value is out of range, or two do not go together.
    """

    name: str
    algorithm: Algorithm
    rate: Rate | None = None
    burst: int | None = None
    max: int | None = None
    ttl_us: int = 30_000_000
    align: Alignment = Alignment.CALENDAR
    block_us: int = 0
    lease: int = 0
    mode: Mode = Mode.ENFORCE
    when_down: WhenDown = WhenDown.LOCAL_SHARE
    capacity: int = field(init=False)
    kind: str = field(init=False)
    window_us: int = field(init=False)
    months: int = field(init=False)
    offset_us: int = field(init=False)
    earn_units: int = field(init=False)
    token_units: int = field(init=False)
    grain_us: int = field(init=False)
    shadow: bool = field(init=False)
    counter: str = field(init=False)

    def __post_init__(self) -> None:
        if not LIMIT_NAME.fullmatch(self.name):
            raise ValueError(
                f"a limit's name is 1 to 64 letters, digits, '_', '.' or '-', not {self.name[:80]!r}"
            )
        wrong = misfit(self)
        if wrong:
            raise ValueError(f"limit {self.name}: {wrong}")
        count, window_us, months = 0, 0, 0
        window = ""
        if self.rate is not None:
            count, window_us, months = self.rate.count, self.rate.window_us, self.rate.months
            window = self.rate.window_text()
        capacity = self.burst or self.max or count
        shared = math.gcd(count, window_us) or 1
        earn_units, token_units = count // shared, window_us // shared
        if self.algorithm is Algorithm.TOKEN_BUCKET and capacity * token_units >= MAX_EXACT // 4:
            raise ValueError(
                f"limit {self.name}: a token_bucket of {capacity} at {self.rate} cannot be counted exactly; "
                "use a smaller burst or a shorter window"
            )
        kind, form = {
            Algorithm.SLIDING_WINDOW: ("w", "w"),
            Algorithm.SLIDING_COUNTER: ("n", f"n-{window}"),
            Algorithm.TOKEN_BUCKET: ("b", f"b{earn_units}-{token_units}"),
            Algorithm.FIXED_WINDOW: ("f", f"f-{window}"),
            Algorithm.CONCURRENCY: ("c", "c"),
        }[self.algorithm]
        if kind == "f" and self.align is Alignment.FIRST_HIT:
            kind, form = "h", f"h-{window}"
        put = object.__setattr__
        put(self, "capacity", capacity)
        put(self, "kind", kind)
        put(self, "window_us", window_us)
        put(self, "months", months)
        mondays = self.align is Alignment.CALENDAR and not window_us % WEEK_US
        put(self, "offset_us", MONDAY_US if mondays else 0)
        put(self, "earn_units", earn_units)
        put(self, "token_units", token_units)
        put(self, "grain_us", -(-window_us // COUNTER_STEPS))
        put(self, "shadow", self.mode is Mode.SHADOW)
        put(self, "counter", f"{self.name}:{form}")

    @property
    def size(self) -> str:
        """How much it lets through, in a few words: `100/m`, or `3 at once`."""
        return f"{self.max} at once" if self.rate is None else str(self.rate)


def misfit(rule: LimitRule) -> str:
    """Return what does not go together in *rule*, or nothing."""
    algorithm = rule.algorithm
    if algorithm is Algorithm.CONCURRENCY:
        if rule.rate is not None or rule.max is None:
            return "concurrency takes max, and no rate: it counts what runs at once"
        if not 1 <= rule.max <= MAX_HOLDERS:
            return f"max is 1 to {MAX_HOLDERS}, not {rule.max}"
        if not 1_000_000 <= rule.ttl_us <= 86_400_000_000:
            return f"ttl is 1s to 24h, not {rule.ttl_us / 1_000_000:g}s"
        if rule.block_us or rule.lease:
            return "block_for and lease belong to limits with a rate; concurrency has none"
    elif rule.rate is None or rule.max is not None:
        return f"{algorithm} takes a rate; max belongs to concurrency: remove one"
    elif rule.rate.months and (
        algorithm is not Algorithm.FIXED_WINDOW or rule.align is not Alignment.CALENDAR
    ):
        return "months and years have no one length: use a fixed_window that follows the calendar, or days"
    if rule.burst is not None and algorithm is not Algorithm.TOKEN_BUCKET:
        return "burst belongs to token_bucket: remove it, or write algorithm: token_bucket"
    if rule.burst is not None and rule.burst < 1:
        return f"burst is at least 1, not {rule.burst}"
    if rule.align is not Alignment.CALENDAR and algorithm is not Algorithm.FIXED_WINDOW:
        return "align belongs to fixed_window: remove it, or write algorithm: fixed_window"
    if not 0 <= rule.block_us <= MAX_BLOCK_US:
        return f"block_for is 0s to 366d, not {rule.block_us / 1_000_000:g}s"
    if rule.block_us and rule.lease:
        return "block_for and lease do not go together: a lease is spent without asking who is blocked"
    most = rule.burst or (rule.rate.count if rule.rate is not None else 0)
    if not 0 <= rule.lease <= most:
        return f"a lease of {rule.lease} is more than the limit of {most}"
    return ""


class Decision(NamedTuple):
    """
    The answer of one limit to one request; a refusal is data here, never an exception.

    A named tuple because one is made per limit per request (0.25 us; a frozen dataclass takes 1 us).

    Attributes:
        allowed: Whether this limit lets the request pass.
        limit: The most it lets pass at once.
        remaining: What is left after this decision; NOT_ASKED if nobody asked this limit.
        retry_after_us: 0 if allowed; else when the same request can succeed; NEVER if it cannot.
        reset_us: When the whole limit is free again, if nothing more is spent; 0 for concurrency.
        at_us: The moment of the decision on the store's clock, for giving back later.
    """

    allowed: bool
    limit: int
    remaining: int
    retry_after_us: int
    reset_us: int
    at_us: int = 0


class Ask(NamedTuple):
    """
    One limit asked about one key.

    Attributes:
        rule: The limit.
        key: Whom it counts.
        cost: How many uses; 0 asks what is left.
        holder: For a concurrency limit, a name that nobody else has, for as long as the place is held.
    """

    rule: LimitRule
    key: str
    cost: int = 1
    holder: str = ""


class Op(StrEnum):
    """
    What can be changed about a key without asking whether that is allowed.

    CHARGE spends whatever it costs, TAKE spends as much of it as is left, GIVE_BACK undoes what was spent
    at a given moment as far as that still counts. RENEW and RELEASE are about a holder's place.
    """

    CHARGE = "charge"
    TAKE = "take"
    GIVE_BACK = "give_back"
    RENEW = "renew"
    RELEASE = "release"


class Change(NamedTuple):
    """
    One change to what a key has spent.

    Attributes:
        op: What to do.
        rule: The limit.
        key: Whom it counts.
        amount: How many uses, at least 0; CHARGE of 0 looks.
        at_us: For GIVE_BACK, the `at_us` of the decision that spent them.
        holder: For RENEW and RELEASE, whose place.
    """

    op: Op
    rule: LimitRule
    key: str
    amount: int = 0
    at_us: int = 0
    holder: str = ""


class Changed(NamedTuple):
    """
    What a change came to.

    Attributes:
        amount: Uses that it moved: spent, or given back.
        used: Uses that count now; may be above the limit.
        reset_us: As in `Decision`.
        at_us: As in `Decision`.
    """

    amount: int
    used: int
    reset_us: int
    at_us: int


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
