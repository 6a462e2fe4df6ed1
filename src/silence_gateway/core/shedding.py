"""
Load shedding: how long a call may stand in line, by how long there has been a line.

A short line absorbs a burst and empties again; a line that never empties only makes everybody late. So a
call may wait for a whole interval while the line was empty within the last one, and only for the target
otherwise. This is controlled delay (CoDel) in the form that suits servers, where refused callers do not
slow down ("Fail at Scale", 2015).

Each importance has its own view: it counts as a line to a call what stands before it, those of its own
importance and above. The important are served first, so the others' line stands, and they are shed first.

Nothing here awaits or reads a clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


class Importance(IntEnum):
    """How much it matters that a call is served; the values are in order."""

    LOW = 0
    NORMAL = 1
    HIGH = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SheddingRules:
    """
    How long a call may wait.

    Attributes:
        target_us: While there is a standing line.
        interval_us: Otherwise; and how long a line must last to be a standing one.

    Raises:
        ValueError: If the interval is not the longer one.
    """

    target_us: int = 5_000
    interval_us: int = 100_000

    def __post_init__(self) -> None:
        if not 0 < self.target_us < self.interval_us:
            raise ValueError(
                f"0 < target_us < interval_us must hold, got {self.target_us} and {self.interval_us}"
            )


class LineWatch:
    """Since when there has been a line, as each importance sees it."""

    __slots__ = ("_empty_us", "_rules")

    def __init__(self, rules: SheddingRules, now_us: int) -> None:
        self._rules = rules
        self._empty_us = [now_us] * len(Importance)

    def saw(self, waiting: Sequence[int], now_us: int) -> None:
        """Take note of how many of each importance wait; call it before a call joins and after one leaves."""
        for importance in range(len(self._empty_us) - 1, -1, -1):
            if waiting[importance]:
                # It stands before all that matter less as well.
                return
            self._empty_us[importance] = now_us

    def standing(self, importance: Importance, now_us: int) -> bool:
        """Return whether the line before a call of *importance* is a standing one."""
        return now_us - self._empty_us[importance] > self._rules.interval_us

    def patience_us(self, importance: Importance, now_us: int) -> int:
        """Return how long a call of *importance* that comes now may wait, in microseconds."""
        rules = self._rules
        return rules.target_us if self.standing(importance, now_us) else rules.interval_us
