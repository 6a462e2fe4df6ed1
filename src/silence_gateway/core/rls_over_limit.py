"""
Which counters are over their limit until their window ends, so that nobody has to ask the store again.

A count in a fixed window only grows, unless hits are given back: what was over stays over. The count itself
is remembered, not just that it was over, so that a limit raised meanwhile, or one that the caller brings,
is answered rightly. Times are integer microseconds of a clock that never steps back. Nothing here awaits.
"""

from __future__ import annotations

from typing import TypeAlias

CounterId: TypeAlias = tuple[str, int, str]
"""Name, window in microseconds, and key of a counter."""


class OverLimitCache:
    """
    The last counts of up to *size* counters that were over their limit; none with 0.

    Attributes:
        generation: Grows with every `forget`. A count asked for before that may be from before it too, so it
            is remembered only if this has not changed since.
    """

    __slots__ = ("counts", "generation", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.generation = 0
        self.counts: dict[CounterId, tuple[int, int]] = {}

    def find(self, counter: CounterId, limit: int, now_us: int) -> int:
        """Return in how many microseconds the window of *counter* ends, if it is over *limit*; else 0."""
        found = self.counts.get(counter)
        if found is None:
            return 0
        count, ends_us = found
        if ends_us <= now_us:
            del self.counts[counter]
            return 0
        return ends_us - now_us if count > limit else 0

    def remember(self, counter: CounterId, count: int, ends_us: int, generation: int) -> None:
        """Remember that *counter* had *count* when this cache was in *generation*."""
        if not self.size or generation != self.generation:
            return
        # Into the last place: the first one is the one remembered for longest.
        self.counts.pop(counter, None)
        if len(self.counts) >= self.size:
            del self.counts[next(iter(self.counts))]
        self.counts[counter] = (count, ends_us)

    def forget(self, counter: CounterId) -> None:
        """Drop what is known of *counter*: hits were given back, here or at another instance."""
        self.generation += 1
        self.counts.pop(counter, None)
