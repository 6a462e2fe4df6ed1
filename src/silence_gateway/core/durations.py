"""
Durations counted finely enough to tell quantiles from: one list of plain integers per thing that is timed.

The buckets grow by a tenth at most from ten microseconds to an hour, so a quantile is within 5 % of the true
one in between, whatever was counted. Lists add up number by number, so those of several workers, instances
or spans of time become one without any loss. Every bound of `core/histogram.py` is a bound here, so the
buckets that are published follow from these exactly. A list takes 2 KB, whatever comes.

Written for every call: finding the bucket is one bisection, 0.15 us. Nothing here reads a clock.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise

from silence_gateway.core.histogram import BOUNDS_S

SHORTEST_S = 0.00001
"""Whatever takes less is counted as this much: no call to another process does."""

LONGER_S = (30.0, 60.0, 300.0, 600.0, 3600.0)
"""Beyond what is published; whatever takes more than the last is counted as that much."""

STEP = 1.1
"""How much longer than the lower bound of its bucket a duration may be, as a factor."""

ERROR = math.sqrt(STEP) - 1
"""How far a quantile may be from the true one, as a share of it: the middle of a bucket stands for it all."""


def _finer(bounds: Sequence[float]) -> Iterator[float]:
    """Yield *bounds* and as many between them as it takes for none to be more than STEP apart."""
    yield bounds[0]
    for low, high in pairwise(bounds):
        steps = math.ceil(math.log(high / low) / math.log(STEP))
        yield from (low * (high / low) ** (step / steps) for step in range(1, steps))
        yield high


FINE_S: tuple[float, ...] = tuple(_finer((SHORTEST_S, *BOUNDS_S, *LONGER_S)))
"""Upper bounds of the buckets, in seconds; one more bucket holds the rest."""

BUCKETS = len(FINE_S) + 1

PUBLISHED: tuple[int, ...] = tuple(bisect_left(BOUNDS_S, bound) for bound in (*FINE_S, math.inf))
"""For each bucket, which one of `core.histogram.BOUNDS_S` it is a part of."""


MIDDLES_S: tuple[float, ...] = (
    FINE_S[0],
    *(math.sqrt(low * high) for low, high in pairwise(FINE_S)),
    FINE_S[-1],
)
"""For each bucket, the duration that stands for all of it."""

LABELS: tuple[str, ...] = (*(f"{bound:.6g}" for bound in FINE_S), "+Inf")
"""For each bucket, its upper bound as text."""

_BUCKET_OF = {label: bucket for bucket, label in enumerate(LABELS)}


def quantiles_s(counts: Sequence[int], shares: Sequence[float]) -> list[float | None]:
    """Return how long the quickest of each of *shares*, in (0, 1], took at most; None if there are none."""
    reached = list(accumulate(counts))
    if not reached[-1]:
        return [None] * len(shares)
    return [MIDDLES_S[bisect_left(reached, max(1, math.ceil(reached[-1] * share)))] for share in shares]


def published(counts: Sequence[int]) -> list[int]:
    """Return *counts* by the buckets of `core.histogram.BOUNDS_S`."""
    coarse = [0] * (len(BOUNDS_S) + 1)
    for bucket, count in zip(PUBLISHED, counts, strict=True):
        coarse[bucket] += count
    return coarse


def total_s(counts: Sequence[int]) -> float:
    """Return about how long everything counted took together; within 5 %, and it never falls."""
    return math.fsum(count * MIDDLES_S[bucket] for bucket, count in enumerate(counts) if count)


def written(counts: Sequence[int]) -> dict[str, int]:
    """Return the buckets that are not empty by their upper bounds in seconds, for JSON."""
    return {LABELS[bucket]: count for bucket, count in enumerate(counts) if count}


def read(buckets: Mapping[str, int]) -> list[int]:
    """
    Return what `written` was given.

    Raises:
        ValueError: If a bound is none of ours.
    """
    counts = [0] * BUCKETS
    for label, count in buckets.items():
        if label not in _BUCKET_OF:
            raise ValueError(f"there is no bucket up to {label}")
        counts[_BUCKET_OF[label]] = count
    return counts
