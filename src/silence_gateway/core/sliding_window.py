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

    def copy(self) -> Log:
        """Return a log that is changed apart from this one."""
        twin = Log()
        twin.times, twin.totals, twin.start = self.times.copy(), self.totals.copy(), self.start
        return twin


def is_over(rule: LimitRule, log: Log, now_us: int) -> bool:
    """Whether *log* no longer matters: its last use has left the window."""
    return not log.times or not -rule.rate.window_us < log.times[-1] - now_us < rule.rate.window_us


def judge(rule: LimitRule, log: Log, now_us: int, cost: int) -> Decision:
    """
    Say what `take` would decide; what the log means is not changed.

    *cost* is at least 0; 0 asks what is left.
    """
    limit = rule.rate.count
    window_us = rule.rate.window_us
    forget(log, now_us, window_us)
    times = log.times
    used = log.totals[-1] - log.start if times else 0
    # More may be remembered than the limit holds: the limit was lowered while the log lived on.
    remaining = max(0, limit - used - cost)
    reset_us = times[-1] + window_us - now_us if times else 0
    if not cost:
        return Decision(True, limit, remaining, 0, reset_us)
    if used + cost <= limit:
        return Decision(True, limit, remaining, 0, max(reset_us, window_us))
    remaining = max(0, limit - used)
    if cost > limit:
        return Decision(False, limit, remaining, NEVER, reset_us)
    freed_at = bisect_left(log.totals, log.start + used + cost - limit)
    return Decision(False, limit, remaining, times[freed_at] + window_us - now_us, reset_us)


def spend(log: Log, now_us: int, cost: int) -> None:
    """Remember *cost* uses at *now_us*; call it only after `judge` has allowed the same."""
    times = log.times
    if times and times[-1] >= now_us:
        log.totals[-1] += cost
        return
    log.totals.append((log.totals[-1] if times else log.start) + cost)
    times.append(now_us)


def take(rule: LimitRule, log: Log, now_us: int, cost: int = 1) -> tuple[Log, Decision]:
    """Spend *cost* uses at *now_us*, or refuse and spend none; the log given in is changed in place."""
    decision = judge(rule, log, now_us, cost)
    if decision.allowed and cost:
        spend(log, now_us, cost)
    return log, decision


def forget(log: Log, now_us: int, window_us: int) -> None:
    """Drop every use that is a window old or that belongs to a time a window or more ahead."""
    times = log.times
    if not times:
        return
    newest_us = times[-1]
    if newest_us > now_us:
        if newest_us - now_us >= window_us:
            log.start = log.totals[-1]
            times.clear()
            log.totals.clear()
            return
        now_us = newest_us
    horizon_us = now_us - window_us
    if times[0] > horizon_us:
        return
    gone = bisect_right(times, horizon_us)
    log.start = log.totals[gone - 1]
    del times[:gone]
    del log.totals[:gone]
