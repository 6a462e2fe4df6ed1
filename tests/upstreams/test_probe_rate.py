"""Twenty instances, ten endpoints, one Valkey: endpoints are checked as if by one, and go on being so."""

from __future__ import annotations

import asyncio
import time

import pytest

from silence_gateway.clock import SystemClock
from silence_gateway.stores.valkey import ValkeyStore
from silence_gateway.testing.scripted_endpoints import ScriptedEndpoints
from silence_gateway.testing.valkey import ValkeyServer, fresh_fleet
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.settings import EndpointSettings, HealthSettings, UpstreamSettings

pytestmark = pytest.mark.valkey

INSTANCES = 20
INTERVAL_S = 0.5
TIMEOUT_S = 0.2
LEASE_S = 2 * INTERVAL_S + TIMEOUT_S
LOOK_S = 4.0
NAMES = [f"10.0.0.{number}:1" for number in range(1, 11)]
SETTINGS = UpstreamSettings(
    name="shop",
    endpoints=tuple(EndpointSettings(address=name) for name in NAMES),
    health=HealthSettings(interval_s=INTERVAL_S, timeout_s=TIMEOUT_S),
)


def test_checks_are_at_most_one_and_a_fifth_per_interval_and_go_on_after_a_kill() -> None:
    async def scenario(server: ValkeyServer) -> None:
        fleet = fresh_fleet()
        stores = [ValkeyStore(server.url, fleet) for _ in range(INSTANCES)]
        worlds = [ScriptedEndpoints(SystemClock()) for _ in range(INSTANCES)]
        pools = [
            GrpcUpstream(SETTINGS, connector=world.connect, board=store.board)
            for world, store in zip(worlds, stores, strict=True)
        ]

        def checks(name: str) -> list[int]:
            return [len(world[name].health.calls) for world in worlds]

        for store in stores:
            await store.start()
        for pool in pools:
            await pool.start()
        try:
            await asyncio.sleep(2.0)
            before = {name: sum(checks(name)) for name in NAMES}
            began_s = time.monotonic()
            await asyncio.sleep(LOOK_S)
            intervals = (time.monotonic() - began_s) / INTERVAL_S
            rates = {name: (sum(checks(name)) - before[name]) / intervals for name in NAMES}
            print(f"checks per interval and endpoint: {min(rates.values()):.2f} to {max(rates.values()):.2f}")
            assert max(rates.values()) <= 1.2
            assert min(rates.values()) >= 0.7

            seen = checks(NAMES[0])
            await asyncio.sleep(2 * INTERVAL_S)
            now = checks(NAMES[0])
            (leader,) = [index for index in range(INSTANCES) if now[index] > seen[index]]
            await pools[leader].stop(drain_s=0)
            stopped = checks(NAMES[0])
            began_s = time.monotonic()
            async with asyncio.timeout(10):
                while checks(NAMES[0]) == stopped:  # noqa: ASYNC110 - fakes count, they do not tell
                    await asyncio.sleep(0.01)
            took_s = time.monotonic() - began_s
            print(f"another instance checked {took_s:.2f} s after the checker had gone")
            assert took_s <= LEASE_S + 1.1 * INTERVAL_S + 0.3
        finally:
            for pool in pools:
                await pool.stop(drain_s=0)
            for store in stores:
                await store.stop()

    with ValkeyServer() as server:
        asyncio.run(asyncio.wait_for(scenario(server), 20))
