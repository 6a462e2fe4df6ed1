"""
Counters of calendar-aligned windows: what may be asked of them, and what may be relied on.

The Envoy rate limit service counts with these. `MemoryCounters` (a dict per window; the reference) keeps
these promises; `testing.window_checks` proves it for any other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import NamedTuple, Protocol


class WindowCount(NamedTuple):
    """
    Hits for one counter. Name, window and key together say which; a name may be any text.

    Attributes:
        name: Group of counters, such as the domain; there are few of them.
        window_us: Length of the windows. Each begins at a whole multiple of it since the Unix epoch.
        key: Which counter of the group; 120 characters at most.
        hits: How many to add, at most 2**32 either way. 0 asks; below 0 gives back.
    """

    name: str
    window_us: int
    key: str
    hits: int


class Tally(NamedTuple):
    """
    What a counter says.

    Attributes:
        after: Its count in the present window with the hits in it; never below 0.
        reset_us: Microseconds until that window ends; at least 1.
        parts: How many instances share each limit just now. 1 while the store counts for all of them. More
            while it is away and each counts by itself: then its caller compares *after* with that part of
            the limit. 0 where each counts by itself and may give out the whole.
    """

    after: int
    reset_us: int
    parts: int = 1


class WindowCounters(Protocol):
    """
    Counters of windows that are aligned to the Unix epoch.

    The owner of the counts owns the clock. A counter goes on beyond any limit; limits are its caller's
    business. A window that has ended is forgotten, the next one begins at 0.
    """

    def add(self, counts: Sequence[WindowCount]) -> Awaitable[Sequence[Tally]]:
        """
        Add *counts* in their order, and return what each counter says; the same counter may be named twice.

        Each addition is atomic; nothing is promised between them. Hits given back are taken from the present
        window only, and no further than to 0. Cancelling the caller may leave the hits counted.

        Raises:
            StoreUnavailable: No answer in time; the hits may have been counted.
        """
