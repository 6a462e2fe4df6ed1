"""
What is done about what other gateways say of our endpoints (`fleet.py` hears it).

Each word becomes a change of one endpoint's health or a move of its breaker. Which words count is decided in
`core/health.py` and `core/breaker.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from silence_gateway.clock import Clock
from silence_gateway.core.breaker import State
from silence_gateway.core.fleet_facts import HealthFact
from silence_gateway.core.health import Check, Health
from silence_gateway.upstreams.breakers import Breakers
from silence_gateway.upstreams.endpoint import Endpoint
from silence_gateway.upstreams.fleet import Fleet, told_s
from silence_gateway.upstreams.guarded import WHOLE, Guarded
from silence_gateway.upstreams.places import Places
from silence_gateway.upstreams.record import LastCheck
from silence_gateway.upstreams.upstream_breaker import UpstreamBreaker

MERGE_S = 0.25
"""How often what breakers have counted is shared; only while somebody sees failures."""


class Hearing:
    """Carries out what the fleet says about *endpoints*, by address. `attach` it before the fleet speaks."""

    def __init__(self, endpoints: Mapping[str, Endpoint], whole: UpstreamBreaker, clock: Clock) -> None:
        self._endpoints = endpoints
        self._whole = whole
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
        vouched, endpoint.vouched = endpoint.vouched, fact.last is not Check.SILENT
        record = endpoint.record
        record.checked_by(fact.by, fact.since_us or self._clock.now_us())
        record.check = LastCheck(outcome=fact.last, at_us=fact.checked_us or self._clock.now_us(), by=fact.by)
        if endpoint.health is not health:
            endpoint.health = health
            # A first good check may turn a verdict into a doubt: that is no error.
            if health is not Health.HEALTHY and fact.last is not Check.SERVING:
                endpoint.last_error = f"health check of another instance: {fact.last.value}"
            self._places.changed()
        elif endpoint.vouched is not vouched:
            self._places.changed()

    def on_breaker(self, address: str, state: State, term: int, age_us: int, by: str) -> None:
        """Follow another instance's breaker if it knows better."""
        endpoint = self._guarded(address)
        if endpoint is self._whole and not self._whole.automatic:
            return
        old = endpoint.breaker.state
        event = endpoint.breaker.adopt(state, term, age_us, int(self._clock.monotonic_s() * 1e6))
        if event is not None:
            self._breakers.moved(endpoint, old, event, by)

    def on_counts(self, address: str) -> None:
        """Judge by everybody's counts, which changed."""
        self._breakers.counts_changed(self._guarded(address))

    async def merge_counts(self, fleet: Fleet | None) -> None:
        """
        Share what our breakers have counted and judge by everybody's counts, until cancelled.

        Returns at once if nobody is to be judged so: an endpoint's own counts are judged call by call.
        """
        while fleet is not None or self._whole.automatic:
            await self._clock.sleep(MERGE_S)
            guarded: list[Guarded] = [self._whole] if self._whole.automatic else []
            if fleet is not None:
                guarded += self._endpoints.values()
                now_us = int(self._clock.monotonic_s() * 1e6)
                for one in guarded:
                    breaker = one.breaker
                    # Or one that comes later, and knows of no judgement, would be heard by nobody.
                    breaker.forget_term(round(told_s(breaker) * 1e6), now_us)
                    window_s = breaker.policy.window_us / 1e6
                    fleet.counts.tell(one.address, one.counted(now_us), term=breaker.term, window_s=window_s)
            for one in guarded:
                self._breakers.counts_changed(one)

    def _guarded(self, address: str) -> Guarded:
        return self._whole if address == WHOLE else self._endpoints[address]
