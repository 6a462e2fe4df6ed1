"""
Moves the breakers of one upstream: when a cool-down ends, who may probe, and what is told about it.

When to move is decided in `core/breaker.py`. Everything here happens in the background: the fleet's right
to probe is asked for when a cool-down ends, and the next call finds the answer ready.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from silence_gateway.clock import Clock
from silence_gateway.core.breaker import JUDGEMENTS, NO_END_US, Event, State
from silence_gateway.core.endpoints import Link
from silence_gateway.core.fleet_facts import HoldFact
from silence_gateway.events import BreakerMoved, Observer
from silence_gateway.upstreams.endpoint import Spawn
from silence_gateway.upstreams.fleet import Fleet
from silence_gateway.upstreams.guarded import Guarded
from silence_gateway.upstreams.record import MAX_REASON_TEXT, BreakerMove

MAX_NUDGE_S = 1.0
"""How long a half-open breaker waits for a call to probe with, before we probe with a health check."""

EARLY_S = 0.001
"""How much too early a timer may fire."""

MAX_LOOK_S = 1.0
"""How long who may not probe waits before asking again; a prober that was killed is noticed so."""


class Breakers:
    """
    Carries out what the breakers of endpoints, and that of the upstream, decide.

    *probe* asks for health as a probe; *on_move* is called after every move. *instance* is how this one
    signs.
    """

    def __init__(
        self,
        upstream: str,
        *,
        clock: Clock,
        observer: Observer,
        fleet: Fleet | None,
        spawn: Spawn,
        probe: Callable[[Guarded], Coroutine[Any, Any, None]],
        on_move: Callable[[], None],
        lease_s: float,
        instance: str = "",
    ) -> None:
        self._upstream = upstream
        self._clock = clock
        self._observer = observer
        self._fleet = fleet
        self._spawn = spawn
        self._probe = probe
        self._on_move = on_move
        self._lease_s = lease_s
        self._instance = instance

    def moved(self, endpoint: Guarded, old: State, event: Event, by: str = "") -> None:
        """
        Carry out a move: write it down, tell who watches and the fleet, and see to what comes next.

        *by* is the instance that decided it, if that is another one.
        """
        breaker = endpoint.breaker
        reason = event.value
        if endpoint.hold is not None and endpoint.hold.reason:
            reason = f"{reason}: {endpoint.hold.reason}"
        if event is Event.TOO_MANY_FAILURES and endpoint.last_error:
            reason = f"{reason}; last: {endpoint.last_error}"
        if endpoint.hold is not None:
            by = endpoint.hold.by
        endpoint.history.add(
            BreakerMove(
                at_us=self._clock.now_us(),
                old=old.value,
                new=breaker.state.value,
                reason=reason[:MAX_REASON_TEXT],
                by=by or self._instance,
                instance=self._instance,
            )
        )
        self._observer(
            BreakerMoved(
                upstream=self._upstream,
                endpoint=endpoint.address,
                old=old.value,
                new=breaker.state.value,
                reason=reason,
            )
        )
        if self._fleet is not None and event in JUDGEMENTS:
            self._fleet.tell_breaker(endpoint.address, breaker)
        if breaker.state is State.OPEN:
            wait_s = max(0.0, breaker.reopens_us / 1e6 - self._clock.monotonic_s())
            if self._fleet is not None and event in (Event.PROBE_FAILED, Event.PROBE_GIVEN_UP):
                self._spawn(self._give_way(self._fleet, endpoint, breaker.generation, wait_s))
            else:
                self._look_again(endpoint, wait_s)
        elif breaker.state is State.HALF_OPEN:
            self.nudge_later(endpoint)
        elif self._fleet is not None and event is Event.PROBE_SUCCEEDED:
            # Whoever does not follow us, because it knows a higher number, has to find out for itself.
            self._spawn(self._fleet.end_probe(endpoint.address))
        self._on_move()

    def counts_changed(self, endpoint: Guarded) -> None:
        """Judge *endpoint* by what all instances have counted."""
        breaker, old = endpoint.breaker, endpoint.breaker.state
        now_us = self._now_us()
        calls = failures = 0
        if self._fleet is not None:
            calls, failures = self._fleet.counts.of_others(
                endpoint.address, breaker.term, breaker.policy.window_us / 1e6
            )
        event = breaker.on_fleet_counts(calls, failures, now_us, endpoint.counted(now_us))
        if event is not None:
            self.moved(endpoint, old, event)

    def hold(self, endpoint: Guarded, fact: HoldFact | None) -> None:
        """Hold the breaker of *endpoint* as an operator said, until then; None lets go of it."""
        if fact is not None and fact.until_us <= self._clock.now_us():
            fact = None
        if fact == endpoint.hold:
            return
        endpoint.hold = fact
        old = endpoint.breaker.state
        event = endpoint.breaker.hold(State.CLOSED if fact is None else fact.state, self._now_us())
        if fact is not None:

            def over() -> None:
                if endpoint.hold is fact:
                    self.hold(endpoint, None)

            self._clock.call_later((fact.until_us - self._clock.now_us()) / 1e6, over)
        if event is not None:
            self.moved(endpoint, old, event)

    def _look_again(self, endpoint: Guarded, wait_s: float) -> None:
        generation = endpoint.breaker.generation

        def cool_down_over() -> None:
            # Another move has its own timer.
            if endpoint.removed or endpoint.breaker.generation != generation:
                return
            left_s = endpoint.breaker.reopens_us / 1e6 - self._clock.monotonic_s()
            if left_s > EARLY_S:
                self._look_again(endpoint, left_s)
            elif self._fleet is None:
                self._half_open(endpoint)
            else:
                self._spawn(self._claim(self._fleet, endpoint, generation))

        self._clock.call_later(wait_s, cool_down_over)

    async def _give_way(self, fleet: Fleet, endpoint: Guarded, generation: int, wait_s: float) -> None:
        """Let others probe once the cool-down is over; look ourselves in *wait_s*, or a little later."""
        await fleet.end_probe(endpoint.address)
        if fleet.others_want_to_probe(endpoint.address):
            # The endpoint may be out of reach for this instance alone.
            wait_s += MAX_LOOK_S
        if not endpoint.removed and endpoint.breaker.generation == generation:
            self._look_again(endpoint, wait_s)

    async def _claim(self, fleet: Fleet, endpoint: Guarded, generation: int) -> None:
        until_s: float | None = None
        # Without a connection the right would be of no use here, and kept from those who have one.
        if endpoint.link is Link.CONNECTED:
            until_s = await fleet.may_probe(endpoint.address, self._lease_s)
        if endpoint.removed or endpoint.breaker.generation != generation:
            return
        if until_s is not None:
            self._half_open(endpoint, int(until_s * 1e6))
        else:
            self._look_again(endpoint, min(MAX_LOOK_S, self._lease_s / 2))

    def _half_open(self, endpoint: Guarded, until_us: int = NO_END_US) -> None:
        # A timer may fire a rounding error early; the cool-down is over when it has fired.
        now_us = max(self._now_us(), endpoint.breaker.reopens_us)
        event = endpoint.breaker.on_cool_down_over(now_us, until_us)
        if event is not None:
            self.moved(endpoint, State.OPEN, event)

    def nudge_later(self, endpoint: Guarded) -> None:
        """Probe a half-open endpoint ourselves if no call has by then: traffic may have gone elsewhere."""
        breaker = endpoint.breaker
        generation = breaker.generation

        def nudge() -> None:
            if endpoint.removed or breaker.generation != generation or breaker.probing:
                return
            if endpoint.link is Link.CONNECTED and self._now_us() < breaker.probe_until_us:
                self._spawn(self._probe(endpoint))
                return
            # The right to probe is of no use to us without a connection; another instance may have one.
            event = breaker.on_probe_given_up(self._now_us())
            if event is not None:
                self.moved(endpoint, State.HALF_OPEN, event)

        self._clock.call_later(min(MAX_NUDGE_S, self._lease_s / 4), nudge)

    def _now_us(self) -> int:
        return int(self._clock.monotonic_s() * 1e6)
