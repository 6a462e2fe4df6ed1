"""
Which endpoints do worse than their peers, and for how long they are left alone.

Nothing here awaits, counts or reads a clock: `upstreams/outliers.py` does. What is ejected is not out: it is
used when nobody better is left.

The success rate is judged as gRFC A50 says where there are enough endpoints. In small fleets no endpoint can
be that far from the mean (of n values none is further than (n - 1) / sqrt(n) deviations, 1.5 for four), so
there each is compared with the mean of the others instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MANY = 5
"""From so many endpoints with enough calls on, the standard deviation says something."""

DEVIATIONS = 1.9
"""How far below the mean is too far, in standard deviations; as in gRFC A50."""

SMALL_FLEET_GAP = 0.3
"""In a small fleet: how far below the mean of the others is too far, as a share of all calls."""

MIN_CALLS = 100
"""An endpoint with fewer calls in an interval is not judged by its rate."""

MAX_MULTIPLE = 10
"""Each ejection lasts longer than the one before, up to so many times the first."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Calls of one endpoint in an interval, and how many of them failed."""

    calls: int
    failures: int

    @property
    def success(self) -> float:
        """Share of calls that went well; 1 if there were none."""
        return 1 - self.failures / self.calls if self.calls else 1.0


def below_the_mean(tallies: Sequence[Tally]) -> tuple[int, ...]:
    """Return who does worse than the rest, as indices into *tallies*, the worst first."""
    judged = [index for index, tally in enumerate(tallies) if tally.calls >= MIN_CALLS]
    rates = {index: tallies[index].success for index in judged}
    if len(judged) < 2:
        return ()
    total = math.fsum(rates.values())
    if len(judged) >= MANY:
        mean = total / len(judged)
        deviation = math.sqrt(math.fsum((rate - mean) ** 2 for rate in rates.values()) / len(judged))
        bad = [index for index in judged if rates[index] < mean - DEVIATIONS * deviation]
    else:
        others = len(judged) - 1
        bad = [index for index in judged if rates[index] < (total - rates[index]) / others - SMALL_FLEET_GAP]
    return tuple(sorted(bad, key=lambda index: (rates[index], index)))


def may_eject(endpoints: int, ejected: int, max_ejected: float) -> bool:
    """
    Return whether one more of *endpoints* may be ejected when *ejected* are.

    *max_ejected* is a share of them; one may be ejected whatever the share, and one always stays.
    """
    most = max(1, math.floor(endpoints * max_ejected)) if max_ejected > 0 else 0
    return ejected < min(most, endpoints - 1)


def ejection_us(first_us: int, times: int) -> int:
    """Return how long the ejection lasts that is the *times*-th in a row."""
    return first_us * min(max(times, 1), MAX_MULTIPLE)
