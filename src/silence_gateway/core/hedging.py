"""
When a call is late enough to be made a second time: a quantile of recent durations.

Durations are counted in the buckets of `core/histogram.py`, so a quantile is as exact as those are: within
a bucket it is taken for evenly spread.
"""

from __future__ import annotations

from collections.abc import Sequence

from silence_gateway.core.histogram import BOUNDS_S

FEWEST = 20
"""Below so many recent calls a quantile is an anecdote."""


def quantile_s(counts: Sequence[int], share: float) -> float | None:
    """
    Return the duration in seconds that *share* of the calls stayed within; None if that is not known.

    *counts* are calls per bucket of BOUNDS_S and one more for the rest. It is not known with fewer than
    `FEWEST` calls, and where it lies beyond the last bound.
    """
    calls = sum(counts)
    if calls < FEWEST:
        return None
    wanted, below, lower_s = share * calls, 0, 0.0
    for count, upper_s in zip(counts, BOUNDS_S, strict=False):
        if below + count >= wanted and count:
            return lower_s + (upper_s - lower_s) * max(0.0, wanted - below) / count
        below += count
        lower_s = upper_s
    return None
