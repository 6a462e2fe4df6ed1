"""A real store goes away and comes back, with what it knew or without: the later word counts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

import pytest

from silence_gateway.clock import SystemClock
from silence_gateway.core.breaker import State
from silence_gateway.stores import board
from silence_gateway.stores.valkey import ValkeyStore
from silence_gateway.testing.fault_proxy import FaultProxy
from silence_gateway.testing.scripted_endpoints import ScriptedEndpoints
from silence_gateway.testing.valkey import ValkeyServer, fresh_fleet
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.settings import EndpointSettings, UpstreamSettings

pytestmark = pytest.mark.valkey

A, B = "10.0.0.1:1", "10.0.0.2:1"
COUNT = 3
POLL_S = 0.4
HELD, LET_GO = ("held_open", False), ("closed", True)
"""A's breaker, and whether it is active."""

Known = tuple[str, bool]


@pytest.fixture(autouse=True)
def _hasty_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let boards look often, so that nobody has to watch them for long."""
    monkeypatch.setattr(board, "POLL_S", POLL_S)


class Fleet:
    """Instances that share a real store; what is lost and what is kept is up to the test."""

    def __init__(self, server: ValkeyServer) -> None:
        self.server = server
        self.name = fresh_fleet()
        self.stores: list[ValkeyStore] = []
        self.pools: list[GrpcUpstream] = []

    async def join(self, url: str = "") -> None:
        store = ValkeyStore(url or self.server.url, self.name)
        pool = GrpcUpstream(
            UpstreamSettings(
                name="shop", endpoints=tuple(EndpointSettings(address=name) for name in (A, B)), health=None
            ),
            connector=ScriptedEndpoints(SystemClock()).connect,
            board=store.board,
        )
        self.stores.append(store)
        self.pools.append(pool)
        await store.start()
        await pool.start()

    async def stop(self, number: int) -> None:
        await self.pools.pop(number).stop(drain_s=0)
        await self.stores.pop(number).stop()

    async def take_out(self, number: int) -> bool:
        """Hold A open and drain it, at one instance."""
        pool = self.pools[number]
        told = await pool.hold_breaker(A, State.HELD_OPEN, "moving house", 3600)
        return await pool.drain_everywhere(A) and told

    async def take_back(self, number: int) -> bool:
        """Let go of A's breaker and activate it, at one instance."""
        pool = self.pools[number]
        told = await pool.hold_breaker(A, State.CLOSED, "", 3600)
        return await pool.drain_everywhere(A, drained=False) and told

    def known(self) -> list[Known]:
        """What each instance knows of A."""
        return [
            (pool.statistics.endpoints[0].breaker, pool.statistics.endpoints[0].active) for pool in self.pools
        ]

    async def agree(self, on: Known) -> float:
        """Wait until all know the same; returns how long that took, in seconds."""
        began_s = time.monotonic()
        async with asyncio.timeout(15):
            while self.known() != [on] * len(self.pools):  # noqa: ASYNC110 - pools tell their state only
                await asyncio.sleep(0.005)
        return time.monotonic() - began_s

    async def stay(self, on: Known) -> None:
        """Watch for some polls of the board whether all go on knowing the same, those that come now too."""
        await self.join()
        await self.agree(on)
        until_s = time.monotonic() + 4 * POLL_S
        while time.monotonic() < until_s:
            assert self.known() == [on] * len(self.pools)
            await asyncio.sleep(0.02)


@asynccontextmanager
async def fleet_on(server: ValkeyServer) -> AsyncIterator[Fleet]:
    fleet = Fleet(server)
    for _ in range(COUNT):
        await fleet.join()
    async with asyncio.timeout(10):
        while not all(store.up for store in fleet.stores):  # noqa: ASYNC110 - stores tell their state only
            await asyncio.sleep(0.01)
    try:
        yield fleet
    finally:
        while fleet.pools:
            await fleet.stop(0)


def run(scenario: Callable[[ValkeyServer], Coroutine[None, None, None]]) -> None:
    with ValkeyServer() as server:
        asyncio.run(asyncio.wait_for(scenario(server), 60))


def test_words_reach_the_fleet_at_once() -> None:
    async def scenario(server: ValkeyServer) -> None:
        async with fleet_on(server) as fleet:
            assert await fleet.take_out(0)
            assert await fleet.agree(HELD) < 1
            assert await fleet.take_back(1)
            assert await fleet.agree(LET_GO) < 1

    run(scenario)


@pytest.mark.parametrize("empty", [False, True], ids=["with-its-data", "empty"])
@pytest.mark.parametrize("who", [0, 1], ids=["by-who-said-it", "by-another"])
def test_what_is_taken_back_while_the_store_is_away_stays_taken_back(empty: bool, who: int) -> None:
    async def scenario(server: ValkeyServer) -> None:
        async with fleet_on(server) as fleet:
            assert await fleet.take_out(0)
            await fleet.agree(HELD)
            if empty:
                server.kill()
            else:
                server.pause()
            assert not await fleet.take_back(who)
            assert fleet.known()[who] == LET_GO
            # The others know the old word, and give it back to a store that has lost it.
            assert fleet.known()[2] == HELD
            if empty:
                server.start()
            else:
                server.resume()

            await fleet.agree(LET_GO)
            await fleet.stay(LET_GO)

    run(scenario)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["older-first", "newer-first"])
def test_of_two_operators_during_an_outage_the_later_one_is_minded(order: tuple[int, int]) -> None:
    async def scenario(server: ValkeyServer) -> None:
        async with fleet_on(server) as fleet:
            server.kill()
            older, newer = order
            assert not await fleet.take_out(older)
            await asyncio.sleep(0.01)
            assert not await fleet.take_back(newer)
            server.start()

            await fleet.agree(LET_GO)
            await fleet.stay(LET_GO)

    run(scenario)


def test_an_instance_that_was_cut_off_comes_back_with_an_older_word_that_counts_no_more() -> None:
    async def scenario(server: ValkeyServer) -> None:
        with FaultProxy(server.socket) as proxy:
            async with fleet_on(server) as fleet:
                await fleet.join(proxy.url)
                assert await fleet.take_out(0)
                await fleet.agree(HELD)
                assert await fleet.take_back(0)
                await fleet.agree(LET_GO)
                proxy.refuse()
                assert not await fleet.take_out(COUNT)
                assert await fleet.take_out(1)
                assert await fleet.take_back(2)
                # Who said the later words is gone: the store alone knows them.
                for _ in range(COUNT):
                    await fleet.stop(0)
                assert fleet.known() == [HELD]
                proxy.heal()

                await fleet.agree(LET_GO)
                await fleet.stay(LET_GO)

    run(scenario)


def test_who_was_told_and_leaves_leaves_the_word_to_those_who_heard_it() -> None:
    async def scenario(server: ValkeyServer) -> None:
        async with fleet_on(server) as fleet:
            assert await fleet.take_out(0)
            await fleet.agree(HELD)
            assert await fleet.take_back(1)
            await fleet.agree(LET_GO)
            await fleet.stop(1)
            server.call("FLUSHALL")

            await fleet.stay(LET_GO)
            keys = [str(key) for key in server.call("KEYS", "*operators*")]
            assert len(keys) == 1
            assert server.call("PTTL", server.call("KEYS", "*operators*")[0]) > 0

    run(scenario)
