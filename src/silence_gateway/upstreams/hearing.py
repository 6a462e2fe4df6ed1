"""
What is done about what other gateways say of our endpoints (`fleet.py` hears it).

Each word becomes a change of one endpoint's health or a move of its breaker. Which words count is decided in
`core/health.py` and `core/breaker.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from silence_gateway.clock import Clock
from silence_gateway.core.breaker import State
from silence_gateway.core.fleet_facts import HealthFact, HoldFact, read_hold, written_hold
from silence_gateway.core.health import Health
from silence_gateway.upstreams.breakers import Breakers
from silence_gateway.upstreams.endpoint import Endpoint
from silence_gateway.upstreams.fleet import Fleet
from silence_gateway.upstreams.places import Places
from silence_gateway.upstreams.record import LastCheck

MERGE_S = 0.25
"""How often what breakers have counted is shared; only while somebody sees failures."""


class Hearing:
    """Carries out what the fleet says about *endpoints*, by address. `attach` it before the fleet speaks."""

    def __init__(self, endpoints: Mapping[str, Endpoint], clock: Clock) -> None:
        self._endpoints = endpoints
        self._clock = clock
        self._breakers: Breakers
        self._places: Places

    def attach(self, breakers: Breakers, places: Places) -> None:
        """Name who moves breakers and who hands out places."""
        self._breakers = breakers
        self._places = places

    def on_health(self, address: str, health: Health, fact: HealthFact) -> None:
        """Take over a verdict as it counts here."""
        endpoint = self._endpoints[address]
        endpoint.vouched = True
        record = endpoint.record
        record.checked_by(fact.by, fact.since_us or self._clock.now_us())
        record.check = LastCheck(outcome=fact.last, at_us=fact.checked_us or self._clock.now_us(), by=fact.by)
        if endpoint.health is not health:
            endpoint.health = health
            if health is not Health.HEALTHY:
                endpoint.last_error = f"health check of another instance: {fact.last.value}"
            self._places.reconsider()

    def on_breaker(self, address: str, state: State, term: int, age_us: int, by: str) -> None:
        """Follow another instance's breaker if it knows better."""
        endpoint = self._endpoints[address]
        old = endpoint.breaker.state
        event = endpoint.breaker.adopt(state, term, age_us, int(self._clock.monotonic_s() * 1e6))
        if event is not None:
            self._breakers.moved(endpoint, old, event, by)

    def on_hold(self, address: str, fact: HoldFact | None) -> None:
        """Hold a breaker as an operator told another instance, or let go of it."""
        self._breakers.hold(self._endpoints[address], fact)

    def hold(
        self, address: str, state: State, reason: str, ttl_s: float, *, by: str, fleet: Fleet | None
    ) -> None:
        """
        Hold a breaker here and, if there is a *fleet*, everywhere; CLOSED lets go of it.

        Raises:
            KeyError: If there is no such endpoint.
            ValueError: If the others would refuse to read this.
        """
        fact = None
        if state is not State.CLOSED:
            until_us = self._clock.now_us() + round(ttl_s * 1e6)
            fact = read_hold(written_hold(HoldFact(state=state, reason=reason, until_us=until_us, by=by)))
        self._breakers.hold(self._endpoints[address], fact)
        if fleet is not None:
            fleet.tell_hold(address, fact, ttl_s)

    def on_counts(self, address: str) -> None:
        """Judge by everybody's counts, which changed."""
        self._breakers.counts_changed(self._endpoints[address])

    async def merge_counts(self, fleet: Fleet) -> None:
        """Share what our breakers have counted and judge by everybody's counts, until cancelled."""
        while True:
            await self._clock.sleep(MERGE_S)
            for endpoint in tuple(self._endpoints.values()):
                fleet.share_counts(endpoint.address, endpoint.breaker)
                self._breakers.counts_changed(endpoint)
