"""
How many calls may be repeats: a share of all calls, for one instance and for the whole fleet.

Without a budget, every instance that repeats what fails doubles or triples the load of a service that
fails because of its load. What is counted are calls and repeats of the last seconds, here and (told by
others, a moment old) elsewhere. A few repeats a second are always free, so that a fleet with little to do
can repeat at all. Nothing here reads a clock or knows a store.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

MAX_COUNT = 10**12
"""More calls than any instance makes within a window; a larger number is no count."""


class Totals(NamedTuple):
    """Calls made and, on top of them, repeats."""

    calls: int
    repeats: int

    def __sub__(self, earlier: Totals) -> Totals:
        return Totals(self.calls - earlier.calls, self.repeats - earlier.repeats)


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetPolicy:
    """
    What may be repeated.

    Attributes:
        share: Repeats per call, 0 to 1.
        free: Repeats within a window that are free for the whole fleet.

    Raises:
        ValueError: If either is out of range.
    """

    share: float
    free: int

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or self.free < 0:
            raise ValueError(f"a budget is a share of 0 to 1 and at least 0 free repeats, got {self}")


def affordable(policy: BudgetPolicy, own: Totals, others: Totals, instances: int) -> bool:
    """
    Return whether one more repeat fits, here and in the fleet.

    Args:
        policy: What may be repeated.
        own: What this instance did in the window.
        others: What the others said they did.
        instances: How many share the free repeats, this one included; at least 1.

    What others say is a moment old, so each instance is bound by its own part of the free repeats too:
    together they exceed what the fleet may do only by what they do within that moment, and by one each.
    """
    if policy.share == 0 and policy.free == 0:
        return False
    own_free = max(1, policy.free // instances)
    fleet_calls, fleet_repeats = own.calls + others.calls, own.repeats + others.repeats
    return (
        own.repeats < policy.share * own.calls + own_free
        and fleet_repeats < policy.share * fleet_calls + policy.free
    )


class Recent:
    """What was counted within the last *ticks* ticks, from totals that only grow."""

    __slots__ = ("_marks",)

    def __init__(self, ticks: int) -> None:
        self._marks: deque[Totals] = deque([Totals(0, 0)], maxlen=ticks)

    def tick(self, totals: Totals) -> None:
        """Begin a new tick, with *totals* so far."""
        self._marks.append(totals)

    def within(self, totals: Totals) -> Totals:
        """Return what *totals* has on top of those at the beginning of the window."""
        return totals - self._marks[0]


def added(all_totals: Iterable[Totals]) -> Totals:
    """Return the sum of *all_totals*."""
    calls = repeats = 0
    for totals in all_totals:
        calls += totals.calls
        repeats += totals.repeats
    return Totals(calls, repeats)


def written(totals: Totals) -> bytes:
    """Return *totals* as a fact for the others."""
    return b"%d %d" % totals


def read(fact: bytes) -> Totals:
    """
    Return the totals that another instance told.

    Raises:
        ValueError: It is no such fact; anybody who may write to the store can write anything.
    """
    words = fact.split(b" ") if len(fact) <= 32 else []
    if len(words) != 2 or not all(word.isdigit() for word in words):
        raise ValueError("not what an instance tells of its repeats")
    totals = Totals(int(words[0]), int(words[1]))
    if max(totals) > MAX_COUNT:
        raise ValueError("counts that no instance can have")
    return totals
