"""
The breaker of an upstream as a whole: for failures that its endpoints have in common.

It is a breaker like that of an endpoint, with the same states, the same fleet and the same operators
(`breakers.py` moves both). It differs in what it counts: every call, by endpoint, and all of them but those
of the worst endpoint decide (`core/common_failures.py`), so that one bad endpoint opens its own breaker only.
A row of failures opens nothing here: calls of many endpoints come in no order that would mean something.

A result counts if its call began in the present state. While the breaker is not closed no call begins but the
probe, so that is told by time alone and nothing has to be remembered for each call.
"""

from __future__ import annotations

from collections.abc import Mapping

from silence_gateway.clock import Clock
from silence_gateway.core.breaker import SHUT, Breaker, BreakerPolicy, Event, State
from silence_gateway.core.common_failures import Tallies
from silence_gateway.core.endpoints import Link
from silence_gateway.core.fleet_facts import HoldFact
from silence_gateway.upstreams.dialing import Connection
from silence_gateway.upstreams.endpoint import Endpoint
from silence_gateway.upstreams.guarded import WHOLE
from silence_gateway.upstreams.outcomes import Evidence
from silence_gateway.upstreams.record import BreakerHistory

LEAST_WAIT_S = 1.0
"""What a caller is told to wait while a probe is awaited or under way."""


class UpstreamBreaker:
    """
    See `guarded.Guarded`.

    Attributes:
        automatic: Whether calls are counted. If not, only an operator moves it.
    """

    address = WHOLE
    removed = False

    def __init__(self, policy: BreakerPolicy | None, endpoints: Mapping[str, Endpoint], clock: Clock) -> None:
        """Guard *endpoints*; *policy* is None for a breaker that only operators move."""
        self.automatic = policy is not None
        policy = policy or BreakerPolicy()
        self.breaker = Breaker(policy, int(clock.monotonic_s() * 1e6))
        self.hold: HoldFact | None = None
        self.history = BreakerHistory()
        self.last_error = ""
        self._patience_s = policy.patience_us / 1e6
        self._endpoints = endpoints
        self._clock = clock
        self._tallies = Tallies(policy.window_us)
        self._generation = self.breaker.generation
        self._since_s = clock.monotonic_s()

    @property
    def shut(self) -> bool:
        """Whether no call goes through, save for a probe."""
        return self.breaker.state in SHUT or self.breaker.state is State.HALF_OPEN

    @property
    def link(self) -> Link:
        """Connected if any endpoint is."""
        return Link.BROKEN if self.any_connection() is None else Link.CONNECTED

    @property
    def retry_after_s(self) -> float | None:
        """How long a caller that is turned away should wait; None if it is not turned away."""
        if not self.shut:
            return None
        if self.breaker.state is State.HELD_OPEN and self.hold is not None:
            return max(0.0, (self.hold.until_us - self._clock.now_us()) / 1e6)
        if self.breaker.state is State.HALF_OPEN:
            return LEAST_WAIT_S
        return max(LEAST_WAIT_S, self.breaker.reopens_us / 1e6 - self._clock.monotonic_s())

    def any_connection(self) -> Connection | None:
        """Return a connection to an endpoint that may be called, without waiting for one."""
        for endpoint in self._endpoints.values():
            connection = endpoint.any_connection() if endpoint.active else None
            if connection is not None:
                return connection
        for endpoint in self._endpoints.values():
            # Nobody calls while the breaker is open; who fell idle meanwhile is needed for the probe.
            if endpoint.link is Link.IDLE and endpoint.active:
                endpoint.with_room()
        return None

    def counted(self, now_us: int) -> tuple[int, int]:
        """Return the calls in the window and how many of them failed, without those of the worst endpoint."""
        return self._tallies.without_the_worst(now_us)

    def refresh(self) -> None:
        """Begin to count anew if the breaker moved; call it after any move, before the next call begins."""
        if self._generation != self.breaker.generation:
            self._generation = self.breaker.generation
            self._since_s = self._clock.monotonic_s()
            self._tallies.forget()

    def on_end(self, endpoint: Endpoint, begun_s: float, now_s: float, evidence: Evidence) -> Event | None:
        """
        Count a call to *endpoint* that began at *begun_s*; return the event that moved the breaker, if any.

        Silence counts if the endpoint had the time to answer: a caller's own tiny deadline does not.
        """
        if begun_s < self._since_s:
            return None
        failed = evidence is Evidence.FAILURE or (
            evidence is Evidence.SILENCE and now_s - begun_s >= self._patience_s
        )
        breaker, now_us = self.breaker, int(now_s * 1e6)
        if breaker.state is State.CLOSED:
            if failed:
                self.last_error = endpoint.last_error
            if failed or evidence is Evidence.ANSWER:
                self._tallies.count(endpoint, now_us, failed=failed)
            return None
        if breaker.state is not State.HALF_OPEN or not breaker.probing:
            return None
        if failed or evidence is Evidence.SILENCE:
            return breaker.on_failure(breaker.generation, now_us)
        if evidence is Evidence.ANSWER:
            return breaker.on_success(breaker.generation, now_us)
        breaker.on_nothing(breaker.generation)
        return None
