"""
Every algorithm behind one shape, by the letter that rules and scripts know it by.

The algorithms are in files of their own; this one only says that they look alike, so that a store can
keep any state without knowing whose it is. Concurrency counts holders and not uses, so it stands apart.
"""

from __future__ import annotations

from typing import Any, Protocol

from silence_gateway.core import fixed_window, sliding_counter, sliding_window, token_bucket
from silence_gateway.core.limits import Decision, LimitRule


class Arithmetic(Protocol):
    """How one algorithm counts; a state of None is a key that has spent nothing."""

    def judge(self, rule: LimitRule, state: Any, now_us: int, cost: int, /) -> Decision:
        """Say what spending *cost* would meet."""

    def spend(self, rule: LimitRule, state: Any, now_us: int, cost: int, /) -> Any:
        """Return the state after *cost* uses, whether they fit or not; may change the one given."""

    def give_back(
        self, rule: LimitRule, state: Any, now_us: int, at_us: int, amount: int, /
    ) -> tuple[Any, int]:
        """Return the state without *amount* uses of the moment *at_us*, and how many it undid."""

    def used_of(self, rule: LimitRule, state: Any, now_us: int, /) -> tuple[int, int]:
        """Return how many uses count now, and how long until none does."""

    def is_over(self, rule: LimitRule, state: Any, now_us: int, /) -> bool:
        """Say whether the state can be forgotten."""


ARITHMETIC: dict[str, Arithmetic] = {
    "w": sliding_window,
    "n": sliding_counter,
    "b": token_bucket,
    "f": fixed_window,
    "h": fixed_window,
}
