"""
What part of a limit one instance may give out while the shared store is away, and what that may cost.

Each of K instances takes the K-th part, rounded down, but at least 1: together they admit no more than
the limit, or K where the limit is smaller than the number of instances. The algorithm and the window
stay, so the guarantees within the part are those of the whole.

When the store is back, it goes on with what it had counted, and each instance charges it what it let
through meanwhile and what still counts, once per key; the local counts stay as well, so that they hold
should the store go away again. So in any one window, however often the store comes and goes, K
instances together admit at most the limit (from the store) plus max(limit, K) (locally). Leases add at
most K x `lease` to that (`stores/limits_leasing.py`).
"""

from __future__ import annotations

from dataclasses import replace

from silence_gateway.core.limits import LimitRule, WhenDown


def share_of(rule: LimitRule, instances: int) -> LimitRule:
    """Return the part of *rule* that belongs to one of *instances*; fewer than one count as one."""
    if instances <= 1:
        return rule
    rate = rule.rate
    return replace(
        rule,
        rate=None if rate is None else replace(rate, count=part_of(rate.count, instances)),
        burst=None if rule.burst is None else part_of(rule.burst, instances),
        max=None if rule.max is None else part_of(rule.max, instances),
        lease=0,
    )


def part_of(limit: int, instances: int) -> int:
    """Return the part of a number of uses that belongs to one of *instances*; at least 1."""
    return max(1, limit // max(1, instances))


def over_admission(rule: LimitRule, instances: int) -> int | None:
    """
    Return how many uses per key and window *instances* together may admit beyond the limit around an outage.

    What they hold by leases is in it. None means without bound: while the store is away the limit lets
    everything pass.
    """
    limit, instances = rule.capacity, max(1, instances)
    leased = rule.lease * instances
    match rule.when_down:
        case WhenDown.LOCAL_SHARE:
            return part_of(limit, instances) * instances + leased
        case WhenDown.LOCAL_FULL:
            return limit * instances + leased
        case WhenDown.DENY:
            return leased
        case _:
            return None
