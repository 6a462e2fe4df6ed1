"""
The sliding counter: the uses of this window, and those of the last one as far as they are in reach.

Nothing here awaits or reads a clock. Times are integer microseconds. The Lua twin is
`stores/scripts/limits/sliding_counter.lua`; `tests/agreement` holds both to the same numbers.

Windows begin at whole multiples since the epoch. A request at the share e of its window sees
`last * (1 - e) + this` uses: what the sliding window would see if the last window's uses had come
evenly. The weight moves in steps of `rule.grain_us` (2^-20 of a window, never finer than 1 us) and is
rounded up, so that every product stays below 2**53 and no error lets anything more through.

Time that steps back stands still until it has caught up; by a whole window or more, it starts anew.
"""

from __future__ import annotations

from typing import NamedTuple

from silence_gateway.core.limits import NEVER, Decision, LimitRule

MOST_USES = 1 << 32
"""More than this is not remembered: a charge can pass any limit, but not what Lua counts exactly."""


class Windows(NamedTuple):
    """Uses of the window that began at *start_us*, and of the one before."""

    start_us: int
    this: int
    last: int


def is_over(rule: LimitRule, windows: Windows, now_us: int) -> bool:
    """Whether *windows* no longer matter: nothing that they count is in reach."""
    windows = current(rule, windows, now_us)
    return not windows.this and not windows.last


def current(rule: LimitRule, windows: Windows | None, now_us: int) -> Windows:
    """Return the counts of the window that *now_us* is in."""
    window_us = rule.window_us
    start_us = now_us - now_us % window_us
    if windows is None:
        return Windows(start_us, 0, 0)
    gone_us = start_us - windows.start_us
    if gone_us == 0 or -window_us < now_us - windows.start_us < 0:
        return windows
    return Windows(start_us, 0, windows.this if gone_us == window_us else 0)


def judge(rule: LimitRule, windows: Windows | None, now_us: int, cost: int) -> Decision:
    """
    Say what spending *cost* would meet.

    *cost* is at least 0; 0 asks what is left.
    """
    start_us, this, last = current(rule, windows, now_us)
    limit, window_us, grain_us = rule.capacity, rule.window_us, rule.grain_us
    steps = -(-window_us // grain_us)
    weight = steps - max(0, now_us - start_us) // grain_us
    room = (limit * steps - last * weight) // steps - this
    reset_us = 0
    if this or cost:
        reset_us = start_us + 2 * window_us - now_us
    elif last:
        reset_us = start_us + window_us - now_us
    if room >= cost or not cost:
        return Decision(True, limit, max(0, room - cost), 0, reset_us, now_us)
    if not this:
        reset_us = start_us + window_us - now_us if last else 0
    if cost > limit:
        return Decision(False, limit, max(0, room), NEVER, reset_us, now_us)
    wait_us = window_us
    free = limit - cost - this
    if free >= 0:
        # The last window weighs on it; it is light enough after this many steps.
        wait_us = (steps - free * steps // last) * grain_us
    if wait_us >= window_us:
        # Only in the next window, on which the uses of this one weigh.
        steps_on = steps - (limit - cost) * steps // this if this else 0
        wait_us = window_us + min(max(0, steps_on) * grain_us, window_us)
    return Decision(False, limit, max(0, room), start_us + wait_us - now_us, reset_us, now_us)


def spend(rule: LimitRule, windows: Windows | None, now_us: int, cost: int) -> Windows:
    """Count *cost* uses at *now_us*, whether they fit or not."""
    start_us, this, last = current(rule, windows, now_us)
    return Windows(start_us, min(this + cost, MOST_USES), last)


def give_back(rule: LimitRule, windows: Windows, now_us: int, at_us: int, amount: int) -> tuple[Windows, int]:
    """Undo *amount* uses spent at *at_us*, if their window still counts; says how many it undid."""
    start_us, this, last = current(rule, windows, now_us)
    if at_us >= start_us:
        amount = min(amount, this)
        return Windows(start_us, this - amount, last), amount
    if at_us >= start_us - rule.window_us:
        amount = min(amount, last)
        return Windows(start_us, this, last - amount), amount
    return Windows(start_us, this, last), 0


def used_of(rule: LimitRule, windows: Windows | None, now_us: int) -> tuple[int, int]:
    """Return how many uses count now, rounded up, and how long until none does."""
    start_us, this, last = current(rule, windows, now_us)
    steps = -(-rule.window_us // rule.grain_us)
    weight = steps - max(0, now_us - start_us) // rule.grain_us
    decision = judge(rule, windows, now_us, 0)
    return this - (-last * weight // steps), decision.reset_us
