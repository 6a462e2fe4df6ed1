"""
One upstream: its endpoints, and the parts that carry calls to them, joined.

A `Pool` is the same for every protocol; how a call goes through it is not: `grpc_upstream.py` makes gRPC
calls and `http_upstream.py` passes HTTP on.

This file holds none of their rules: who the endpoints are is `roster.py` and which of them `places.py`;
connections are `endpoint.py`, what a call's end means is `ledger.py`, breakers move in `breakers.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Self

from silence_gateway.clock import Clock
from silence_gateway.core.breaker import State
from silence_gateway.events import Observer
from silence_gateway.stores.contracts import Board
from silence_gateway.upstreams.background import Background
from silence_gateway.upstreams.breakers import MAX_NUDGE_S, Breakers
from silence_gateway.upstreams.dialing import Connector
from silence_gateway.upstreams.discovery import Joined, Source
from silence_gateway.upstreams.endpoint import Endpoint
from silence_gateway.upstreams.feedback import Feedback
from silence_gateway.upstreams.fleet import Fleet
from silence_gateway.upstreams.guarded import WHOLE
from silence_gateway.upstreams.health import Checker, HealthWatch
from silence_gateway.upstreams.hearing import Hearing
from silence_gateway.upstreams.house_keeping import keep_house
from silence_gateway.upstreams.ledger import Ledger
from silence_gateway.upstreams.membership import Membership
from silence_gateway.upstreams.operators import Operators
from silence_gateway.upstreams.outliers import Outliers
from silence_gateway.upstreams.places import Places
from silence_gateway.upstreams.pool_statistics import UpstreamStatistics, upstream_statistics
from silence_gateway.upstreams.prober import Prober
from silence_gateway.upstreams.repeating import Repeats
from silence_gateway.upstreams.retry_budget import RetryBudget
from silence_gateway.upstreams.roster import Roster
from silence_gateway.upstreams.settings import EndpointSettings, UpstreamSettings
from silence_gateway.upstreams.statistics_since import StatisticsSince
from silence_gateway.upstreams.upstream_breaker import UpstreamBreaker

PROBE_SPARE_S = 0.5
"""How much longer than one wait and one call the right to probe lasts."""

CLOSE_S = 2.0
"""How long the sockets of a stopped pool may take to close."""


class Pool:
    """
    The endpoints of one upstream, whatever they speak.

    *connector* opens connections to them and *check* asks for their health. Use it as a context manager, or
    call `start` and `stop`.

    Attributes:
        settings: What it was made with.
        operators: Carries out what operators say, and tells them what became of it.
        on_usable: Called with an address whenever an endpoint takes calls after it took none.
    """

    def __init__(
        self,
        settings: UpstreamSettings,
        connector: Connector,
        check: Checker,
        *,
        clock: Clock,
        observer: Observer,
        rng: Random | None,
        board: Board | None,
        on_usable: Callable[[str], None] | None,
        sources: Sequence[Source],
    ) -> None:
        self.settings = settings
        self.on_usable = on_usable
        self._clock = clock
        self._rng = rng or Random()  # noqa: S311 spreads load and waits; guessing it gains nothing
        self._connector = connector
        self._endpoints: dict[str, Endpoint] = {}
        self._background = Background(f"upstream {settings.name!r}", observer)
        self._spawn = self._background.begin
        self._quiet = asyncio.Event()
        self._stopping = False
        self._prober = Prober(settings, check, clock)
        # As `silence nodes` lists us, where there is such a list: others are told who checks and who trips.
        self._instance = instance = settings.balancing.instance or f"{self._rng.getrandbits(64):016x}"
        guard = settings.upstream_breaker
        self._whole = whole = UpstreamBreaker(
            None if guard is None else guard.policy(), self._endpoints, clock
        )
        self._hearing = Hearing(self._endpoints, whole, clock)
        self._fleet: Fleet | None = None
        if board is not None:
            self._fleet = Fleet(
                settings.name,
                board,
                clock=clock,
                instance=instance,
                health=settings.health,
                hearer=self._hearing,
            )
        budget = RetryBudget(
            settings, calls=lambda: sum(self._ledger.latency_counts), board=board, instance=instance
        )
        self._places = places = Places(
            settings,
            clock=clock,
            rng=self._rng,
            observer=observer,
            whole=whole,
            pay=budget.spend,
            on_usable=self._usable,
            expecting=lambda: self._joined.expecting,
        )
        self._breakers = Breakers(
            settings.name,
            clock=clock,
            observer=observer,
            fleet=self._fleet,
            spawn=self._spawn,
            probe=self._prober.probe,
            on_move=places.reconsider,
            lease_s=MAX_NUDGE_S + PROBE_SPARE_S + settings.timeout_s,
            instance=instance,
        )
        self._outliers = Outliers(
            settings,
            self._endpoints,
            clock=clock,
            observer=observer,
            on_change=places.reconsider,
            fleet=self._fleet,
        )
        self._hearing.attach(self._breakers, places)
        self._prober.attach(self._breakers, places)
        self._feedback = Feedback(settings, places, clock)
        self._ledger = ledger = Ledger(
            clock=clock,
            breakers=self._breakers,
            places=places,
            feedback=self._feedback,
            outliers=self._outliers,
            on_last=self._last_call_ended,
            whole=whole,
            slow_s=settings.breaker.slow_call_s,
            whole_slow_s=None if guard is None else guard.slow_call_s,
        )
        self._repeats = Repeats(settings.retry, places, ledger, budget, clock=clock, rng=self._rng)
        self._joined = Joined(settings.endpoints, self.set_endpoints, sources)
        self._watch: HealthWatch | None = None
        if settings.health is not None:
            self._watch = HealthWatch(
                settings.name,
                settings.health,
                check,
                clock=clock,
                rng=self._rng,
                observer=observer,
                fleet=self._fleet,
                on_verdict=places.changed,
                instance=instance,
                spawn=self._spawn,
            )
        membership = Membership(settings.balancing.subset, instance)
        self.operators = Operators(
            settings.name,
            self._endpoints,
            whole,
            membership,
            board=board,
            clock=clock,
            observer=observer,
            instance=instance,
            spawn=self._spawn,
            breakers=self._breakers,
            places=places,
        )
        self._roster = Roster(
            settings.name,
            self._endpoints,
            membership,
            make=self._make,
            places=places,
            ledger=ledger,
            background=self._background,
            welcome=self.operators.welcome,
            fleet=self._fleet,
            watch=self._watch,
        )
        self._since = StatisticsSince(
            settings.name, board, lambda: self.statistics, self._endpoints, clock, instance
        )

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Begin to connect to every endpoint; returns at once and never fails, also when all are down."""
        if self._stopping:
            raise RuntimeError(
                f"upstream {self.settings.name!r} was stopped: make a new one, this one is over"
            )
        if self._fleet is not None:
            self._fleet.join()
            self._fleet.expect(WHOLE)
            self._spawn(self._fleet.write_facts())
        self.operators.join()
        self._spawn(self._hearing.merge_counts(self._fleet))
        self._repeats.budget.join()
        self._since.join()
        self._roster.open(self.settings.endpoints)
        self._spawn(
            keep_house(
                self._endpoints,
                places=self._places,
                feedback=self._feedback,
                repeats=self._repeats,
                clock=self._clock,
                spawn=self._spawn,
            )
        )
        for number, source in enumerate(self._joined.sources):
            self._spawn(source.follow(partial(self._joined.hear, number)))
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
        self.operators.leave()
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

    def set_endpoints(self, endpoints: Sequence[EndpointSettings]) -> None:
        """
        Serve from *endpoints* from now on: who is new joins, and who is not named finishes what it has.

        An endpoint that stays keeps its connections, its health and its breaker.
        """
        self._roster.replace(endpoints)

    def add_endpoint(self, settings: EndpointSettings) -> None:
        """
        Serve from one more endpoint from now on.

        Raises:
            ConfigError: If its address is here already.
        """
        self._roster.add(settings)

    def remove_endpoint(self, address: str) -> None:
        """
        Give *address* no new calls, and forget it once those in flight have finished.

        Raises:
            KeyError: If there is no such endpoint.
        """
        self._roster.remove(address)

    def drain_endpoint(self, address: str) -> None:
        """
        Give *address* no new calls; its connections stay, and what is in flight finishes.

        That is this instance's decision; `drain_everywhere` makes it the fleet's.

        Raises:
            KeyError: If there is no such endpoint, or this instance does not use it (`balancing.subset`).
        """
        self._roster.drain(address)

    def activate_endpoint(self, address: str) -> None:
        """
        Undo `drain_endpoint`.

        Raises:
            KeyError: If there is no such endpoint, or it was removed.
        """
        self._roster.activate(address)

    async def drain_everywhere(self, address: str, *, drained: bool = True) -> bool:
        """
        Drain *address*, or undo it, on every instance of the fleet, those that start later included.

        Returns False if the store could not be told, and only this instance knows so far.

        Raises:
            KeyError: If there is no such endpoint.
        """
        return (await self.operators.drain(address, drained=drained)).fleet

    async def hold_breaker(self, address: str, state: State, reason: str, ttl_s: float) -> bool:
        """
        Hold the breaker of *address* in the whole fleet for *ttl_s* seconds; CLOSED lets go of it.

        With `guarded.WHOLE` it is that of the upstream as a whole. Returns as `drain_everywhere` does.

        Raises:
            KeyError: If there is no such endpoint.
            ValueError: If *state* is another one, *reason* is too long to be passed on, or *ttl_s* is out of
                range.
        """
        return (await self.operators.hold(address, state, reason, ttl_s)).fleet

    async def reset_statistics(self) -> bool:
        """Begin `statistics_since_reset` anew in the fleet; False if only here, because the store is away."""
        return await self._since.reset()

    @property
    def statistics_since_reset(self) -> UpstreamStatistics:
        """What there is to tell, now, with counts since `reset_statistics`."""
        return self._since.read()

    @property
    def statistics(self) -> UpstreamStatistics:
        """What there is to tell, now; counts are since the start and never go down."""
        return upstream_statistics(
            self.settings,
            self._ledger,
            self._places,
            self._repeats,
            self._fleet,
            self.operators,
            self._endpoints.values(),
            self._roster.membership,
            self._whole,
            clock=self._clock,
            instance=self._instance,
            discovery=self._joined.problems(),
        )

    def _make(self, settings: EndpointSettings) -> Endpoint:
        return Endpoint(
            settings,
            self.settings.pool,
            self.settings.breaker.policy(),
            connector=self._connector,
            clock=self._clock,
            rng=self._rng,
            spawn=self._spawn,
            on_change=self._places.changed,
            on_room=self._places.room,
            on_lost=self._lost,
            on_unreachable=self._joined.hurry,
            on_connected=(lambda _: None) if self._watch is None else self._watch.reconnected,
        )

    def _last_call_ended(self, endpoint: Endpoint) -> None:
        """See to an endpoint that has no call in flight and is to be left."""
        if not self._stopping:
            self._roster.forget(endpoint)
        elif not any(one.in_flight for one in self._endpoints.values()):
            self._quiet.set()

    def _usable(self, endpoint: Endpoint) -> None:
        if self.on_usable is not None:
            self._background.soon(self.on_usable, endpoint.address)

    def _lost(self, endpoint: Endpoint, reason: str) -> None:
        """Count the loss of an endpoint's last connection as one failure, however many calls it carried."""
        if self._watch is not None:
            self._watch.lost(endpoint)
        if not reason:
            return
        self._joined.hurry()
        breaker, old = endpoint.breaker, endpoint.breaker.state
        event = breaker.on_failure(breaker.generation, int(self._clock.monotonic_s() * 1e6))
        if event is not None:
            self._breakers.moved(endpoint, old, event)
