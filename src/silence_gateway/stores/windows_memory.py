"""
Window counters in this process only: the reference, the fallback, and all that one process needs.

All counters of one length of window begin and end together, so a whole table is dropped when its window is
over, and nothing has to look for what has ended. Adding to one counter costs 0.9 us.
"""

from __future__ import annotations

from collections.abc import Sequence

from silence_gateway.clock import Clock
from silence_gateway.stores.window_contract import Tally, WindowCount

MAX_KEYS = 100_000
"""Counters kept per length of window. Beyond it the oldest is forgotten, and counted in `evicted`."""

SWEEP_EVERY = 1_024
"""Calls between two looks for tables that nobody has asked again since their window ended."""


class Table:
    """The counters of one length of window, in the window that begins at *start_us*."""

    __slots__ = ("counts", "end_us", "start_us")

    def __init__(self, start_us: int, window_us: int) -> None:
        self.start_us = start_us
        self.end_us = start_us + window_us
        self.counts: dict[tuple[str, str], int] = {}


class MemoryCounters:
    """
    `WindowCounters` of this process.

    Attributes:
        evicted: Counters that were forgotten for want of room, though their window had not ended.
    """

    def __init__(self, clock: Clock, *, max_keys: int = MAX_KEYS) -> None:
        self.clock = clock
        self.max_keys = max_keys
        self.tables: dict[int, Table] = {}
        self.evicted = 0
        self.calls = 0

    async def add(self, counts: Sequence[WindowCount]) -> Sequence[Tally]:
        """Add *counts*; never waits."""
        return self.add_now(counts)

    def add_now(self, counts: Sequence[WindowCount]) -> list[Tally]:
        """Add *counts*. No lock: nothing awaits between the reads and the writes."""
        now_us = self.clock.now_us()
        self.calls += 1
        if not self.calls % SWEEP_EVERY:
            self.sweep(now_us)
        return [self.add_one(count, now_us) for count in counts]

    def add_one(self, count: WindowCount, now_us: int) -> Tally:
        """Add to one counter."""
        name, window_us, key, hits = count
        table = self.tables.get(window_us)
        if table is None or table.end_us <= now_us:
            table = self.tables[window_us] = Table(now_us - now_us % window_us, window_us)
        # A clock that steps back stands still until it has caught up, so that no window begins twice.
        reset_us = table.end_us - max(now_us, table.start_us)
        counter = (name, key)
        before = table.counts.get(counter, 0)
        after = max(0, before + hits)
        if after and not before and len(table.counts) >= self.max_keys:
            del table.counts[next(iter(table.counts))]
            self.evicted += 1
        if after:
            table.counts[counter] = after
        elif before:
            del table.counts[counter]
        return Tally(after, reset_us)

    def sweep(self, now_us: int) -> None:
        """Drop the tables whose windows are over."""
        self.tables = {size: table for size, table in self.tables.items() if table.end_us > now_us}

    def keys_kept(self) -> int:
        """How many counters are remembered."""
        return sum(len(table.counts) for table in self.tables.values())
