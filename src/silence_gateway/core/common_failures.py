"""
Whether the failures of a service have a cause in common, or are those of one endpoint.

Calls are tallied by endpoint over a sliding window, and the endpoint with the most failures is left out of
the sum: it has a breaker of its own, and what only it does must not open that of the whole service. With one
endpoint nothing is left, and its own breaker is all there is. Nothing here awaits or reads a clock.
"""

from __future__ import annotations

from collections.abc import Hashable

from silence_gateway.core.breaker import WINDOW_PARTS


class Tallies:
    """Calls and failures of each endpoint in the last *window_us*; times never step back."""

    __slots__ = ("_part", "_part_us", "_parts")

    def __init__(self, window_us: int) -> None:
        self._part_us = window_us // WINDOW_PARTS
        self._part = -1
        self._parts: list[dict[Hashable, list[int]]] = [{} for _ in range(WINDOW_PARTS)]

    def count(self, endpoint: Hashable, now_us: int, *, failed: bool) -> None:
        """Count a call of *endpoint* that has ended."""
        part = now_us // self._part_us
        if part != self._part:
            self._slide(part)
        tallies = self._parts[part % WINDOW_PARTS]
        tally = tallies.get(endpoint)
        if tally is None:
            tally = tallies[endpoint] = [0, 0]
        tally[0] += 1
        tally[1] += failed

    def without_the_worst(self, now_us: int) -> tuple[int, int]:
        """Return the calls and failures of all endpoints but the one with the most failures."""
        self._slide(now_us // self._part_us)
        totals: dict[Hashable, list[int]] = {}
        for part in self._parts:
            for endpoint, (calls, failures) in part.items():
                total = totals.setdefault(endpoint, [0, 0])
                total[0] += calls
                total[1] += failures
        worst = max(totals.values(), key=lambda total: total[1], default=[0, 0])
        return (
            sum(calls for calls, _ in totals.values()) - worst[0],
            sum(failures for _, failures in totals.values()) - worst[1],
        )

    def forget(self) -> None:
        """Begin anew."""
        for part in self._parts:
            part.clear()

    def _slide(self, part: int) -> None:
        # After a long pause every part is cleared once, not once for each part of the pause.
        for step in range(1, min(max(part - self._part, 0), WINDOW_PARTS) + 1):
            self._parts[(self._part + step) % WINDOW_PARTS].clear()
        self._part = max(part, self._part)
