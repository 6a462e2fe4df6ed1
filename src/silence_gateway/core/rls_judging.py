"""
What a count means: over the limit or not, what is left, and how many of its hits were over or near.

The arithmetic of envoyproxy/ratelimit, thresholds in 32-bit floats included, so that statistics after a
change of program go on where they were. Counting goes on beyond the limit; a refused request has counted.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

MAX_HITS = 1 << 32
"""
More hits of one request count as this many: over every limit there is, while sums stay below 2**53.
"""

FLOAT = struct.Struct("<f")


class Verdict(NamedTuple):
    """
    What one count says about one limit.

    Attributes:
        over: Whether the count is beyond the limit.
        remaining: Hits left in this window.
        over_hits: How many of the hits just counted were beyond the limit.
        near_hits: How many of them were within it, but beyond the near threshold.
    """

    over: bool
    remaining: int
    over_hits: int
    near_hits: int


def judge(limit: int, near: int, after: int, hits: int) -> Verdict:
    """
    Say what it means that *hits* brought the count to *after*.

    Args:
        limit: Hits allowed in the window.
        near: From `near_threshold`; at most *limit*.
        after: The count with the hits in it.
        hits: 0 or more; 0 asks.
    """
    before = after - hits
    if after > limit:
        if before >= limit:
            return Verdict(True, 0, hits, 0)
        return Verdict(True, 0, after - limit, limit - max(near, before))
    if after > near:
        return Verdict(False, limit - after, 0, hits if before >= near else after - near)
    return Verdict(False, limit - after, 0, 0)


def near_threshold(limit: int, ratio: float) -> int:
    """Return the count from which hits are near *limit*: *ratio* of it, rounded down in 32-bit floats."""
    return min(limit, int(as_float32(as_float32(limit) * as_float32(ratio))))


def as_float32(value: float) -> float:
    """Return the 32-bit float that is nearest to *value*."""
    [rounded] = FLOAT.unpack(FLOAT.pack(value))
    return float(rounded)


def share_of(limit: int, parts: int) -> int:
    """
    Return what one of *parts* instances may let pass by itself: never less than 1 of a limit that allows any.

    With fewer than two parts it is the whole limit.
    """
    if parts < 2 or limit < 2:
        return limit
    return max(1, limit // parts)


def refunded(limit: int, after: int) -> int:
    """Return what is left of *limit* after hits were given back."""
    return max(0, limit - after)


def crosses_back(limit: int, after: int, hits: int) -> bool:
    """
    Whether giving *hits* back, which left *after*, may have brought a count back under *limit*.

    Counts stop at 0, so what was counted before is known only as far as `after + hits`.
    """
    return after <= limit < after + hits


class Standing:
    """
    What the descriptors of one request come to together.

    A request is over if one of its ordinary limits is, or if it has quota limits and all of those are.

    Attributes:
        failed: Ordinary limits that are over.
        quotas: Quota limits.
        failed_quotas: Quota limits that are over.
        least: Index of the descriptor that headers are about; None if no descriptor has a limit.
        least_remaining: What that one has left.
    """

    __slots__ = ("failed", "failed_quotas", "least", "least_remaining", "quotas")

    def __init__(self) -> None:
        self.failed = 0
        self.quotas = 0
        self.failed_quotas = 0
        self.least: int | None = None
        self.least_remaining = MAX_REMAINING

    def count(self, index: int, *, over: bool, quota: bool, remaining: int) -> None:
        """
        Add the descriptor at *index*, which has a limit.

        Headers are about the first of those with the least left; but one that refuses goes before all that
        do not, and the last one that refuses before the others.
        """
        if remaining < self.least_remaining:
            self.least, self.least_remaining = index, remaining
        if quota:
            self.quotas += 1
            self.failed_quotas += over
        elif over:
            self.failed += 1
            self.least, self.least_remaining = index, 0

    @property
    def over(self) -> bool:
        """Whether the request as a whole is over."""
        return self.failed > 0 or 0 < self.quotas == self.failed_quotas


MAX_REMAINING = (1 << 32) - 1
"""What an unlimited descriptor has left: the most that the field of the protocol holds."""
