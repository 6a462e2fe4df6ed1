"""The limiter as a library, on a real Valkey that comes and goes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from silence_gateway.core.limits import Decision
from silence_gateway.errors import RateLimited
from silence_gateway.limiting.limit import Limit
from silence_gateway.limiting.rate_limiter import RateLimiter
from silence_gateway.stores.settings import StoreSettings
from silence_gateway.stores.valkey import ValkeyStore
from silence_gateway.testing.valkey import fresh_fleet, valkey_server

pytestmark = pytest.mark.valkey

DEADLINE_S = 10.0


async def until(wanted: Callable[[], bool], limit: Limit) -> None:
    """Keep deciding, as a program under load does, until *wanted* holds."""
    loop = asyncio.get_running_loop()
    end_s = time.monotonic() + DEADLINE_S
    while not wanted():
        assert time.monotonic() < end_s, "it did not happen in time"
        await limit.peek("load")
        # A local decision never waits, so the event loop has to be let in.
        pause = asyncio.Event()
        loop.call_later(0.002, pause.set)
        await pause.wait()


async def passes(limit: Limit, key: str, tries: int) -> int:
    decisions: list[Decision] = await asyncio.gather(*(limit.try_acquire(key) for _ in range(tries)))
    return sum(decision.allowed for decision in decisions)


def test_what_the_store_counts_is_not_decided_at_once() -> None:
    async def scenario(url: str) -> None:
        async with RateLimiter(url, fleet=fresh_fleet()) as limiter:
            limit = limiter.limit("shared", "10/hour")

            assert limit.try_acquire_now("k") is None
            assert (await limit.try_acquire("k")).remaining == 9

    with valkey_server() as server:
        asyncio.run(scenario(server.url))


def test_two_programs_share_their_limits() -> None:
    async def scenario(url: str) -> None:
        fleet = fresh_fleet()
        async with RateLimiter(url, fleet=fleet) as one, RateLimiter(url, fleet=fleet) as other:
            limits = [limiter.limit("shared", "10/hour") for limiter in (one, other)]
            shares = await asyncio.gather(*(passes(limit, "k", 20) for limit in limits))

            assert sum(shares) == 10
            assert (await limits[0].peek("k")).remaining == 0
            assert await limits[1].reset("k")
            assert (await limits[0].peek("k")).remaining == 10

    with valkey_server() as server:
        asyncio.run(scenario(server.url))


@pytest.mark.parametrize(
    "values",
    [
        {"algorithm": "sliding_counter"},
        {"algorithm": "token_bucket"},
        {"algorithm": "fixed_window"},
        {"algorithm": "fixed_window", "align": "first_hit"},
        {"block_for_s": 60},
        {"lease": 3},
    ],
    ids=str,
)
def test_two_programs_share_every_kind_of_limit(values: dict[str, Any]) -> None:
    async def scenario(url: str) -> None:
        settings = StoreSettings(url=url, deadline_s=5.0)
        fleet = fresh_fleet()
        stores = [ValkeyStore(settings, fleet) for _ in range(2)]
        for store in stores:
            await store.start()
        async with RateLimiter(stores[0], fleet=fleet) as one, RateLimiter(stores[1], fleet=fleet) as other:
            limits = [limiter.limit("shared", "10/hour", **values) for limiter in (one, other)]
            shares = await asyncio.gather(*(passes(limit, "k", 20) for limit in limits))
            # What one of them holds in a lease passes when it is spent, or given back and asked for again.
            async with asyncio.timeout(10):
                while sum(shares) < 10:
                    shares += [await passes(limit, "k", 1) for limit in limits]
                    await asyncio.sleep(0.01)

            assert sum(shares) == 10
            spent = await limits[0].try_acquire("j", 4)
            await limits[1].charge("j", 3, spent)
            await limits[1].give_back("j", 6, spent)
            # A bucket has earned a little back meanwhile, which is not given back once more.
            assert (await limits[0].peek("j")).remaining in (8, 9)
        for store in stores:
            await store.stop()

    with valkey_server() as server:
        asyncio.run(scenario(server.url))


def test_two_programs_share_places_and_each_gives_back_its_own() -> None:
    """Also where both use one and the same store."""

    async def scenario(url: str) -> None:
        fleet = fresh_fleet()
        store = ValkeyStore(StoreSettings(url=url, deadline_s=5.0), fleet)
        await store.start()
        limiters = [
            RateLimiter(store, fleet=fleet),
            RateLimiter(store, fleet=fleet),
            RateLimiter(url, fleet=fleet),
        ]
        async with limiters[0], limiters[1], limiters[2]:
            places = [limiter.concurrency("places", 2) for limiter in limiters]
            async with places[0].hold("k"):
                async with places[1].hold("k"):
                    assert (await places[0].peek("k")).remaining == 0
                    with pytest.raises(RateLimited):
                        await places[0].hold("k").__aenter__()
                waiting = places[1].hold("k", wait=True, timeout_s=5)
                async with waiting:
                    assert (await places[0].peek("k")).remaining == 0
            async with places[2].hold("k", wait=True, timeout_s=5) as last:
                assert last.allowed
        await store.stop()

    with valkey_server() as server:
        asyncio.run(scenario(server.url))


def test_no_decision_fails_while_the_server_is_gone_and_sharing_goes_on_when_it_is_back() -> None:
    with valkey_server() as server:

        async def scenario() -> None:
            async with RateLimiter(server.url, fleet=fresh_fleet()) as limiter:
                limit = limiter.limit("l", "10/hour")
                assert await passes(limit, "before", 20) == 10
                assert limiter.engine.falling_back.local_decisions == 0

                server.kill()
                await until(lambda: not limiter.store.up, limit)
                assert await passes(limit, "during", 20) == 10
                started_s = time.perf_counter()
                await passes(limit, "speed", 200)
                # Asking it would take 200 times the deadline.
                assert time.perf_counter() - started_s < 1, "a store known to be away adds no latency"

                server.start()
                await until(lambda: limiter.store.up, limit)
                local = limiter.engine.falling_back.local_decisions
                assert await passes(limit, "after", 20) == 10
                assert limiter.engine.falling_back.local_decisions == local

        asyncio.run(scenario())


def test_a_server_that_hangs_costs_a_deadline_and_no_failure() -> None:
    with valkey_server() as server:

        async def scenario() -> None:
            async with RateLimiter(server.url, fleet=fresh_fleet()) as limiter:
                limit = limiter.limit("l", "10/hour")
                await limit.acquire("k")
                server.pause()
                try:
                    assert await passes(limit, "hung", 20) == 10
                    await until(lambda: not limiter.store.up, limit)
                finally:
                    server.resume()
                await until(lambda: limiter.store.up, limit)

        asyncio.run(scenario())


def test_a_server_that_is_not_there_yet_is_no_reason_to_fail() -> None:
    async def scenario() -> None:
        async with RateLimiter("valkey+unix:///nonexistent/socket", fleet=fresh_fleet()) as limiter:
            assert await passes(limiter.limit("l", "10/hour"), "k", 20) == 10

    asyncio.run(scenario())


def test_it_can_bring_its_own_server() -> None:
    async def scenario() -> None:
        async with RateLimiter("embedded://") as limiter:
            assert await passes(limiter.limit("l", "10/hour"), "k", 20) == 10
            assert limiter.engine.falling_back.local_decisions == 0

    asyncio.run(scenario())


def test_a_store_of_ones_own_is_neither_started_nor_stopped() -> None:
    async def scenario(url: str) -> None:
        store = ValkeyStore(url, fresh_fleet())
        await store.start()
        async with RateLimiter(store) as limiter:
            assert await passes(limiter.limit("l", "10/hour"), "k", 20) == 10
        assert store.up
        await store.stop()

    with valkey_server() as server:
        asyncio.run(scenario(server.url))


def test_a_limiter_that_is_started_again_asks_its_store_again() -> None:
    async def scenario(url: str) -> None:
        limiter = RateLimiter(url, fleet=fresh_fleet())
        limit = limiter.limit("again", "3/hour")
        settled = limiter.limit("settled", "3/hour")
        limiter.engine.decider.forgets(settled.rule)
        for left in (2, 1, 0):
            async with limiter:
                assert (await limit.acquire("k")).remaining == left
                assert limiter.engine.falling_back.local_decisions == 0
        assert limiter.engine.decider.undoable == {"settled"}

    with valkey_server() as server:
        asyncio.run(scenario(server.url))
