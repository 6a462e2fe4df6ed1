"""
The exact sliding window: every use is remembered until it is one window old.

Nothing here awaits or reads a clock. Times are integer microseconds. The Lua twin is
`stores/scripts/limits/sliding_window.lua`; it keeps the same log packed in a string, and
`tests/agreement` holds both to the same numbers.

A log is a list of moments. Each moment carries the running total of everything spent up to and
including it, so that any number of uses in one microsecond is one entry, the uses in the window are
one subtraction, and the moment at which N uses become free is found by bisection. A use at t counts
until just before t + window.

What is given back is taken from the oldest uses: the count is right at once, no later total has to be
rewritten, and what stays is never older than what was really used, so no window ever holds too much.

Time that steps back stands still until it has caught up. If it steps back by a window or more, no
remembered use is in the present window, and the log starts anew.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right

from silence_gateway.core.limits import NEVER, Decision, LimitRule, new_tuple


class Log:
    """
    What one key has spent.

    Attributes:
        times: Moments of use, strictly rising.
        totals: Running total after each moment, strictly rising.
        start: Running total before the first use that counts, where that is not told by the moments: none
            before the first of them, and those that were given back.
        window_us: The window of the rule that it was spent by last: keys of one limit can have their own.
    """

    __slots__ = ("start", "times", "totals", "window_us")

    def __init__(self) -> None:
        self.times: list[int] = []
        self.totals: list[int] = []
        self.start = 0
        self.window_us = 0


def is_over(_rule: LimitRule, log: Log, now_us: int) -> bool:
    """Whether *log* no longer matters: its last use has left the window of its own rule."""
    return not log.times or not -log.window_us < log.times[-1] - now_us < log.window_us


def used_of(rule: LimitRule, log: Log | None, now_us: int) -> tuple[int, int]:
    """Return how many uses count now, and how long until none does."""
    if log is None or not log.times:
        return 0, 0
    times, totals, start = log.times, log.totals, log.start
    window_us = rule.window_us
    ahead_us = times[-1] - now_us
    if not -window_us < ahead_us < window_us:
        return 0, 0
    # A newest use ahead of the clock means that time has stepped back: it stands still there.
    horizon_us = (now_us if ahead_us < 0 else times[-1]) - window_us
    if times[0] <= horizon_us:
        start = max(start, totals[bisect_right(times, horizon_us) - 1])
    used = totals[-1] - start
    return used, ahead_us + window_us if used else 0


def judge(rule: LimitRule, log: Log | None, now_us: int, cost: int) -> Decision:
    """
    Say what spending *cost* would meet; *log* is not changed.

    *cost* is at least 0; 0 asks what is left.
    """
    limit = rule.capacity
    window_us = rule.window_us
    used, reset_us = used_of(rule, log, now_us)
    # More may be remembered than the limit holds: it was lowered, or more was charged.
    if used + cost <= limit or not cost:
        if cost and reset_us < window_us:
            reset_us = window_us
        return Decision(True, limit, max(0, limit - used - cost), 0, reset_us, now_us)
    remaining = max(0, limit - used)
    if cost > limit:
        return Decision(False, limit, remaining, NEVER, reset_us, now_us)
    assert log is not None
    freed_at = bisect_left(log.totals, log.totals[-1] + cost - limit)
    return Decision(False, limit, remaining, log.times[freed_at] + window_us - now_us, reset_us, now_us)


def spend(rule: LimitRule, log: Log | None, now_us: int, cost: int) -> Log:
    """Remember *cost* uses at *now_us*, whether they fit or not, and forget what is over; changes *log*."""
    if log is None:
        log = Log()
    times, totals = log.times, log.totals
    log.window_us = window_us = rule.window_us
    if times:
        ahead_us = times[-1] - now_us
        if ahead_us >= 0 and ahead_us < window_us:
            totals[-1] += cost
            return log
        gone = len(times) if ahead_us >= window_us else uses_gone(times, now_us - window_us)
        if gone:
            log.start = max(log.start, totals[gone - 1])
            del times[:gone]
            del totals[:gone]
    totals.append((totals[-1] if totals else log.start) + cost)
    times.append(now_us)
    return log


def admit(rule: LimitRule, log: Log, now_us: int, cost: int) -> Decision:
    """
    Judge and, if allowed, spend in one go: the same as both, at half their price; may change *log*.

    The usual case is written out: time goes on, the last use still counts, and there is enough.
    """
    times = log.times
    if times and cost:
        window_us = rule.window_us
        if 0 < now_us - times[-1] < window_us:
            totals = log.totals
            before = totals[-1]
            start = log.start
            gone = uses_gone(times, now_us - window_us) if times[0] <= now_us - window_us else 0
            if gone:
                start = max(start, totals[gone - 1])
            remaining = rule.capacity - before + start - cost
            if remaining >= 0:
                if gone:
                    log.start = start
                    del times[:gone]
                    del totals[:gone]
                log.window_us = window_us
                times.append(now_us)
                totals.append(before + cost)
                return new_tuple(Decision, (True, rule.capacity, remaining, 0, window_us, now_us))
    decision = judge(rule, log, now_us, cost)
    if cost and decision.allowed:
        spend(rule, log, now_us, cost)
    return decision


def give_back(rule: LimitRule, log: Log, now_us: int, at_us: int, amount: int) -> tuple[Log, int]:
    """Undo *amount* uses spent at *at_us*, if they still count; changes *log* and says how many it undid."""
    used, _ = used_of(rule, log, now_us)
    if not used or at_us <= max(now_us, log.times[-1]) - rule.window_us:
        return log, 0
    amount = min(amount, used)
    log.start = log.totals[-1] - used + amount
    return log, amount


def uses_gone(times: list[int], horizon_us: int) -> int:
    """How many moments are at or before *horizon_us*."""
    return bisect_right(times, horizon_us) if times[0] <= horizon_us else 0
