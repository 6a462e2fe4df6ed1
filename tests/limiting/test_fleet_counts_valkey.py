"""Statistics of two instances on one real Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from silence_gateway.clock import SystemClock
from silence_gateway.limiting.fleet_counts import CHANNEL, FleetCounts
from silence_gateway.limiting.statistics import PAGE_KEYS, LimitStatistics
from silence_gateway.stores.limit_stats_contract import SLOT_S, By, LimitCounts, LimitUse, Tops
from silence_gateway.stores.limit_stats_valkey import ValkeyLimitStats
from silence_gateway.stores.valkey import ValkeyStore
from silence_gateway.testing.fault_proxy import FaultProxy
from silence_gateway.testing.valkey import fresh_fleet, valkey_server

pytestmark = pytest.mark.valkey

BY: tuple[By, ...] = ("requests", "refused")
ALL_TOPS: Tops = {(window, by): 10 for window in SLOT_S for by in BY}


class Instance:
    """One process's limits `a` and `b`, and its way to the store."""

    def __init__(self, url: str, fleet: str) -> None:
        self.store = ValkeyStore(url, fleet)
        self.own = {name: LimitStatistics() for name in "ab"}
        # Flushes only when it is told to.
        self.counts = FleetCounts(
            self.own,
            ValkeyLimitStats(self.store.general, fleet),
            SystemClock(),
            lambda: self.store.up,
            bus=self.store.bus,
            every_s=3600,
        )

    def count(self, name: str, *keys: str, refused: bool = False) -> None:
        own = self.own[name]
        for key in keys:
            if refused:
                own.denied += 1
                own.refuse(key)
            else:
                own.allowed += 1
                own.hit(key)

    async def use(self, name: str = "a") -> LimitUse:
        uses, of_fleet = await self.counts.read(ALL_TOPS)
        assert of_fleet
        return uses[name]


@asynccontextmanager
async def instance(url: str, fleet: str) -> AsyncIterator[Instance]:
    made = Instance(url, fleet)
    await made.store.start()
    made.counts.start()
    await made.store.bus.ready(CHANNEL)
    try:
        yield made
    finally:
        await made.counts.stop()
        await made.store.stop()


async def until_up(of: Instance) -> None:
    """Wait, a little at a time, until the store is taken for up again."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(10):
        while not of.store.up:
            pause = asyncio.Event()
            loop.call_later(0.01, pause.set)
            await pause.wait()


def test_two_instances_agree_about_everything() -> None:
    async def scenario(url: str) -> None:
        fleet = fresh_fleet()
        async with instance(url, fleet) as one, instance(url, fleet) as other:
            one.count("a", "x", "x", "y")
            other.count("a", "y", "y", "y", "z")
            other.count("a", "z", refused=True)
            await one.counts.flush()
            await other.counts.flush()
            said, also = await one.use(), await other.use()

        assert said == also
        assert said.counts == LimitCounts(7, 1)
        for window in said.windows.values():
            assert window.counts == said.counts
            assert window.unique_clients == 3
            assert list(window.requests.items()) == [("y", 4), ("z", 2), ("x", 2)]
            assert window.refused == {"z": 1}
        assert one.counts.lost == other.counts.lost == 0

    with valkey_server() as server:
        asyncio.run(scenario(server.url))


def test_a_reset_reaches_what_the_other_has_not_flushed_and_no_other_limit() -> None:
    async def scenario(url: str) -> None:
        fleet = fresh_fleet()
        async with instance(url, fleet) as one, instance(url, fleet) as other:
            for each in (one, other):
                each.count("a", "k")
                each.count("b", "k")
                await each.counts.flush()
                each.count("a", "unflushed")
            heard = asyncio.Event()
            watching = other.store.bus.subscribe(CHANNEL, lambda _payload: heard.set())
            await one.counts.reset(["a"])
            await heard.wait()
            watching.close()
            other.count("a", "new")
            assert (await other.use()).windows["1h"].requests == {"new": 1}
            use = await one.use()

            assert use.counts == LimitCounts(1)
            assert use.windows["1m"].unique_clients == 1
            assert (await one.use("b")).counts == LimitCounts(2)
            assert one.own["a"].allowed == 2  # what metrics show goes on

    with valkey_server() as server:
        asyncio.run(scenario(server.url))


@pytest.mark.parametrize("fault", ["stall_to_client", "stall_to_server"])
def test_a_lost_answer_costs_at_most_its_flush_and_counts_nothing_twice(fault: str) -> None:
    """The server gets the flush, and its answer is held back; or it does not get it."""

    async def scenario(proxy: FaultProxy, url: str) -> None:
        fleet = fresh_fleet()
        confirmed = unknown = 0
        async with instance(proxy.url, fleet) as cut_off, instance(url, fleet) as other:
            for round_ in range(3):
                cut_off.count("a", "k", "k", "k")
                setattr(proxy, fault, round_ == 1)
                lost_before = cut_off.counts.lost
                await cut_off.counts.flush()
                if cut_off.counts.lost > lost_before:
                    unknown += 3
                else:
                    confirmed += 3
                proxy.heal()
                await until_up(cut_off)
            counted = (await other.use()).counts.allowed

            assert unknown >= 3
            assert confirmed <= counted <= confirmed + unknown == cut_off.own["a"].allowed

    with valkey_server() as server, FaultProxy(server.socket) as proxy:
        asyncio.run(scenario(proxy, server.url))


def test_a_flood_of_new_keys_is_counted_by_the_fleet_within_its_error() -> None:
    async def scenario(url: str) -> None:
        fleet = fresh_fleet()
        async with instance(url, fleet) as one, instance(url, fleet) as other:
            for part in range(10):
                for each, begin in ((one, 0), (other, 5)):
                    first = (begin + part) * PAGE_KEYS
                    each.count("a", *(f"k{number}" for number in range(first, first + PAGE_KEYS)))
                    each.count("a", *["busy"] * 60)
                    await each.counts.flush()
            window = (await one.use()).windows["1h"]

        assert window.unique_clients == pytest.approx(15 * PAGE_KEYS + 1, rel=0.03)
        assert next(iter(window.requests.items())) == ("busy", 1200)
        assert one.own["a"].missed == other.own["a"].missed == 0

    with valkey_server() as server:
        asyncio.run(scenario(server.url))
