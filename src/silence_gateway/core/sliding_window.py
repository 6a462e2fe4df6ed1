"""
The exact sliding window: every use is remembered until it is one window old.

Nothing here awaits or reads a clock. Times are integer microseconds. The Lua twin is
`stores/scripts/limits.lua`; it keeps the same log in a sorted set (time as score), and
`tests/agreement` holds both to the same numbers.

A log is a list of moments. Each moment carries the running total of everything spent up to and
including it, so that any number of uses in one microsecond is one entry, the uses in the window are
one subtraction, and the moment at which N uses become free is found by bisection. A use at t counts
until just before t + window.

Time that steps back stands still until it has caught up. If it steps back by a window or more, no
remembered use is in the present window, and the log starts anew.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from silence_gateway.core.limits import NEVER, Decision, LimitRule


class Log:
    """
    What one key has spent.

    Attributes:
        times: Moments of use, strictly rising.
        totals: Running total after each moment, strictly rising.
        start: Running total before the first moment.
    """

    __slots__ = ("start", "times", "totals")

    def __init__(self) -> None:
        self.times: list[int] = []
        self.totals: list[int] = []
        self.start = 0


def is_over(rule: LimitRule, log: Log, now_us: int) -> bool:
    """Whether *log* no longer matters: its last use has left the window."""
    return not log.times or not -rule.rate.window_us < log.times[-1] - now_us < rule.rate.window_us


def judge(rule: LimitRule, log: Log, now_us: int, cost: int) -> Decision:
    """
    Say what `take` would decide; *log* is not changed.

    *cost* is at least 0; 0 asks what is left.
    """
    limit = rule.rate.count
    window_us = rule.rate.window_us
    times, totals, start = log.times, log.totals, log.start
    used = 0
    reset_us = 0
    if times and -window_us < (ahead_us := times[-1] - now_us) < window_us:
        # A newest use ahead of the clock means that time has stepped back: it stands still there.
        gone = uses_gone(times, (now_us if ahead_us < 0 else times[-1]) - window_us)
        if gone:
            start = totals[gone - 1]
        used = totals[-1] - start
        reset_us = ahead_us + window_us
    # More may be remembered than the limit holds: the limit was lowered while the log lived on.
    if used + cost <= limit or not cost:
        if cost and reset_us < window_us:
            reset_us = window_us
        return Decision(True, limit, max(0, limit - used - cost), 0, reset_us)
    remaining = max(0, limit - used)
    if cost > limit:
        return Decision(False, limit, remaining, NEVER, reset_us)
    freed_at = bisect_left(totals, start + used + cost - limit)
    return Decision(False, limit, remaining, times[freed_at] + window_us - now_us, reset_us)


def spend(rule: LimitRule, log: Log, now_us: int, cost: int) -> None:
    """Remember *cost* uses at *now_us*, and forget what is over; only after `judge` has allowed the same."""
    times, totals = log.times, log.totals
    if times:
        window_us = rule.rate.window_us
        ahead_us = times[-1] - now_us
        if ahead_us >= 0 and ahead_us < window_us:
            totals[-1] += cost
            return
        gone = len(times) if ahead_us >= window_us else uses_gone(times, now_us - window_us)
        if gone:
            log.start = totals[gone - 1]
            del times[:gone]
            del totals[:gone]
    totals.append((totals[-1] if totals else log.start) + cost)
    times.append(now_us)


def take(rule: LimitRule, log: Log, now_us: int, cost: int = 1) -> tuple[Log, Decision]:
    """Spend *cost* uses at *now_us*, or refuse and spend none; the log given in is changed in place."""
    decision = judge(rule, log, now_us, cost)
    if decision.allowed and cost:
        spend(rule, log, now_us, cost)
    return log, decision


def uses_gone(times: list[int], horizon_us: int) -> int:
    """How many moments are at or before *horizon_us*."""
    return bisect_right(times, horizon_us) if times[0] <= horizon_us else 0
