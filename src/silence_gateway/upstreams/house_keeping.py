"""
What an upstream does every second.

Penalties fade, slow starts go on, connections are closed, renewed and opened ahead of need, what the last
seconds say about repeats is learned and told, and what was counted is looked at so that the last minute can
be told from the rest.
"""

from __future__ import annotations

from collections.abc import Mapping

from silence_gateway.clock import Clock
from silence_gateway.upstreams.endpoint import Endpoint, Spawn
from silence_gateway.upstreams.feedback import Feedback
from silence_gateway.upstreams.places import Places
from silence_gateway.upstreams.record import LOOK_S
from silence_gateway.upstreams.repeating import Repeats
from silence_gateway.upstreams.retry_settings import BUDGET_TICKS

TICK_S = 1.0


async def keep_house(
    endpoints: Mapping[str, Endpoint],
    *,
    places: Places,
    feedback: Feedback,
    repeats: Repeats,
    clock: Clock,
    spawn: Spawn,
) -> None:
    """Do so for *endpoints*, whoever they are by then, until cancelled."""
    ticks = 0
    while True:
        await clock.sleep(TICK_S)
        ticks += 1
        feedback.on_second(endpoints.values(), clock.monotonic_s())
        places.on_second()
        repeats.tick(BUDGET_TICKS)
        # Beside this one: the store may take its time.
        spawn(repeats.budget.tick(TICK_S))
        if ticks % LOOK_S == 0:
            now_s = clock.monotonic_s()
            for endpoint in endpoints.values():
                endpoint.record.look(endpoint.codes, endpoint.durations, now_s)
        # Copied: a change of one may make somebody forget another.
        for endpoint in tuple(endpoints.values()):
            endpoint.tend()
