"""
The fixed window: uses are counted until the window ends, and then from nothing.

Nothing here awaits or reads a clock. Times are integer microseconds. The Lua twin is
`stores/scripts/limits/fixed_window.lua`; `tests/agreement` holds both to the same numbers.

A window begins with the calendar (`core/calendar.py`), or with a key's first use. Twice the limit may
pass around its end, which is what people who buy "10,000 a day" expect; who minds takes a sliding
window.

Time that steps back stands still until it has caught up; by a whole window or more, it starts anew.
"""

from __future__ import annotations

from typing import NamedTuple

from silence_gateway.core.calendar import month_window
from silence_gateway.core.limits import NEVER, Alignment, Decision, LimitRule

MOST_USES = 1 << 52
"""More than this is not remembered: a charge can pass any limit, but not what Lua counts exactly."""


class Window(NamedTuple):
    """*used* uses since *start_us*."""

    start_us: int
    used: int


def bounds(rule: LimitRule, now_us: int) -> tuple[int, int]:
    """Return when the window that *now_us* is in begins and ends; one that a use begins, begins now."""
    if rule.months:
        return month_window(now_us, rule.months)
    window_us = rule.window_us
    start_us = now_us
    if rule.align is not Alignment.FIRST_HIT:
        start_us -= (now_us - rule.offset_us) % window_us
    return start_us, start_us + window_us


def is_over(rule: LimitRule, window: Window, now_us: int) -> bool:
    """Whether *window* no longer matters: it has ended, or nothing was used."""
    return not current(rule, window, now_us)[0].used


def current(rule: LimitRule, window: Window | None, now_us: int) -> tuple[Window, int]:
    """Return the window that counts at *now_us*, and when it ends."""
    start_us, end_us = bounds(rule, now_us)
    if window is not None:
        own_end_us = bounds(rule, window.start_us)[1]
        ahead_us = window.start_us - now_us
        if now_us < own_end_us and ahead_us < own_end_us - window.start_us:
            return window, own_end_us
    return Window(start_us, 0), end_us


def judge(rule: LimitRule, window: Window | None, now_us: int, cost: int) -> Decision:
    """
    Say what spending *cost* would meet.

    *cost* is at least 0; 0 asks what is left.
    """
    (_, used), end_us = current(rule, window, now_us)
    limit = rule.capacity
    reset_us = end_us - now_us if used or cost else 0
    if used + cost <= limit or not cost:
        return Decision(True, limit, max(0, limit - used - cost), 0, reset_us, now_us)
    if cost > limit:
        return Decision(False, limit, max(0, limit - used), NEVER, reset_us if used else 0, now_us)
    return Decision(False, limit, max(0, limit - used), end_us - now_us, reset_us, now_us)


def spend(rule: LimitRule, window: Window | None, now_us: int, cost: int) -> Window:
    """Count *cost* uses at *now_us*, whether they fit or not."""
    (start_us, used), _ = current(rule, window, now_us)
    return Window(start_us, min(used + cost, MOST_USES))


def give_back(rule: LimitRule, window: Window, now_us: int, at_us: int, amount: int) -> tuple[Window, int]:
    """Undo *amount* uses spent at *at_us*, if that was in this window; says how many it undid."""
    (start_us, used), _ = current(rule, window, now_us)
    amount = min(amount, used) if at_us >= start_us else 0
    return Window(start_us, used - amount), amount


def used_of(rule: LimitRule, window: Window | None, now_us: int) -> tuple[int, int]:
    """Return how many uses count now, and how long until none does."""
    (_, used), end_us = current(rule, window, now_us)
    return used, end_us - now_us if used else 0
