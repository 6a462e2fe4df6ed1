"""Counts on their way from one process to the fleet."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from silence_gateway.errors import StoreUnavailable
from silence_gateway.limiting.fleet_counts import FleetCounts
from silence_gateway.limiting.statistics import LimitStatistics, merged
from silence_gateway.stores.limit_contract import LimitCounts
from silence_gateway.testing.clock import FakeClock


class Totals:
    """Fleet totals in a dict, that a test may break."""

    def __init__(self) -> None:
        self.counts: dict[str, LimitCounts] = {}
        self.broken = False

    async def add(self, counts: Mapping[str, LimitCounts]) -> None:
        if self.broken:
            raise StoreUnavailable("late")
        for name, new in counts.items():
            self.counts[name] = merged(self.counts.get(name, LimitCounts()), new, 9)

    async def read(self, names: Sequence[str]) -> Mapping[str, LimitCounts]:
        if self.broken:
            raise StoreUnavailable("late")
        return {name: self.counts.get(name, LimitCounts()) for name in names}

    async def sweep(self, unseen_s: float, at_most: int) -> Sequence[str]:
        raise NotImplementedError


def test_counts_reach_the_fleet_at_every_interval_and_once_more_at_the_end() -> None:
    async def scenario() -> None:
        clock, totals, own = FakeClock(), Totals(), LimitStatistics()
        counts = FleetCounts({"a": own}, totals, clock, lambda: True, every_s=5)
        counts.start()
        own.allowed = 3
        own.hit("k")
        await clock.advance(5)
        assert totals.counts["a"] == LimitCounts(allowed=3, top={"k": 1})
        own.denied = 1
        await counts.stop()

        assert totals.counts["a"] == LimitCounts(allowed=3, denied=1, top={"k": 1})
        assert (counts.flushes, counts.lost) == (2, 0)

    asyncio.run(scenario())


def test_what_the_fleet_has_and_what_is_not_flushed_yet_are_read_together() -> None:
    async def scenario() -> None:
        totals, own = Totals(), LimitStatistics()
        totals.counts["a"] = LimitCounts(allowed=100, top={"k": 7})
        counts = FleetCounts({"a": own}, totals, FakeClock(), lambda: True)
        own.allowed = 2
        own.hit("k")

        assert await counts.read() == ({"a": LimitCounts(allowed=102, top={"k": 8})}, True)

    asyncio.run(scenario())


def test_while_the_store_is_away_counts_gather_and_reads_are_local() -> None:
    async def scenario() -> None:
        totals, own = Totals(), LimitStatistics()
        up = True
        counts = FleetCounts({"a": own}, totals, FakeClock(), lambda: up)
        own.allowed = 1
        await counts.flush()
        up = False
        own.allowed = 5
        await counts.flush()
        assert await counts.read() == ({"a": LimitCounts(allowed=5)}, False)
        up = True
        await counts.flush()

        assert totals.counts["a"].allowed == 5

    asyncio.run(scenario())


def test_a_flush_that_was_not_confirmed_is_not_sent_twice() -> None:
    async def scenario() -> None:
        totals, own = Totals(), LimitStatistics()
        counts = FleetCounts({"a": own}, totals, FakeClock(), lambda: True)
        own.allowed = 4
        totals.broken = True
        await counts.flush()
        assert await counts.read() == ({"a": LimitCounts(allowed=4)}, False)
        totals.broken = False
        own.allowed = 6
        await counts.flush()

        assert totals.counts["a"].allowed == 2
        assert counts.lost == 1

    asyncio.run(scenario())


def test_without_totals_there_is_only_this_process() -> None:
    async def scenario() -> None:
        own = LimitStatistics()
        own.denied = 3
        counts = FleetCounts({"a": own}, None, FakeClock(), lambda: True)
        counts.start()

        assert counts.task is None
        assert await counts.read() == ({"a": LimitCounts(denied=3)}, False)
        await counts.stop()

    asyncio.run(scenario())
