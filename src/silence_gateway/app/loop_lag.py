"""How late the event loop is: the first thing to look at when everything is slow at once."""

from __future__ import annotations

from silence_gateway.clock import Clock

INTERVAL_S = 0.25
# The worst of the last so many looks is shown: half a minute, longer than two scrapes are apart.
KEPT = 120


class LoopLag:
    """Measures by how much a timer is late, again and again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen = [0.0] * KEPT
        self._at = 0

    @property
    def worst_s(self) -> float:
        """The worst lateness of the last half minute, in seconds."""
        return max(self._seen)

    async def run(self) -> None:
        """Measure for ever; cancel it to end."""
        while True:
            asked_s = self._clock.monotonic_s()
            await self._clock.sleep(INTERVAL_S)
            self._seen[self._at] = max(0.0, self._clock.monotonic_s() - asked_s - INTERVAL_S)
            self._at = (self._at + 1) % KEPT
