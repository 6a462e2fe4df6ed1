"""
The fleet's counts of limits: this process adds its own every few seconds, the admin API reads them all.

Nothing here is on the request path. While the store is away counts gather here; a flush whose answer did
not come is not sent again, so a fleet total may lack a few seconds of one instance, and never counts
anything twice.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping

from silence_gateway.clock import Clock
from silence_gateway.errors import StoreFault
from silence_gateway.limiting.statistics import LimitStatistics, merged
from silence_gateway.stores.limit_contract import LimitCounts, LimitTotals

FLUSH_EVERY_S = 5.0
MAX_TOP = 20
"""Busiest keys of one limit that one flush carries."""


class FleetCounts:
    """
    Keeps one limiter's statistics flowing into the fleet's totals.

    Attributes:
        flushes: Flushes that the store confirmed.
        lost: Flushes that were sent and not confirmed.
    """

    def __init__(
        self,
        statistics: Mapping[str, LimitStatistics],
        totals: LimitTotals | None,
        clock: Clock,
        is_up: Callable[[], bool],
        *,
        every_s: float = FLUSH_EVERY_S,
    ) -> None:
        self.statistics = statistics
        self.totals = totals
        self.clock = clock
        self.is_up = is_up
        self.every_s = every_s
        self.task: asyncio.Task[None] | None = None
        self.flushes = 0
        self.lost = 0

    def start(self) -> None:
        """Flush from now on; without totals (a memory store) there is nothing to do."""
        if self.totals is not None and self.task is None:
            self.task = asyncio.create_task(self.keep_flushing())

    async def stop(self) -> None:
        """Flush once more, if the store is there, and end."""
        if self.task is None:
            return
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        self.task = None
        await self.flush()

    async def keep_flushing(self) -> None:
        """Flush at every interval."""
        while True:
            await self.clock.sleep(self.every_s)
            await self.flush()

    async def flush(self) -> None:
        """Hand over what is new; never fails."""
        if self.totals is None or not self.is_up():
            return
        new = {name: counts.since_flush(MAX_TOP) for name, counts in self.statistics.items()}
        for counts in self.statistics.values():
            counts.mark_flushed()
        try:
            await self.totals.add(new)
        except StoreFault:
            self.lost += 1
        else:
            self.flushes += 1

    async def read(self, top: int = MAX_TOP) -> tuple[Mapping[str, LimitCounts], bool]:
        """
        Return the counts of every limit with its *top* busiest keys, and whether they are the fleet's.

        Without an answer from the store they are what this process has counted since its start.
        """
        here = {name: counts.since_flush(top) for name, counts in self.statistics.items()}
        if self.totals is None or not self.is_up():
            return {name: self.whole(name, counts) for name, counts in here.items()}, False
        try:
            fleet = await self.totals.read(list(here))
        except StoreFault:
            return {name: self.whole(name, counts) for name, counts in here.items()}, False
        return {name: merged(fleet[name], counts, top) for name, counts in here.items()}, True

    def whole(self, name: str, counts: LimitCounts) -> LimitCounts:
        """Return what this process has counted since its start, with the busiest keys of late."""
        own = self.statistics[name]
        return LimitCounts(
            allowed=own.allowed, denied=own.denied, shadow_denied=own.shadow_denied, top=counts.top
        )
