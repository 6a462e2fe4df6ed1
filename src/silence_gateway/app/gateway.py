"""
One gateway process: every engine, joined, started and stopped in order.

`build.py` makes it. The order matters: the store is there before those who share state through it,
upstreams before the descriptors that are read from them, and the listener opens last. On the way out
the listener closes first, what runs finishes, and the store is left last.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field

from silence_gateway.admin.contracts import Readiness, Word
from silence_gateway.app.listening import Sockets
from silence_gateway.app.register import Register
from silence_gateway.app.rls import RlsDoors
from silence_gateway.clock import Clock
from silence_gateway.core.api_keys import KeyRing
from silence_gateway.edge.server import HttpServer
from silence_gateway.errors import ConfigError
from silence_gateway.events import Observer
from silence_gateway.file_watch import FileWatch
from silence_gateway.layers.route import RouteSwitch
from silence_gateway.limiting.access import AccessLists
from silence_gateway.limiting.assembly import LimitEngine
from silence_gateway.limiting.fleet_counts import FleetCounts
from silence_gateway.limiting.limiter import Limiter
from silence_gateway.limiting.sweep import LimitSweep
from silence_gateway.realtime.hub import RealtimeHub
from silence_gateway.stores.contracts import Store
from silence_gateway.transcoding.service import TranscodedService
from silence_gateway.upstreams.pool import Pool
from silence_gateway.watch.requests import RequestCounters

# A listener that waits this long for the methods of its upstreams gives newcomers no confusing 404s;
# longer, and one upstream that is down would keep the others from being served.
FIRST_DESCRIPTORS_S = 3.0

# A store that is there tells what operators have said within milliseconds; one that is not is not waited for.
FIRST_WORDS_S = 0.5


@dataclass
class Gateway:
    """
    The engines of one process.

    Attributes:
        phase: `starting`, `ready` or `draining`; what the store says comes on top in `readiness`.
    """

    clock: Clock
    observer: Observer
    store: Store
    server: HttpServer
    tls: ssl.SSLContext | None
    counters: RequestCounters
    access: AccessLists
    drain_s: float
    key_file: FileWatch[KeyRing, KeyRing] | None = None
    upstreams: dict[str, Pool] = field(default_factory=dict)
    services: list[TranscodedService] = field(default_factory=list)
    routes: RouteSwitch | None = None
    limiter: Limiter | None = None
    limit_engine: LimitEngine | None = None
    limit_counts: FleetCounts | None = None
    limit_sweep: LimitSweep | None = None
    hub: RealtimeHub | None = None
    rls: RlsDoors | None = None
    register: Register | None = None
    phase: Word = "starting"

    async def start(self, sockets: Sockets) -> None:
        """
        Begin to serve on *sockets*, which belong to the gateway from now on.

        Raises:
            ConfigError: A descriptor file cannot be used.
        """
        await self.store.start()
        self.access.start()
        if self.key_file is not None:
            self.key_file.start()
        for upstream in self.upstreams.values():
            await upstream.start()
        if self.hub is not None:
            await self.hub.start()
        for part in (self.limit_engine, self.limit_counts, self.limit_sweep, self.register):
            if part is not None:
                part.start()
        await self._first_words()
        await self._first_descriptors()
        await self.server.start(sockets.get("listen", ()), self.tls)
        if self.rls is not None:
            await self.rls.start(sockets.get("rls.listen", ()), sockets.get("rls.json", ()))
        self.phase = "ready"

    async def _first_words(self) -> None:
        """Wait a moment for what operators have said: a drained endpoint shall not get our first calls."""
        if self.upstreams:
            hearing = [asyncio.create_task(one.operators.heard()) for one in self.upstreams.values()]
            _, late = await asyncio.wait(hearing, timeout=FIRST_WORDS_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _first_descriptors(self) -> None:
        """Wait a moment for the methods of every upstream; whoever is late is read in the background."""
        loading = [asyncio.create_task(service.load()) for service in self.services]
        if not loading:
            return
        done, late = await asyncio.wait(loading, timeout=FIRST_DESCRIPTORS_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        problems = [task.exception() for task in done]
        wrong = [problem for problem in problems if problem is not None]
        if wrong:
            raise ConfigError([str(problem) for problem in wrong])
        for service in self.services:
            if service.descriptors is None:
                service.reload()

    @property
    def store_is_whole(self) -> bool:
        """Whether the store answers, all of it, and takes what is written."""
        return self.store.up and not self.store.refuses_writes and not self.store.partly_away

    def readiness(self) -> Readiness:
        """Say whether traffic may come."""
        store = self.store
        parts = {"store": "answers" if store.up else "away: limits are enforced by local shares"}
        if store.up and store.refuses_writes:
            parts["store"] = f"takes no writes, limits are enforced by local shares: {store.refuses_writes}"
        elif store.partly_away:
            parts["store"] = f"answers in part, the rest of the limits by local shares: {store.partly_away}"
        for name, upstream in self.upstreams.items():
            endpoints = upstream.statistics.endpoints
            usable = sum(endpoint.state == "ready" for endpoint in endpoints)
            parts[f"upstream {name}"] = f"{usable} of {len(endpoints)} endpoints take calls"
        for service in self.services:
            methods = len({binding.rpc for binding in service.bindings})
            parts[f"methods of {service.upstream}"] = (
                f"{methods} methods"
                if service.descriptors is not None
                else f"not known yet: {service.last_failure}"
            )
        if self.hub is not None:
            parts["realtime"] = f"{self.hub.statistics.connected} sessions"
        if self.rls is not None:
            parts["rate limit service"] = self.rls.described()
        if self.phase != "ready":
            return Readiness(self.phase, parts)
        known = [service.descriptors is not None for service in self.services]
        serves_more = self.hub is not None or self.rls is not None or len(self.upstreams) > len(self.services)
        if known and not any(known) and not serves_more:
            # Every request would be answered 503: no traffic should come yet.
            return Readiness("starting", parts)
        return Readiness("ready" if self.store_is_whole and all(known) else "degraded", parts)

    def nodes(self) -> list[dict[str, object]]:
        """Return the live instances of the fleet, as they describe themselves on the board."""
        return self.register.nodes() if self.register is not None else []

    async def drain(self) -> int:
        """
        Take nothing new and let what runs finish, within `drain_s` seconds.

        Returns how many connections had to be cut off.
        """
        self.phase = "draining"
        self.server.stop_accepting()
        if self.rls is not None:
            self.rls.stop_accepting()
        left_s = self.drain_s
        if self.hub is not None and self.hub.sockets:
            # A part of the time is for sending WebSocket clients elsewhere without a stampede.
            spread_s = min(1.0, self.drain_s / 4)
            left_s -= spread_s
            await self.hub.drain(spread_s)
        draining = [self.server.drain(left_s)]
        if self.rls is not None:
            draining.append(self.rls.drain(left_s))
        return sum(await asyncio.gather(*draining))

    async def stop(self) -> None:
        """End everything; harmless when it never started."""
        self.phase = "draining"
        await self.server.abort()
        if self.rls is not None:
            await self.rls.stop()
        for part in (self.limiter, self.limit_engine, self.limit_counts, self.limit_sweep, self.register):
            if part is not None:
                await part.stop()
        for service in self.services:
            await service.close()
        if self.hub is not None:
            await self.hub.stop()
        for upstream in self.upstreams.values():
            await upstream.stop(drain_s=0.5)
        await self.access.stop()
        if self.key_file is not None:
            await self.key_file.stop()
        await self.store.stop()
