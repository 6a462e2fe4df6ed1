"""
The probe of a half-open breaker when no call comes to be it: one health check.

Who may probe, and when, is decided elsewhere (`breakers.py`, `fleet.py`).
"""

from __future__ import annotations

from silence_gateway.clock import Clock
from silence_gateway.core.breaker import State
from silence_gateway.core.health import Check
from silence_gateway.upstreams.breakers import Breakers
from silence_gateway.upstreams.guarded import Guarded
from silence_gateway.upstreams.health import Checker
from silence_gateway.upstreams.places import Places
from silence_gateway.upstreams.settings import UpstreamSettings


class Prober:
    """Probes endpoints of one upstream. `attach` it before it is asked to."""

    def __init__(self, settings: UpstreamSettings, check: Checker, clock: Clock) -> None:
        health = settings.health
        self._timeout_s = health.timeout_s if health is not None else settings.timeout_s
        self._check = check
        self._clock = clock
        self._breakers: Breakers
        self._places: Places

    def attach(self, breakers: Breakers, places: Places) -> None:
        """Name who moves breakers and who hands out places."""
        self._breakers = breakers
        self._places = places

    async def probe(self, endpoint: Guarded) -> None:
        """Probe *endpoint* if nobody does; its breaker moves by the answer."""
        breaker = endpoint.breaker
        connection = endpoint.any_connection()
        if connection is None or not breaker.claim_probe():
            return
        self._places.reconsider()
        generation = breaker.generation
        # Beyond the end of our right another instance may probe.
        deadline_s = min(self._clock.monotonic_s() + self._timeout_s, breaker.probe_until_us / 1e6)
        outcome, error = await self._check(connection, deadline_s)
        now_us = int(self._clock.monotonic_s() * 1e6)
        if outcome is Check.SERVING:
            event = breaker.on_success(generation, now_us)
        else:
            endpoint.last_error = error
            event = breaker.on_failure(generation, now_us)
        if event is not None:
            self._breakers.moved(endpoint, State.HALF_OPEN, event)
