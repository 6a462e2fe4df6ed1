"""
Calls to one upstream: a place is taken, the call made there, and its end written down.

Hot path: `unary` runs for every request and adds one coroutine to the connection's own call, no task and
no lock: about 2 us of CPython 3.11, counts included. Everything that may change the choice is worked out
when it happens (`places.py`).

This file joins the parts and holds none of their rules: which endpoint is `places.py`, connections are
`endpoint.py`, what a call's end means is `ledger.py`, breakers move in `breakers.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable
from random import Random
from typing import Self

from silence_gateway.clock import Clock, SystemClock
from silence_gateway.core.breaker import State
from silence_gateway.core.status import Code
from silence_gateway.errors import ConfigError
from silence_gateway.events import Observer, nobody
from silence_gateway.stores.contracts import Board
from silence_gateway.upstreams.background import Background
from silence_gateway.upstreams.breakers import MAX_NUDGE_S, Breakers
from silence_gateway.upstreams.connector import grpc_connector
from silence_gateway.upstreams.contracts import CallStream, Metadata, Reply
from silence_gateway.upstreams.dialing import Connector
from silence_gateway.upstreams.endpoint import Endpoint
from silence_gateway.upstreams.fleet import Fleet
from silence_gateway.upstreams.health import HealthWatch
from silence_gateway.upstreams.hearing import Hearing
from silence_gateway.upstreams.ledger import Ledger
from silence_gateway.upstreams.outliers import Outliers
from silence_gateway.upstreams.places import Places, Tried
from silence_gateway.upstreams.pool_statistics import UpstreamStatistics, by_name, endpoint_statistics
from silence_gateway.upstreams.pooled_stream import PooledStream
from silence_gateway.upstreams.prober import Prober
from silence_gateway.upstreams.settings import EndpointSettings, UpstreamSettings

TICK_S = 1.0
"""How often penalties fade."""

PROBE_SPARE_S = 0.5
"""How much longer than one wait and one call the right to probe lasts."""

CLOSE_S = 2.0
"""How long the sockets of a stopped pool may take to close."""


class GrpcUpstream:
    """
    The endpoints of one upstream behind one `Caller`.

    Use it as a context manager, or call `start` and `stop`.

    A unary call without a deadline gets `settings.timeout_s`. A stream without one lives as long as it
    likes; only finding it a place is bounded.

    Attributes:
        settings: What it was made with.
        on_usable: Called with an address whenever an endpoint takes calls after it took none.
    """

    def __init__(
        self,
        settings: UpstreamSettings,
        *,
        clock: Clock | None = None,
        observer: Observer = nobody,
        rng: Random | None = None,
        board: Board | None = None,
        connector: Connector | None = None,
        on_usable: Callable[[str], None] | None = None,
    ) -> None:
        self.settings = settings
        self.on_usable = on_usable
        self._clock: Clock = clock or SystemClock()
        self._monotonic_s = self._clock.monotonic_s
        self._observer = observer
        self._rng = rng or Random()  # noqa: S311 spreads load and waits; guessing it gains nothing
        self._connector = connector or grpc_connector(settings, self._clock)
        self._timeout_s = settings.timeout_s
        self._endpoints: dict[str, Endpoint] = {}
        self._background = Background(f"upstream {settings.name!r}", observer)
        self._spawn = self._background.begin
        self._quiet = asyncio.Event()
        self._stopping = False
        self._prober = Prober(settings, self._clock)
        self._instance = f"{self._rng.getrandbits(64):016x}"
        self._hearing = Hearing(self._endpoints, self._clock)
        self._fleet: Fleet | None = None
        if board is not None:
            self._fleet = Fleet(
                settings.name,
                board,
                clock=self._clock,
                instance=self._instance,
                health=settings.health,
                hearer=self._hearing,
            )
        self._places = Places(
            settings, clock=self._clock, rng=self._rng, observer=observer, on_usable=self._usable
        )
        self._breakers = Breakers(
            settings.name,
            clock=self._clock,
            observer=observer,
            fleet=self._fleet,
            spawn=self._spawn,
            probe=self._prober.probe,
            on_move=self._places.reconsider,
            lease_s=MAX_NUDGE_S + PROBE_SPARE_S + settings.timeout_s,
        )
        self._outliers = Outliers(
            settings, self._endpoints, clock=self._clock, observer=observer, on_change=self._places.reconsider
        )
        self._hearing.attach(self._breakers, self._places)
        self._prober.attach(self._breakers, self._places)
        self._ledger = Ledger(
            clock=self._clock,
            breakers=self._breakers,
            places=self._places,
            outliers=self._outliers,
            on_last=self._last_call_ended,
            slow_s=settings.breaker.slow_call_s,
        )
        self._watch: HealthWatch | None = None
        if settings.health is not None:
            self._watch = HealthWatch(
                settings.name,
                settings.health,
                clock=self._clock,
                rng=self._rng,
                observer=observer,
                fleet=self._fleet,
                on_verdict=self._places.reconsider,
            )

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Begin to connect to every endpoint; returns at once and never fails, also when all are down."""
        if self._fleet is not None:
            self._fleet.join()
            self._spawn(self._fleet.write_facts())
            self._spawn(self._hearing.merge_counts(self._fleet))
        for endpoint in self.settings.endpoints:
            self._begin(endpoint)
        self._spawn(self._keep_house())
        self._spawn(self._outliers.watch())
        self._places.open()

    async def stop(self, drain_s: float = 5.0) -> None:
        """
        Take no new calls, let those in flight finish for at most *drain_s*, then close every connection.

        Cancelling it may leave connections open; call it again to close them.
        """
        self._stopping = True
        if self._fleet is not None:
            self._fleet.leave()
        self._places.close()
        for endpoint in self._endpoints.values():
            endpoint.leaving = True
        if any(endpoint.in_flight for endpoint in self._endpoints.values()):
            timer = self._clock.call_later(drain_s, self._quiet.set)
            try:
                await self._quiet.wait()
            finally:
                timer.cancel()
        await self._background.cancel()
        for endpoint in self._endpoints.values():
            endpoint.removed = True
            self._spawn(endpoint.close())
        # A peer that never reads could hold up the end of its connection; it does not hold up ours.
        await self._background.finish(CLOSE_S)

    def add_endpoint(self, settings: EndpointSettings) -> None:
        """
        Serve from one more endpoint from now on.

        Raises:
            ConfigError: If its address is here already.
        """
        if settings.address in self._endpoints:
            raise ConfigError(f"upstream {self.settings.name!r}: endpoint {settings.address} is here already")
        self._begin(settings)
        self._places.reconsider()

    def remove_endpoint(self, address: str) -> None:
        """
        Give *address* no new calls, and forget it once those in flight have finished.

        Raises:
            KeyError: If there is no such endpoint.
        """
        endpoint = self._endpoints[address]
        endpoint.active = False
        endpoint.removed = True
        endpoint.leaving = True
        self._places.reconsider()
        if not endpoint.in_flight:
            self._forget(endpoint)

    def drain_endpoint(self, address: str) -> None:
        """
        Give *address* no new calls; its connections stay, and what is in flight finishes.

        Raises:
            KeyError: If there is no such endpoint.
        """
        self._endpoints[address].active = False
        self._places.reconsider()

    def activate_endpoint(self, address: str) -> None:
        """
        Undo `drain_endpoint`.

        Raises:
            KeyError: If there is no such endpoint, or it was removed.
        """
        endpoint = self._endpoints[address]
        if endpoint.removed:
            raise KeyError(address)
        endpoint.active = True
        self._places.reconsider()

    def hold_breaker(self, address: str, state: State, reason: str, ttl_s: float) -> None:
        """
        Hold the breaker of *address* in the whole fleet for *ttl_s* seconds; CLOSED lets go of it.

        Raises:
            KeyError: If there is no such endpoint.
            ValueError: If *state* is another one, or *reason* is too long to be passed on.
        """
        self._hearing.hold(address, state, reason, ttl_s, by=self._instance, fleet=self._fleet)

    @property
    def statistics(self) -> UpstreamStatistics:
        """What there is to tell, now."""
        ledger = self._ledger
        codes = [
            sum(counts)
            for counts in zip(
                ledger.codes,
                self._places.codes,
                *(endpoint.codes for endpoint in self._endpoints.values()),
                strict=True,
            )
        ]
        # Each failover is one attempt that its endpoint counts as UNAVAILABLE, and no end of a call.
        codes[Code.UNAVAILABLE] -= self._places.failovers
        return UpstreamStatistics(
            name=self.settings.name,
            calls_by_code=by_name(codes),
            latency_counts=tuple(ledger.latency_counts),
            latency_sum_s=ledger.latency_sum_s,
            waiting=self._places.waiting,
            failovers=self._places.failovers,
            board_malformed=self._fleet.malformed if self._fleet is not None else 0,
            board_unsent=self._fleet.unsent if self._fleet is not None else 0,
            endpoints=tuple(endpoint_statistics(endpoint) for endpoint in self._endpoints.values()),
        )

    async def unary(
        self, method: bytes, message: bytes, metadata: Metadata = (), deadline_s: float | None = None
    ) -> Reply:
        """
        Call *method* once, as `Caller.unary` says.

        A call that provably never left is offered to another endpoint, within its deadline and at most
        `retry.attempts` times in all; one that may have left is not repeated.
        """
        started_s = self._monotonic_s()
        if deadline_s is None:
            deadline_s = started_s + self._timeout_s
        tried: Tried | None = None
        places, ledger = self._places, self._ledger
        while True:
            taken = places.take(tried, deadline_s)
            if taken is None:
                taken = await places.wait(deadline_s, tried)
            endpoint, connection = taken
            endpoint.in_flight += 1
            generation = endpoint.breaker.generation
            try:
                reply = await connection.unary(method, message, metadata, deadline_s)
            except BaseException as error:
                tried = places.next_try(tried, endpoint, connection, error)
                ledger.failed(endpoint, connection, generation, started_s, error, final=tried is None)
                if tried is None:
                    raise
                continue
            ledger.answered(endpoint, generation, started_s)
            return reply

    def stream(
        self,
        method: bytes,
        messages: bytes | AsyncIterable[bytes],
        metadata: Metadata = (),
        deadline_s: float | None = None,
    ) -> CallStream:
        """
        Call *method* for a stream of messages, as `Caller.stream` says.

        The call begins at once where there is a place for it, else when the first message or the metadata is
        asked for. One with a single message that provably never left is offered to another endpoint, like
        a unary call.
        """
        return PooledStream(
            self._places,
            self._ledger,
            self._clock,
            self._timeout_s,
            method=method,
            messages=messages,
            metadata=metadata,
            deadline_s=deadline_s,
        )

    def _begin(self, settings: EndpointSettings) -> None:
        endpoint = Endpoint(
            settings,
            self.settings.pool,
            self.settings.breaker.policy(),
            connector=self._connector,
            clock=self._clock,
            rng=self._rng,
            spawn=self._spawn,
            on_change=self._places.reconsider,
            on_room=self._places.room,
            on_lost=self._lost,
            on_connected=self._connected,
        )
        self._endpoints[settings.address] = endpoint
        self._places.add(endpoint)
        if self._fleet is not None:
            self._fleet.expect(settings.address)
        endpoint.start()
        if self._watch is not None:
            self._spawn(self._watch.watch(endpoint))

    def _forget(self, endpoint: Endpoint) -> None:
        if self._endpoints.pop(endpoint.address, None) is None:
            return
        self._ledger.inherit(endpoint)
        self._places.remove(endpoint)
        if self._fleet is not None:
            self._fleet.forget(endpoint.address)
        self._spawn(endpoint.close())

    def _last_call_ended(self, endpoint: Endpoint) -> None:
        """See to an endpoint that has no call in flight and is to be left."""
        if self._stopping:
            if not any(one.in_flight for one in self._endpoints.values()):
                self._quiet.set()
        else:
            self._forget(endpoint)

    def _connected(self, endpoint: Endpoint) -> None:
        if self._watch is not None:
            self._watch.reconnected(endpoint)

    def _usable(self, endpoint: Endpoint) -> None:
        if self.on_usable is not None:
            self._background.soon(self.on_usable, endpoint.address)

    def _lost(self, endpoint: Endpoint, reason: str) -> None:
        """Count the loss of an endpoint's last connection as one failure, however many calls it carried."""
        if not reason:
            return
        breaker, old = endpoint.breaker, endpoint.breaker.state
        event = breaker.on_failure(breaker.generation, int(self._monotonic_s() * 1e6))
        if event is not None:
            self._breakers.moved(endpoint, old, event)

    async def _keep_house(self) -> None:
        trims_every = max(1, round(self.settings.pool.idle_timeout_s / 2 / TICK_S))
        ticks = 0
        while True:
            await self._clock.sleep(TICK_S)
            ticks += 1
            for endpoint in self._endpoints.values():
                endpoint.fade()
                if ticks % trims_every == 0:
                    endpoint.trim()
