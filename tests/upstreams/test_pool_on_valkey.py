"""Two pools that share a real Valkey: what one learns the other knows, and a hung store costs nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from silence_gateway.clock import SystemClock
from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError
from silence_gateway.stores.valkey import ValkeyStore
from silence_gateway.testing.scripted_endpoints import ScriptedEndpoints
from silence_gateway.testing.scripted_upstream import Failure, Reply
from silence_gateway.testing.valkey import ValkeyServer, fresh_fleet
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.settings import (
    BreakerSettings,
    EndpointSettings,
    HealthSettings,
    UpstreamSettings,
)

pytestmark = pytest.mark.valkey

A = "10.0.0.1:1"
METHOD = b"/shop.Orders/Get"
SETTINGS = UpstreamSettings(
    name="shop",
    endpoints=(EndpointSettings(address=A),),
    health=HealthSettings(interval_s=0.2, timeout_s=0.2),
    breaker=BreakerSettings(consecutive=2, cool_down_s=0.5),
)


async def until(is_so: Callable[[], bool], limit_s: float = 10) -> float:
    began_s = time.monotonic()
    async with asyncio.timeout(limit_s):
        while not is_so():  # noqa: ASYNC110 - pools tell their state, not their moves
            await asyncio.sleep(0.002)
    return time.monotonic() - began_s


def test_checks_and_trips_are_shared_and_a_hung_store_is_not_waited_for() -> None:
    async def scenario(server: ValkeyServer) -> None:
        fleet = fresh_fleet()
        stores = [ValkeyStore(server.url, fleet) for _ in range(2)]
        worlds = [ScriptedEndpoints(SystemClock()) for _ in range(2)]
        pools = [
            GrpcUpstream(SETTINGS, connector=world.connect, board=store.board)
            for world, store in zip(worlds, stores, strict=True)
        ]

        def told(index: int, what: str) -> object:
            return getattr(pools[index].statistics.endpoints[0], what)

        for store in stores:
            await store.start()
        for pool in pools:
            await pool.start()
        try:
            await until(lambda: [told(0, "health"), told(1, "health")] == ["healthy"] * 2)
            checks = [len(world[A].health.calls) for world in worlds]
            await until(lambda: sum(len(world[A].health.calls) for world in worlds) >= sum(checks) + 4)
            grown = [
                len(world[A].health.calls) - before for world, before in zip(worlds, checks, strict=True)
            ]
            assert min(grown) == 0

            worlds[0][A].follow(Failure(Code.UNAVAILABLE) * 2 + Reply(b"ok"))
            for _ in range(2):
                with pytest.raises(RpcError):
                    await pools[0].unary(METHOD, b"")
            passed_on_s = await until(lambda: told(1, "breaker") == "open")
            print(f"a trip was known to the other instance after {passed_on_s * 1000:.1f} ms")
            await until(lambda: [told(0, "breaker"), told(1, "breaker")] == ["closed"] * 2)

            server.pause()
            try:
                for _ in range(60):
                    began_s = time.monotonic()
                    assert (await pools[1].unary(METHOD, b"")).message == b"ok"
                    assert time.monotonic() - began_s < 0.2
                    await asyncio.sleep(0.005)
            finally:
                server.resume()
        finally:
            for pool in pools:
                await pool.stop(drain_s=0)
            for store in stores:
                await store.stop()

    with ValkeyServer() as server:
        asyncio.run(asyncio.wait_for(scenario(server), 60))
