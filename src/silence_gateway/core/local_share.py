"""
What part of a limit one instance may give out while the shared store is away.

Each of K instances takes the K-th part, rounded down, but at least 1: together they admit no more than
the limit, or K where the limit is smaller than the number of instances. The algorithm and the window
stay, so the guarantees within the part are those of the whole.

When the store is back, it goes on with what it had counted, and the local counts are neither pushed
into it nor dropped: should the store go away again they still hold. So in any one window, however
often the store comes and goes, K instances together admit at most the limit (from the store) plus
max(limit, K) (locally).
"""

from __future__ import annotations

from dataclasses import replace

from silence_gateway.core.limits import LimitRule
from silence_gateway.core.rates import Rate


def share_of(rule: LimitRule, instances: int) -> LimitRule:
    """Return the part of *rule* that belongs to one of *instances*; fewer than one count as one."""
    if instances <= 1:
        return rule
    rate = Rate(max(1, rule.rate.count // instances), rule.rate.window_us)
    return replace(rule, rate=rate, burst=None if rule.burst is None else max(1, rule.burst // instances))
