"""
Slow start: an endpoint that just came, or came back, takes its part of the calls little by little.

A process that has just started is slow (caches are cold, code is not compiled yet), and one that just
recovered must not meet everything that was held back from it.
"""

from __future__ import annotations

FULL = 16
"""Shares are counted in sixteenths of a weight, so that a part of weight 1 is a whole number."""


def share_of(weight: int, age_s: float, window_s: float) -> int:
    """
    Return the share of an endpoint of *weight* that has taken calls for *age_s*.

    It grows in a straight line over *window_s*, in sixteenths, and never starts at nothing: an endpoint
    without calls would never warm up. A window of 0 gives the whole share at once.
    """
    if age_s >= window_s:
        return weight * FULL
    steps = max(1, int(FULL * max(age_s, 0.0) / window_s))
    return weight * steps
