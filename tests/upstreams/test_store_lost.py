"""The store is flushed, dies, or the checker does: what is known stays, and there is one checker again."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

import pytest
from tests.upstreams.replicas import CHECKS, Replica, starting_replicas

from silence_gateway.clock import SystemClock
from silence_gateway.core.breaker import State
from silence_gateway.stores.valkey import ValkeyStore
from silence_gateway.testing.scripted_endpoints import NOT_SERVING, SERVING, ScriptedEndpoints
from silence_gateway.testing.valkey import ValkeyServer, fresh_fleet
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.settings import EndpointSettings, HealthSettings, UpstreamSettings

pytestmark = pytest.mark.valkey

A, B, C = "10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"
COUNT = 4
INTERVAL_S, TIMEOUT_S = 0.4, 0.2
LEASE_S = 2 * INTERVAL_S + TIMEOUT_S
HEALTH = HealthSettings(interval_s=INTERVAL_S, timeout_s=TIMEOUT_S, unhealthy_after=2)
SETTINGS = UpstreamSettings(
    name="shop", endpoints=tuple(EndpointSettings(address=name) for name in (A, B, C)), health=HEALTH
)
SLACK_S = 0.3
"""What a busy machine may add to any wait."""

Known = list[tuple[str, str, str]]


class Fleet:
    """Instances that share a real store; B says that it does not serve, and an operator holds C open."""

    def __init__(self, server: ValkeyServer) -> None:
        self.server = server
        self.fleet = fresh_fleet()
        self.worlds: list[ScriptedEndpoints] = []
        self.stores: list[ValkeyStore] = []
        self.pools: list[GrpcUpstream] = []

    async def join(self) -> None:
        world, store = ScriptedEndpoints(SystemClock()), ValkeyStore(self.server.url, self.fleet)
        world[B].health.follow(NOT_SERVING)
        pool = GrpcUpstream(SETTINGS, connector=world.connect, board=store.board)
        self.worlds.append(world)
        self.stores.append(store)
        self.pools.append(pool)
        await store.start()
        await pool.start()

    def known(self) -> list[Known]:
        """What each instance knows."""
        return [
            [(one.address, one.health, one.breaker) for one in pool.statistics.endpoints]
            for pool in self.pools
        ]

    def checks(self, name: str = A) -> list[int]:
        return [len(world[name].health.calls) for world in self.worlds]

    async def checkers(self, intervals: int = 4) -> list[int]:
        """Watch for some intervals, and return who checked A in them."""
        before = self.checks()
        await asyncio.sleep(intervals * INTERVAL_S)
        return [index for index, now in enumerate(self.checks()) if now > before[index]]


KNOWN: Known = [(A, "healthy", "closed"), (B, "unhealthy", "closed"), (C, "healthy", "held_open")]


@asynccontextmanager
async def fleet_on(server: ValkeyServer) -> AsyncIterator[Fleet]:
    fleet = Fleet(server)
    for _ in range(COUNT):
        await fleet.join()
    await fleet.pools[0].hold_breaker(C, State.HELD_OPEN, "moving house", 3600)
    try:
        await until(lambda: fleet.known() == [KNOWN] * COUNT)
        yield fleet
    finally:
        for pool in fleet.pools:
            await pool.stop(drain_s=0)
        for store in fleet.stores:
            await store.stop()


async def until(is_so: Callable[[], bool], limit_s: float = 10) -> float:
    began_s = time.monotonic()
    async with asyncio.timeout(limit_s):
        while not is_so():  # noqa: ASYNC110 - pools tell their state, not their moves
            await asyncio.sleep(0.005)
    return time.monotonic() - began_s


def run(scenario: Callable[[ValkeyServer], Coroutine[None, None, None]]) -> None:
    with ValkeyServer() as server:
        asyncio.run(asyncio.wait_for(scenario(server), 40))


def test_a_store_that_is_flushed_changes_nothing_that_is_known_and_has_one_checker_again() -> None:
    async def scenario(server: ValkeyServer) -> None:
        async with fleet_on(server) as fleet:
            server.call("FLUSHALL")
            until_s = time.monotonic() + 2 * LEASE_S
            while time.monotonic() < until_s:
                assert fleet.known() == [KNOWN] * COUNT
                await asyncio.sleep(0.02)

            assert len(await fleet.checkers()) == 1
            # What an operator said is given back to the store, for those that come later.
            await fleet.join()
            await until(lambda: fleet.known()[-1][2][2] == "held_open")

    run(scenario)


def test_without_the_store_everybody_checks_and_with_it_there_is_one_checker_again() -> None:
    async def scenario(server: ValkeyServer) -> None:
        async with fleet_on(server) as fleet:
            assert len(await fleet.checkers()) == 1

            server.kill()
            took_s = await until(lambda: all(fleet.checks()))
            print(f"everybody checked {took_s:.2f} s after the store had gone")
            assert fleet.known() == [KNOWN] * COUNT
            for world in fleet.worlds:
                world[A].health.follow(NOT_SERVING)
            await until(lambda: {one[0][1] for one in fleet.known()} == {"unhealthy"})
            for world in fleet.worlds:
                world[A].health.follow(SERVING)

            server.start()
            await until(lambda: fleet.known() == [KNOWN] * COUNT)
            await asyncio.sleep(2 * LEASE_S)
            assert len(await fleet.checkers()) == 1

    run(scenario)


GATEWAY = """
import asyncio, sys
from silence_gateway.stores.valkey import ValkeyStore
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.settings import EndpointSettings, HealthSettings, UpstreamSettings

async def main(url, fleet, address, interval, timeout):
    store = ValkeyStore(url, fleet)
    await store.start()
    health = HealthSettings(interval_s=float(interval), timeout_s=float(timeout), watch=False)
    endpoints = (EndpointSettings(address=address),)
    settings = UpstreamSettings(name="shop", endpoints=endpoints, health=health)
    async with GrpcUpstream(settings, board=store.board) as pool:
        while pool.statistics.endpoints[0].health != "healthy":
            await asyncio.sleep(0.01)
        print("healthy", flush=True)
        await asyncio.to_thread(sys.stdin.read)
    await store.stop()

asyncio.run(main(*sys.argv[1:]))
"""


def start_gateway(server: ValkeyServer, fleet: str, replica: Replica) -> subprocess.Popen[str]:
    """Start a process of its own that ends with its standard input; return once it knows of the health."""
    told = (server.url, fleet, replica.address, str(INTERVAL_S), str(TIMEOUT_S))
    process = subprocess.Popen(
        [sys.executable, "-c", GATEWAY, *told],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "healthy\n"
    return process


@pytest.mark.system
@pytest.mark.parametrize("fate", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_checker_that_is_gone_is_replaced_within_its_lease_and_an_interval(fate: signal.Signals) -> None:
    """One that was only stopped finds out that it was replaced, and leaves it at that."""

    async def scenario(server: ValkeyServer) -> None:
        fleet = fresh_fleet()
        with starting_replicas() as start:
            (replica,) = start(1)
            settings = UpstreamSettings.of(replica.address)
            processes: list[subprocess.Popen[str]] = []
            async with GrpcUpstream(
                UpstreamSettings(name="x", endpoints=settings.endpoints, health=None)
            ) as line:

                async def checks() -> int:
                    return int((await line.unary(CHECKS, b"")).message)

                try:
                    # The first one leads by the time that the second one starts.
                    first = await asyncio.to_thread(start_gateway, server, fleet, replica)
                    processes.append(first)
                    processes.append(await asyncio.to_thread(start_gateway, server, fleet, replica))
                    before = await checks()
                    await asyncio.sleep(5 * INTERVAL_S)
                    assert 3 <= await checks() - before <= 7

                    processes[0].send_signal(fate)
                    began_s, before = time.monotonic(), await checks()
                    async with asyncio.timeout(10):
                        while await checks() == before:  # noqa: ASYNC110 - another process counts
                            await asyncio.sleep(0.01)
                    took_s = time.monotonic() - began_s
                    print(f"another process checked {took_s:.2f} s after {fate.name}")
                    assert took_s <= LEASE_S + 1.1 * INTERVAL_S + SLACK_S

                    if fate is signal.SIGSTOP:
                        processes[0].send_signal(signal.SIGCONT)
                    await asyncio.sleep(INTERVAL_S)
                    before = await checks()
                    await asyncio.sleep(5 * INTERVAL_S)
                    assert 3 <= await checks() - before <= 7
                finally:
                    for process in processes:
                        process.kill()
                        process.communicate()

    run(scenario)
