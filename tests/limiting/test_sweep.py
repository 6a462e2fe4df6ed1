"""The elected sweep."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from silence_gateway.errors import StoreUnavailable
from silence_gateway.events import Event
from silence_gateway.limiting.sweep import AT_MOST, UNSEEN_S, LimitSweep
from silence_gateway.stores.limit_stats_contract import LimitUse, NewUse, Tops
from silence_gateway.stores.memory import MemoryHub, MemoryStore
from silence_gateway.testing.clock import FakeClock


class Stats:
    """Statistics of which only the sweep is asked."""

    def __init__(self) -> None:
        self.sweeps: list[tuple[float, int]] = []
        self.gone: list[str] = []
        self.broken = False

    async def add(self, name: str, new: NewUse, generation: int) -> int:
        raise NotImplementedError

    async def read(self, name: str, top: Tops) -> LimitUse:
        raise NotImplementedError

    async def reset(self, name: str) -> int:
        raise NotImplementedError

    async def show(self, names: Sequence[str]) -> None:
        raise NotImplementedError

    async def sweep(self, unseen_s: float, at_most: int) -> Sequence[str]:
        if self.broken:
            raise StoreUnavailable("late")
        self.sweeps.append((unseen_s, at_most))
        gone, self.gone = self.gone, []
        return gone


def test_one_instance_sweeps_and_another_takes_over_when_it_is_gone() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        hub = MemoryHub(clock)
        stats = Stats()
        stores = [MemoryStore(hub) for _ in range(2)]
        sweeps = [LimitSweep(store, stats, clock, every_s=60) for store in stores]
        for one in sweeps:
            one.start()
        await clock.advance(600)
        assert sorted(one.runs for one in sweeps) == [0, 10]
        assert stats.sweeps[0] == (UNSEEN_S, AT_MOST)

        leader, other = sorted(sweeps, key=lambda one: -one.runs)
        await leader.stop()
        await clock.advance(300)

        assert other.runs >= 3
        await other.stop()

    asyncio.run(scenario())


def test_what_was_forgotten_is_counted_and_told() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        stats = Stats()
        stats.gone = ["old"]
        seen: list[Event] = []
        sweep = LimitSweep(MemoryStore(MemoryHub(clock)), stats, clock, observer=seen.append)
        await sweep.sweep_once()
        await sweep.sweep_once()

        assert (sweep.runs, sweep.forgotten, len(seen)) == (2, 1, 1)
        assert "old" in str(seen[0])

    asyncio.run(scenario())


def test_a_store_that_is_away_or_fails_is_left_for_the_next_time() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        hub = MemoryHub(clock)
        stats = Stats()
        sweep = LimitSweep(MemoryStore(hub), stats, clock)
        hub.go_away()
        await sweep.sweep_once()
        hub.come_back()
        stats.broken = True
        await sweep.sweep_once()
        assert sweep.runs == 0

        stats.broken = False
        await sweep.sweep_once()

        assert sweep.runs == 1

    asyncio.run(scenario())
