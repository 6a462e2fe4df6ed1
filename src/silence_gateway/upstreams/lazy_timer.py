"""
One timer for a time that keeps moving: it is set anew only when that comes closer.

One that rings too early looks again, so under load it is set once for many requests.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from silence_gateway.clock import Clock, Timer


class LazyTimer:
    """Calls *ring* once whenever the time given to `ring_at` has come."""

    __slots__ = ("_clock", "_due_s", "_ring", "_timer", "_timer_s")

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._due_s = inf
        self._timer: Timer | None = None
        self._timer_s = inf

    def ring_at(self, due_s: float) -> None:
        """Ring at *due_s*, monotonic seconds, and at no time said before; never at infinity."""
        self._due_s = due_s
        if due_s < self._timer_s:
            if self._timer is not None:
                self._timer.cancel()
            self._set(due_s)

    def stop(self) -> None:
        """Do not ring, and hold nothing."""
        self._due_s = self._timer_s = inf
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, due_s: float) -> None:
        self._timer_s = due_s
        self._timer = self._clock.call_later(max(0.0, due_s - self._clock.monotonic_s()), self._look)

    def _look(self) -> None:
        self._timer, self._timer_s = None, inf
        if self._due_s == inf:
            return
        if self._clock.monotonic_s() < self._due_s:
            self._set(self._due_s)
            return
        self._due_s = inf
        self._ring()
