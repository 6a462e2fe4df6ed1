"""What an upstream does every second: penalties fade, slow starts go on, idle connections are closed."""

from __future__ import annotations

from collections.abc import Mapping

from silence_gateway.clock import Clock
from silence_gateway.upstreams.endpoint import Endpoint
from silence_gateway.upstreams.feedback import Feedback
from silence_gateway.upstreams.places import Places

TICK_S = 1.0


async def keep_house(
    endpoints: Mapping[str, Endpoint], places: Places, feedback: Feedback, clock: Clock, idle_timeout_s: float
) -> None:
    """Do so for *endpoints*, whoever they are by then, until cancelled."""
    trims_every = max(1, round(idle_timeout_s / 2 / TICK_S))
    ticks = 0
    while True:
        await clock.sleep(TICK_S)
        ticks += 1
        feedback.on_second(endpoints.values(), clock.monotonic_s())
        places.on_second()
        if ticks % trims_every == 0:
            for endpoint in endpoints.values():
                endpoint.trim()
