"""The retry budget of a fleet on a real Valkey: an outage gets its share of extra calls once."""

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
from silence_gateway.testing.scripted_upstream import Failure
from silence_gateway.testing.valkey import ValkeyServer, fresh_fleet
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.retry_settings import BUDGET_TICKS, RetrySettings
from silence_gateway.upstreams.settings import BreakerSettings, EndpointSettings, UpstreamSettings

pytestmark = pytest.mark.valkey

A = "10.0.0.1:1"
METHOD = b"/shop.Orders/Get"
INSTANCES = 3
CALLS_EACH = 150
FREE_PER_S = 2
FREE = FREE_PER_S * BUDGET_TICKS


async def until(is_so: Callable[[], bool], limit_s: float = 10) -> None:
    async with asyncio.timeout(limit_s):
        while not is_so():  # noqa: ASYNC110 - boards tell their state, not their moves
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("share", [0.0, 0.2])
def test_three_instances_in_an_outage_repeat_no_more_than_one_budget(share: float) -> None:
    """Each alone might repeat its share and all that is free: together that would be the free part thrice."""
    settings = UpstreamSettings(
        name="shop",
        endpoints=(EndpointSettings(address=A),),
        health=None,
        breaker=BreakerSettings(consecutive=100_000, min_calls=100_000),
        retry=RetrySettings(
            attempts=2,
            budget=share,
            budget_free_per_s=FREE_PER_S,
            wait_s=0.001,
            methods=frozenset({"shop.Orders/*"}),
        ),
    )

    async def scenario(server: ValkeyServer) -> None:
        fleet = fresh_fleet()
        stores = [ValkeyStore(server.url, fleet) for _ in range(INSTANCES)]
        worlds = [ScriptedEndpoints(SystemClock()) for _ in range(INSTANCES)]
        pools = [
            GrpcUpstream(settings, connector=world.connect, board=store.board)
            for world, store in zip(worlds, stores, strict=True)
        ]
        for store, world in zip(stores, worlds, strict=True):
            world[A].follow(Failure(Code.UNAVAILABLE))
            await store.start()
        told = [store.board.watch("repeats/shop") for store in stores]
        for pool in pools:
            await pool.start()

        async def fail(pool: GrpcUpstream) -> None:
            with pytest.raises(RpcError):
                await pool.unary(METHOD, b"")

        try:
            # Who repeats is known to all after its next second; this is about what happens from then on.
            for pool in pools:
                await fail(pool)
            await until(lambda: all(len(copy) == INSTANCES for copy in told))
            for pool in pools:
                for _ in range(CALLS_EACH):
                    await fail(pool)

            sent = sum(len(world[A].calls) for world in worlds)
            calls = INSTANCES * (CALLS_EACH + 1)
            repeats = sum(pool.statistics.retries for pool in pools)
            assert sent == calls + repeats
            assert repeats <= share * calls + FREE
            assert repeats > INSTANCES
            assert sum(pool.statistics.retries_refused for pool in pools) == calls - repeats
        finally:
            for pool in pools:
                await pool.stop(drain_s=0)
            for store in stores:
                await store.stop()

    began_s = time.monotonic()
    with ValkeyServer() as server:
        asyncio.run(asyncio.wait_for(scenario(server), 30))
    # Within the window of the budget, or what is free would have come back.
    assert time.monotonic() - began_s < BUDGET_TICKS
