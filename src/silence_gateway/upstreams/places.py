"""
Places for calls: which endpoint, which connection, and who waits when there is none.

The choice is prepared in `reconsider`, whenever something about an endpoint changed; a call only draws
from what was prepared. On the hot path: `take_at_once` (0.3 us and what the rule takes). The rules are pure
and elsewhere (`core/endpoints.py`, `core/balancing/`); what a call's end means is not known here
(`ledger.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from random import Random

from silence_gateway.clock import Clock
from silence_gateway.core.balancing.slow_start import share_of
from silence_gateway.core.endpoints import Link, Standing, Verdict, eligible, verdict, why_out
from silence_gateway.core.shedding import Importance
from silence_gateway.errors import UpstreamUnavailable
from silence_gateway.events import EndpointDown, EndpointUp, EndpointVetoed, EndpointVetoEnded, Observer
from silence_gateway.upstreams.balancer import Balancer, Candidates
from silence_gateway.upstreams.connectivity import Connectivity, News
from silence_gateway.upstreams.dialing import Connection
from silence_gateway.upstreams.endpoint import Endpoint
from silence_gateway.upstreams.nobody import nobody
from silence_gateway.upstreams.once_a_turn import OnceATurn
from silence_gateway.upstreams.outcomes import code_of
from silence_gateway.upstreams.settings import UpstreamSettings
from silence_gateway.upstreams.tried import Tried
from silence_gateway.upstreams.upstream_breaker import UpstreamBreaker
from silence_gateway.upstreams.waiting_line import WaitingLine

NO_LIMIT = 2**30 - 1
"""More calls than any process has; CPython 3.11 compares numbers up to this one in half the time."""

USABLE = frozenset({Verdict.READY, Verdict.DOUBTFUL})
"""What a call without luck may find a place at."""


class Places:
    """
    Hands out places for calls. *on_usable* is called when an endpoint takes calls after it took none, *pay*
    takes one repeat from the retry budget and says whether there was one.

    Attributes:
        codes: Calls that ended without ever having had a place, by gRPC code.
        failovers: Calls offered again because they had provably never left.
        in_flight: Calls that have a place.
        streaming: Streams among them.
        limit: Most unary calls that may have a place at once.
        panic: Whether endpoints are used although they are judged unfit, because too few others are left.
        line: Calls that wait for a place.
        changed: Does `reconsider`, for those who may be many at the same time.
        news: Told whenever `connectivity` may have changed.
    """

    def __init__(
        self,
        settings: UpstreamSettings,
        *,
        clock: Clock,
        rng: Random,
        observer: Observer,
        whole: UpstreamBreaker,
        pay: Callable[[], bool],
        on_usable: Callable[[Endpoint], None] = lambda _endpoint: None,
        expecting: Callable[[], bool] = lambda: False,
    ) -> None:
        self.codes = [0] * 17
        self.failovers = 0
        self.in_flight = 0
        self.streaming = 0
        self.limit = NO_LIMIT if settings.concurrency is None else settings.concurrency.initial
        self.panic = False
        self.news = News()
        # A look costs 4 us per endpoint, and a thousand of them may connect, break or be judged in one turn.
        self.changed = OnceATurn(self.reconsider)
        self._settings = settings
        self._spread = settings.balancing.spread
        self._slow_start_s = settings.balancing.slow_start_s
        self._clock = clock
        self._draw = rng.random
        self._observer = observer
        self._whole = whole
        self._on_usable = on_usable
        self._pay = pay
        self._expecting = expecting
        self._endpoints: list[Endpoint] = []
        self._balancer = Balancer(
            settings.balancer, settings.balancing, rng=rng, in_flight=lambda: self.in_flight
        )
        self._pick = self._balancer.pick
        self._ring: tuple[Endpoint, ...] = ()
        self._spare: tuple[Endpoint, ...] = ()
        self._probes: tuple[Endpoint, ...] = ()
        self._hopeful = False
        self._groups: list[Candidates] = []
        self._open = self._closed = False
        self.line = WaitingLine(
            f"upstream {settings.name!r}", settings.pool.max_waiting, clock, settings.shedding
        )

    @property
    def waiting(self) -> int:
        """How many calls wait for a place."""
        return self.line.waiting

    @property
    def shed(self) -> list[int]:
        """How many calls were refused to keep the line short, by importance."""
        return self.line.shed

    @property
    def limited(self) -> int:
        """How many calls count against the limit now."""
        return self.in_flight - self.streaming

    @property
    def connectivity(self) -> Connectivity:
        """What a call can hope for now."""
        if not self._open:
            return Connectivity.SHUTDOWN if self._closed else Connectivity.IDLE
        if self._ring or self._probes:
            return Connectivity.READY
        return Connectivity.CONNECTING if self._hopeful else Connectivity.TRANSIENT_FAILURE

    def open(self) -> None:
        """Hand out places from now on."""
        self._open = True
        self.reconsider()

    def close(self) -> None:
        """Hand out no more places; who waits for one is told so."""
        self._open = False
        self._closed = True
        self.reconsider()

    def add(self, endpoint: Endpoint) -> None:
        """Count on *endpoint* from the next `reconsider` on."""
        self._endpoints.append(endpoint)

    def remove(self, *endpoints: Endpoint) -> None:
        """Count on *endpoints* no more."""
        gone = set(endpoints)
        self._endpoints = [endpoint for endpoint in self._endpoints if endpoint not in gone]
        self.reconsider()

    def take(self, tried: Tried | None, deadline_s: float) -> tuple[Endpoint, Connection] | None:
        """Return a place for a call now; None if there is none. The caller counts `in_flight` up at once."""
        if self.in_flight - self.streaming >= self.limit:
            return None
        if self._probes:
            probe = self._take_probe(deadline_s)
            if probe is not None:
                return probe
        return self.take_ready(tried)

    def take_at_once(self) -> Endpoint | None:
        """
        Do as `take` for a call that has been nowhere, and count it, where that takes no thought.

        Its place is at the endpoint's `current` connection. None, and nothing done, where `take` must think:
        also if all streams there are taken. For connections of ours only.
        """
        ring = self._ring
        if not ring or self._probes or self.limit != NO_LIMIT:
            return None
        pick = self._pick
        endpoint = ring[0] if len(ring) == 1 else pick(None)
        connection = endpoint.current
        if (
            connection is None or not connection.accepting or len(connection.calls) >= connection.max_streams  # type: ignore[attr-defined]
        ):
            return None
        self.in_flight += 1
        endpoint.in_flight += 1
        return endpoint

    def take_ready(self, tried: Tried | None) -> tuple[Endpoint, Connection] | None:
        """Do as `take`, but never as a probe and beyond any limit: for calls whose end may be hours away."""
        ring = self._ring
        if tried is not None and tried.connections:
            ring = tried.left(ring, self._spare)
            if not ring:
                return None
            endpoint = self._balancer.pick_among(ring)
        elif ring:
            # Whatever the rule, nothing needs to be drawn where there is one.
            endpoint = ring[0] if len(ring) == 1 else self._pick(None if tried is None else tried.key)
        else:
            return None
        connection = endpoint.with_room()
        if connection is not None:
            self.in_flight += 1
            return endpoint, connection
        for endpoint in (*ring, *self._spare):
            connection = endpoint.with_room()
            if connection is not None:
                self.in_flight += 1
                return endpoint, connection
        return None

    def others(self, tried: Tried) -> bool:
        """Tell whether somebody could take the call who has not had it yet."""
        return any(endpoint not in tried.connections for endpoint in self._ring)

    async def wait(
        self, deadline_s: float, tried: Tried | None, *, may_probe: bool = True, limited: bool = True
    ) -> tuple[Endpoint, Connection]:
        """
        Return a place for a call as soon as there is one. Cancelling it leaves the line.

        A call whose end may be hours away is no probe; if it is not *limited* either, `take_ready` is done
        for it. One that ends here is counted here, also if its caller leaves.

        Raises:
            UpstreamTimeout: There was none within its deadline.
            UpstreamUnavailable: There is no hope for one.
        """
        number: int | None = None
        importance = Importance.NORMAL if tried is None else tried.importance
        patience_ends_s: float | None = None
        try:
            while True:
                if limited:
                    # No right to probe reaches as far as for ever.
                    taken = self.take(tried, deadline_s if may_probe else inf)
                else:
                    taken = self.take_ready(tried)
                if taken is None and may_probe and self._whole.shut:
                    taken = self._probe_whole(tried, deadline_s)
                if taken is None and tried is not None and tried.pause_s:
                    pause_s, tried.pause_s = tried.pause_s, 0.0
                    await self._clock.sleep(max(0.0, min(pause_s, deadline_s - self._clock.monotonic_s())))
                    continue
                if taken is not None:
                    if number is not None:
                        # Where there was room for one there may be room for more.
                        self.room()
                    return taken
                all_full = self._ring if tried is None else tried.left(self._ring, self._spare)
                if not all_full and not self._hopeful:
                    raise nobody(
                        self._settings.name, self._endpoints, self._whole, self._clock, is_open=self._open
                    )
                if all_full and patience_ends_s is None:
                    patience_ends_s = self.line.patience_ends_s(importance)
                number = await self.line.wait(
                    deadline_s, number=number, importance=importance, patience_ends_s=patience_ends_s
                )
        except BaseException as error:
            self.codes[code_of(error)] += 1
            raise

    def room(self) -> None:
        """Take note that there is room where there was none."""
        if self.line.waiting:
            self.line.tell_one()

    def give_back(self) -> None:
        """Take note that a call that had a place has ended."""
        self.in_flight -= 1
        if self.line.waiting:
            self.line.tell_one()

    def limit_to(self, limit: int) -> None:
        """Let so many unary calls have a place at once from now on; those that have one keep it."""
        self.limit = limit
        for _ in range(min(self.line.waiting, limit - self.limited)):
            self.line.tell_one()

    def on_second(self) -> None:
        """Let endpoints that came lately have more of the calls; call it once a second."""
        if self._slow_start_s and self._share_out():
            self._prepare()

    def next_try(
        self, tried: Tried | None, endpoint: Endpoint, connection: Connection, error: BaseException
    ) -> Tried | None:
        """Return what to mind when the call that ended with *error* is offered again; None if it is not."""
        if not isinstance(error, UpstreamUnavailable) or error.sent:
            return None
        tried = tried or Tried()
        tried.connections[endpoint] = connection
        if error.refused:
            goes_on = tried.refused(endpoint, self._draw, self._settings.retry.attempts, self._pay)
        else:
            goes_on = tried.missed(endpoint, self._settings.retry.attempts)
        self.failovers += goes_on
        return tried if goes_on else None

    def reconsider(self) -> None:
        """Work out again who may take calls; call it after anything that may change that."""
        self._whole.refresh()
        endpoints: list[Endpoint] = []
        standings: list[Standing] = []
        fresh: list[Endpoint] = []
        for endpoint in self._endpoints:
            standing = endpoint.standing
            if not endpoint.removed:
                # Who finishes its last calls is no part of its priority that is not well.
                endpoints.append(endpoint)
                standings.append(standing)
            now = verdict(standing)
            if now is not endpoint.verdict:
                if now in USABLE and endpoint.verdict not in USABLE:
                    fresh.append(endpoint)
                    endpoint.ready_s = self._clock.monotonic_s()
                endpoint.verdict = now
                endpoint.since_us = self._clock.now_us()
                self._announce(endpoint, why_out(standing, endpoint.last_error, endpoint.history.opened_by))
            if standing.vetoed is not endpoint.vetoed:
                self._announce_veto(endpoint, vetoed=standing.vetoed)
        answer = eligible(standings, self._spread)
        self.panic = answer.panic
        if self._open:
            self._groups = [
                (group.part, tuple(endpoints[index] for index in group.members), group.total_weight)
                for group in answer.groups
            ]
            if self._slow_start_s:
                self._share_out()
            self._prepare()
            self._spare = tuple(endpoints[index] for index in answer.spare)
            self._probes = tuple(endpoints[index] for index in answer.probes)
            self._hopeful = answer.hopeful or (not answer.groups and self._expecting())
        if self._whole.shut or not self._open:
            self._ring, self._spare, self._probes, self._hopeful = (), (), (), False
        if self.line.waiting and (self._ring or self._probes or not self._hopeful):
            self.line.tell_all()
        self.news.tell()
        for endpoint in fresh:
            self._on_usable(endpoint)

    def _take_probe(self, deadline_s: float) -> tuple[Endpoint, Connection] | None:
        for endpoint in self._probes:
            # Beyond the end of our right another instance may probe: one at a time in the whole fleet.
            if deadline_s * 1e6 > endpoint.breaker.probe_until_us:
                continue
            connection = endpoint.with_room()
            if connection is not None and endpoint.breaker.claim_probe():
                self.reconsider()
                self.in_flight += 1
                return endpoint, connection
        return None

    def _probe_whole(self, tried: Tried | None, deadline_s: float) -> tuple[Endpoint, Connection] | None:
        """Return a place for the one call that probes the upstream as a whole, if it is time for it."""
        breaker, ready = self._whole.breaker, self._balancer.ready
        if tried is not None:
            ready = tried.left(ready, ())
        if not ready or breaker.probing or deadline_s * 1e6 > breaker.probe_until_us:
            return None
        endpoint = self._balancer.pick_among(ready)
        connection = endpoint.with_room()
        if connection is None or not breaker.claim_probe():
            return None
        self.in_flight += 1
        return endpoint, connection

    def _announce(self, endpoint: Endpoint, reason: str) -> None:
        name = self._settings.name
        out = endpoint.verdict is Verdict.OUT and endpoint.active
        # One that hangs gets no calls either. What another instance doubts is in the log of that instance.
        hangs = endpoint.verdict is Verdict.DOUBTFUL and endpoint.silent > 0
        if (out or hangs) and not endpoint.down:
            endpoint.down = True
            self._observer(EndpointDown(upstream=name, endpoint=endpoint.address, reason=reason))
        elif endpoint.verdict is Verdict.READY and endpoint.down:
            endpoint.down = False
            self._observer(EndpointUp(upstream=name, endpoint=endpoint.address))

    def _announce_veto(self, endpoint: Endpoint, *, vetoed: bool) -> None:
        endpoint.vetoed = vetoed
        name, check = self._settings.name, endpoint.record.check
        if vetoed:
            by, reason = "" if check is None else check.by, endpoint.last_error
            self._observer(
                EndpointVetoed(upstream=name, endpoint=endpoint.address, reached_by=by, reason=reason)
            )
        else:
            reached = endpoint.link is not Link.BROKEN
            reason = "connected again" if reached else "nobody else reaches it either"
            self._observer(EndpointVetoEnded(upstream=name, endpoint=endpoint.address, reason=reason))

    def _prepare(self) -> None:
        self._balancer.prepare(self._groups)
        self._ring = () if self._whole.shut or not self._open else self._balancer.ready

    def _share_out(self) -> bool:
        """Work out how far each endpoint has come with its slow start; return whether anything changed."""
        now_s, changed = self._clock.monotonic_s(), False
        for endpoint in self._endpoints:
            share = share_of(endpoint.weight, now_s - endpoint.ready_s, self._slow_start_s)
            if share != endpoint.share:
                endpoint.share, changed = share, True
        return changed
