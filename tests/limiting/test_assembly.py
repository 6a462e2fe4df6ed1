"""The parts of the limiting engine, joined: in one process, and on a real Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from silence_gateway.clock import SystemClock
from silence_gateway.core.limits import Algorithm, Ask, Change, Decision, LimitRule, Op
from silence_gateway.core.rates import parse_rate
from silence_gateway.limiting.assembly import LimitEngine, limit_engine
from silence_gateway.stores.memory import MemoryHub, MemoryStore
from silence_gateway.stores.settings import StoreSettings
from silence_gateway.stores.valkey import ValkeyStore
from silence_gateway.testing.clock import FakeClock
from silence_gateway.testing.valkey import fresh_fleet, valkey_server

HOURLY = LimitRule(name="l", algorithm=Algorithm.SLIDING_WINDOW, rate=parse_rate("5/hour"))
LEASED = LimitRule(name="h", algorithm=Algorithm.SLIDING_WINDOW, rate=parse_rate("40/hour"), lease=20)
PLACES = LimitRule(name="c", algorithm=Algorithm.CONCURRENCY, max=1)


async def ask(engine: LimitEngine, rule: LimitRule, cost: int = 1, holder: str = "") -> Decision:
    asks = [Ask(rule, "k", cost, holder)]
    decisions = engine.decider.at_once(asks)
    return (await engine.decider.decide(asks) if decisions is None else decisions)[0]


def test_a_process_of_its_own_has_no_leases_and_remembers_nobody() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        engine = limit_engine(MemoryStore(MemoryHub(clock)), "f", clock)
        engine.start()
        for _ in range(5):
            assert (await ask(engine, LEASED, 8)).allowed
        assert not (await ask(engine, LEASED)).allowed

        assert engine.leasing is None
        assert engine.decider.denials.by_place == {}
        assert engine.decider.denials.bus is None
        await engine.stop()

    asyncio.run(scenario())


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with valkey_server() as server:
        yield server.url


@asynccontextmanager
async def fleet_of_two(url: str) -> AsyncIterator[list[LimitEngine]]:
    fleet, clock = fresh_fleet(), SystemClock()
    stores = [ValkeyStore(StoreSettings(url=url, deadline_s=5.0), fleet) for _ in range(2)]
    engines = [limit_engine(store, fleet, clock) for store in stores]
    for store, engine in zip(stores, engines, strict=True):
        await store.start()
        engine.start()
        await store.bus.ready("limits/forget")
    yield engines
    for engine in engines:
        await engine.stop()
    for store in stores:
        await store.stop()


async def until_allowed(engine: LimitEngine, rule: LimitRule, cost: int = 1) -> Decision:
    """Ask until it is allowed: news travel as fast as the loop and the server let them."""
    async with asyncio.timeout(10):
        while not (decision := await ask(engine, rule, cost)).allowed:  # noqa: ASYNC110 - another instance acts
            await asyncio.sleep(0.002)
    return decision


@pytest.mark.valkey
@pytest.mark.parametrize("how", ["give back", "reset", "override"])
def test_what_one_instance_gives_back_the_other_refuses_no_longer(url: str, how: str) -> None:
    async def scenario() -> None:
        async with fleet_of_two(url) as (one, other):
            spent = await ask(one, HOURLY, 5)
            assert not (await ask(other, HOURLY)).allowed
            assert not (await ask(other, HOURLY)).allowed
            assert other.decider.denials.answered == 1
            if how == "give back":
                await one.decider.undo([Change(Op.GIVE_BACK, HOURLY, "k", 1, spent.at_us)])
            elif how == "reset":
                assert await one.decider.reset(HOURLY, "k")
            else:
                await one.overrides.put(HOURLY, "k", "k", {"rate": "6/hour"}, "test")

            assert (await until_allowed(other, HOURLY)).remaining == (4 if how == "reset" else 0)

    asyncio.run(scenario())


@pytest.mark.valkey
def test_what_a_lease_gives_back_the_other_instance_may_have(url: str) -> None:
    async def scenario() -> None:
        async with fleet_of_two(url) as (one, other):
            assert one.leasing is not None
            spent = 0
            while not one.leasing.leases or not one.leasing.leases[LEASED.counter, "k"].held:
                assert (await ask(one, LEASED)).allowed
                spent += 1
            held = one.leasing.leases[LEASED.counter, "k"].held
            while (await ask(other, LEASED)).allowed:
                spent += 1
            assert other.decider.denials.by_place
            for _ in range(held):
                await until_allowed(other, LEASED)

            assert spent + held == 40
            assert one.leasing.returned == held

    asyncio.run(scenario())


@pytest.mark.valkey
def test_stopping_leaves_nothing_held(url: str) -> None:
    async def scenario() -> None:
        async with fleet_of_two(url) as (one, other):
            assert one.leasing is not None
            while not one.leasing.leases or not one.leasing.leases[LEASED.counter, "k"].held:
                await ask(one, LEASED)
            spent = one.leasing.leased + 1
            assert (await ask(one, PLACES, 1, "a")).allowed
            one.holds.hold("a", [Ask(PLACES, "k", 1, "a")])
            assert not (await ask(other, PLACES, 1, "b")).allowed
            await one.stop()

            assert (await ask(other, PLACES, 1, "b")).allowed
            assert (await ask(other, LEASED, 0)).remaining == 40 - spent

    asyncio.run(scenario())
