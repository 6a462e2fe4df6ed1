"""What tests of the pool share: a pool on fake endpoints and a fake clock, and what it said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from silence_gateway.events import Event
from silence_gateway.testing.clock import FakeClock, settle
from silence_gateway.testing.scripted_endpoints import ScriptedEndpoints
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.settings import (
    EndpointSettings,
    UpstreamSettings,
)

METHOD = b"/shop.Orders/Get"
A, B, C = "10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"


def addresses(*names: str) -> tuple[EndpointSettings, ...]:
    return tuple(EndpointSettings(address=name) for name in names)


class Bench:
    """A pool on fake endpoints and a fake clock, and what it said."""

    def __init__(self, settings: UpstreamSettings, **more: Any) -> None:
        self.clock = FakeClock()
        self.endpoints = ScriptedEndpoints(self.clock)
        self.events: list[Event] = []
        self.pool = GrpcUpstream(
            settings,
            clock=self.clock,
            observer=self.events.append,
            rng=Random(7),
            connector=self.endpoints.connect,
            **more,
        )

    async def call(self, deadline_s: float | None = None) -> bytes:
        deadline_s = None if deadline_s is None else self.clock.monotonic_s() + deadline_s
        return (await self.pool.unary(METHOD, b"?", (), deadline_s)).message

    def begin(self, deadline_s: float | None = None) -> asyncio.Task[bytes]:
        return asyncio.ensure_future(self.call(deadline_s))

    def standing(self, address: str) -> Any:
        return next(one for one in self.pool.statistics.endpoints if one.address == address)

    def said(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


def settings_of(*names: str, **more: Any) -> UpstreamSettings:
    return UpstreamSettings(**({"name": "shop", "endpoints": addresses(*names), "health": None} | more))


@asynccontextmanager
async def started(settings: UpstreamSettings, **more: Any) -> AsyncIterator[Bench]:
    bench = Bench(settings, **more)
    await bench.pool.start()
    await settle()
    try:
        yield bench
    finally:
        await bench.pool.stop(drain_s=0)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 20))
