"""
The rate limit service, joined: its rules on disk, its counters in the store, and its two doors.

What it decides is in `rls/`; here is only what belongs together, in which order it starts, and how it ends.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Sequence
from contextlib import AsyncExitStack
from functools import partial

from silence_gateway.app.config.gateway import GatewayConfig
from silence_gateway.app.config.rls import RlsConfig
from silence_gateway.app.config.rls_files import fingerprint, load_rules
from silence_gateway.app.engine_settings import rls_settings, server_settings
from silence_gateway.clock import Clock
from silence_gateway.core.http import stack
from silence_gateway.core.limits import WhenDown
from silence_gateway.edge.grpc_health import HEALTH, HealthService, Serving
from silence_gateway.edge.grpc_reflection import Reflection
from silence_gateway.edge.grpc_server import GrpcServer, Method, UnaryCall, unary
from silence_gateway.edge.http2_settings import Http2Settings
from silence_gateway.edge.problems import answer_errors
from silence_gateway.edge.server import HttpServer
from silence_gateway.events import Observer
from silence_gateway.rls.json_door import json_door
from silence_gateway.rls.messages import DESCRIPTOR_SET, METHOD, SERVICE
from silence_gateway.rls.refunds import Refunds
from silence_gateway.rls.reloading import RuleWatcher, tell_rules
from silence_gateway.rls.service import RateLimitService
from silence_gateway.stores.contracts import Store
from silence_gateway.stores.valkey import ValkeyStore
from silence_gateway.stores.window_contract import WindowCounters
from silence_gateway.stores.windows_falling_back import FallingBackCounters
from silence_gateway.stores.windows_memory import MemoryCounters
from silence_gateway.stores.windows_valkey import ValkeyCounters

# An Envoy opens one connection per thread and asks about every request on it at once; beyond this number it
# opens another.
MAX_STREAMS = 1_000

# What probes of envoyproxy/ratelimit ask for; the others are the whole server and the service by its name.
HEALTH_NAMES = ("", "ratelimit", SERVICE)


class RlsDoors:
    """
    The rate limit service of one process, and the servers that callers reach it by.

    Attributes:
        service: Decides.
        falling_back: Counts while the store is away; None where nothing is shared.
        grpc: For Envoy.
        json: For people and probes.
    """

    def __init__(
        self, config: GatewayConfig, rls: RlsConfig, store: Store, clock: Clock, observer: Observer
    ) -> None:
        # Before reading: what changes meanwhile is then read again.
        look = partial(fingerprint, rls.config)
        seen = look()
        load = partial(load_rules, rls.config, merge_domains=rls.merge_domains)
        rules = load()
        counters: WindowCounters
        self.falling_back: FallingBackCounters | None = None
        if isinstance(store, ValkeyStore):
            shared = ValkeyCounters(store.scripts, config.name, spread=store.cluster is not None)
            when_down = WhenDown(config.store.when_down)
            counters = self.falling_back = FallingBackCounters(shared, store, clock, when_down)
        else:
            counters = MemoryCounters(clock)
        self.service = RateLimitService(rls_settings(rls), rules, counters, clock, observer)
        self.watcher = RuleWatcher(self.service, load, look, seen, clock)
        self.refunds = Refunds(self.service.remembered, store.bus, clock)
        self.service.tell_refund = self.refunds.tell
        self.health = HealthService()
        for name in HEALTH_NAMES:
            self.health.set(name, Serving.SERVING)
        settings = Http2Settings(max_connections=config.server.max_connections, max_streams=MAX_STREAMS)
        self.grpc = GrpcServer(methods_of(self.service, self.health), settings, clock, observer)
        handler = stack(answer_errors(observer))(json_door(self.service))
        self.json = HttpServer(handler, server_settings(config), clock, observer)
        self.background = AsyncExitStack()

    async def start(self, grpc: Sequence[socket.socket], json: Sequence[socket.socket]) -> None:
        """Serve on the sockets of each door, which belong to it from now on; the store has been started."""
        tell_rules(self.service)
        if self.service.settings.local_cache:
            self.refunds.start()
        await self.background.enter_async_context(self.watcher)
        if grpc:
            await self.grpc.start(grpc)
        if json:
            await self.json.start(json)

    def described(self) -> str:
        """Return what is in force, for people."""
        rules = self.service.rules
        return f"{sum(1 for _ in rules.rules())} rules for {len(rules.domains)} domains"

    def stop_accepting(self) -> None:
        """Say that this instance is going, and take nothing new."""
        self.health.shut_down()
        self.grpc.stop_accepting()
        self.json.stop_accepting()

    async def drain(self, timeout_s: float) -> int:
        """Let what runs finish within *timeout_s*; returns how many connections had to be cut off."""
        self.stop_accepting()
        return sum(await asyncio.gather(self.grpc.drain(timeout_s), self.json.drain(timeout_s)))

    async def stop(self) -> None:
        """End everything; the store is still there. Harmless when it never started."""
        self.health.shut_down()
        await self.grpc.abort()
        await self.json.abort()
        await self.background.aclose()
        await self.refunds.stop()
        if self.falling_back is not None:
            await self.falling_back.stop()


def methods_of(service: RateLimitService, health: HealthService) -> dict[str, Method]:
    """Return everything that the gRPC door serves."""

    def should_rate_limit(message: bytes, _call: UnaryCall) -> Awaitable[bytes]:
        return service.should_rate_limit(message)

    reflection = Reflection([DESCRIPTOR_SET], [SERVICE, HEALTH])
    return {METHOD: unary(should_rate_limit), **health.methods(), **reflection.methods()}
