"""The limiter as a library, on a real Valkey that comes and goes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from silence_gateway.core.limits import Decision
from silence_gateway.limiting.limit import Limit
from silence_gateway.limiting.rate_limiter import RateLimiter
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
                assert time.perf_counter() - started_s < 0.1, "a store known to be away adds no latency"

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
