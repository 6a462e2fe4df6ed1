"""
Months of the calendar in microseconds since the epoch, UTC.

Integer arithmetic only, so that its Lua twin (in `stores/scripts/limits/fixed_window.lua`) can do the
same; days become dates and back by counting from the 1st of March, as H. Hinnant's "chrono-compatible
low-level date algorithms" does. Nothing here reads a clock.
"""

from __future__ import annotations

DAY_US = 86_400 * 1_000_000
ERA_DAYS = 146_097
"""Days in 400 years, after which the calendar repeats."""

EPOCH_DAYS = 719_468
"""Days from 0000-03-01 to 1970-01-01."""


def month_window(now_us: int, months: int) -> tuple[int, int]:
    """
    Return when the span of *months* months that *now_us* is in begins and ends.

    Spans begin in January: of 3 months they are the quarters, of 12 the years.
    """
    month = month_of(now_us // DAY_US)
    first = month - month % months
    return first_day(first) * DAY_US, first_day(first + months) * DAY_US


def month_of(day: int) -> int:
    """Return the month that a day (0 is 1970-01-01) is in, counted from January of the year 0."""
    day += EPOCH_DAYS
    era, day = divmod(day, ERA_DAYS)
    year = (day - day // 1460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * year + year // 4 - year // 100
    since_march = (5 * day + 2) // 153
    return (era * 400 + year) * 12 + since_march + 2


def first_day(month: int) -> int:
    """Return the first day of a month, in the counts of `month_of`."""
    years, since_march = divmod(month - 2, 12)
    era, year = divmod(years, 400)
    return era * ERA_DAYS + 365 * year + year // 4 - year // 100 + (153 * since_march + 2) // 5 - EPOCH_DAYS
