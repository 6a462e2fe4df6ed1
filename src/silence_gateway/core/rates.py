"""
Rates as people write them: `100/minute`, `5000/s`, `10/30s`, `10000/month`.

Only the text and its numbers are here; what a limit does with a rate is in `core/limits.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_COUNT = 1_000_000_000
"""The most uses one window may have. Above a billion nobody means a limit; it is a typing error."""

MAX_WINDOW_US = 366 * 86_400 * 1_000_000
"""The longest window: a leap year. It keeps every sum of times below 2**53, where Lua's numbers are exact."""

MAX_MONTHS = 12
MONTH_US = 31 * 86_400 * 1_000_000
"""The longest a month can be: what a window of months counts as where one length has to do for all."""

MICROSECONDS: dict[str, int] = {
    "ms": 1_000,
    "millisecond": 1_000,
    "s": 1_000_000,
    "sec": 1_000_000,
    "second": 1_000_000,
    "m": 60_000_000,
    "min": 60_000_000,
    "minute": 60_000_000,
    "h": 3_600_000_000,
    "hour": 3_600_000_000,
    "d": 86_400_000_000,
    "day": 86_400_000_000,
    "w": 604_800_000_000,
    "week": 604_800_000_000,
}

MONTHS: dict[str, int] = {"month": 1, "year": 12}

RATE = re.compile(r"\s*([0-9]{1,18})\s*/\s*([0-9]{1,18})?\s*([A-Za-z]{1,12})\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Rate:
    """
    *count* uses per *window_us* microseconds, or per *months* months of the calendar.

    Attributes:
        count: Uses per window.
        window_us: How long a window is; of a window of months, the longest that it can be.
        months: Months per window, or 0. They have no one length, so only a fixed window that follows the
            calendar can count by them.

    Raises:
        ValueError: If a number is out of range.
    """

    count: int
    window_us: int
    months: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAX_COUNT:
            raise ValueError(f"a rate allows 1 to {MAX_COUNT} uses per window, not {self.count}")
        if not 0 <= self.months <= MAX_MONTHS or MAX_MONTHS % (self.months or 1):
            raise ValueError(f"a rate's months are 1, 2, 3, 4, 6 or 12, not {self.months}")
        if not self.months and not 1_000 <= self.window_us <= MAX_WINDOW_US:
            raise ValueError(f"a rate's window is 1ms to 366d, not {self.window_us} microseconds")

    def __str__(self) -> str:
        """Write the rate the way `parse_rate` reads it."""
        return f"{self.count}/{self.window_text()}"

    def window_text(self) -> str:
        """Write the window the way `parse_rate` reads it."""
        if not self.months:
            return window_text(self.window_us)
        number, unit = (self.months // 12, "year") if self.months == MAX_MONTHS else (self.months, "month")
        return unit if number == 1 else f"{number}{unit}"


def rate_per_months(count: int, months: int) -> Rate:
    """
    Return *count* uses per *months* months of the calendar.

    Raises:
        ValueError: If a number is out of range.
    """
    return Rate(count, min(months * MONTH_US, MAX_WINDOW_US), months)


def parse_rate(text: str) -> Rate:
    """
    Read `COUNT/UNIT` or `COUNT/NUMBERUNIT`.

    Raises:
        TypeError: If it is no text.
        ValueError: If it cannot be read; the text says what would be right.
    """
    if not isinstance(text, str):
        raise TypeError(f"a rate is a str, as in '100/minute', not {type(text).__name__}")
    match = RATE.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{clipped(text)!r} is not a rate; write COUNT/WINDOW, as in 100/minute, 5000/s or 10/30s"
        )
    count, number, unit = match.groups()
    months = unit_size(unit, MONTHS)
    if months is not None:
        return rate_per_months(int(count), int(number or 1) * months)
    unit_us = unit_size(unit, MICROSECONDS)
    if unit_us is None:
        raise ValueError(
            f"{clipped(text)!r} has no unit of time in it: {unit!r} is not one of ms, s, m, h, d, w "
            "(or second, minute, hour, day, week, month, year)"
        )
    return Rate(int(count), int(number or 1) * unit_us)


def unit_size(unit: str, sizes: dict[str, int]) -> int | None:
    """Return how long *unit* is, singular or plural, in any case; None if it is not in *sizes*."""
    lowered = unit.lower()
    size = sizes.get(lowered)
    if size is None and lowered.endswith("s") and len(lowered) > 3:
        size = sizes.get(lowered[:-1])
    return size


def window_text(window_us: int) -> str:
    """Write a window in its largest unit that leaves no remainder."""
    for unit in ("w", "d", "h", "m", "s", "ms"):
        number, rest = divmod(window_us, MICROSECONDS[unit])
        if number and not rest:
            return unit if number == 1 else f"{number}{unit}"
    return f"{window_us / 1_000:g}ms"


def clipped(text: str) -> str:
    """Return *text* short enough for an error line."""
    return text if len(text) <= 40 else f"{text[:40]}..."
