"""
How many streams a peer has room for: what it says, and less for a moment after it turned one away.

Servers count a call for a moment longer than its answer takes to arrive (grpcio does), so that a client
that begins the next one at once is turned away although it keeps to the cap. Whoever goes on at the cap
then is turned away again and again; with one stream fewer there is room for what the server still counts.
"""

from __future__ import annotations

from collections.abc import Callable

from silence_gateway.clock import Clock, Timer

PATIENCE_S = 0.1
"""After so long half of what was taken off the cap is tried again."""


class StreamCap:
    """
    The cap on streams of one connection. *changed* is told the cap whenever it moves.

    Attributes:
        said: What the peer says, or less if our own settings ask for less.
    """

    __slots__ = ("_cap", "_changed", "_clock", "_timer", "said")

    def __init__(self, said: int, clock: Clock, changed: Callable[[int], None]) -> None:
        self.said = self._cap = said
        self._clock = clock
        self._changed = changed
        self._timer: Timer | None = None

    def say(self, said: int) -> None:
        """Take note of what the peer says from now on; whatever it turned away was before that."""
        self.stop()
        self.said = said
        self._move(said)

    def turned_away(self, in_flight: int) -> None:
        """Take note that the peer had no room for one more than *in_flight* streams."""
        self._move(min(self._cap, max(1, in_flight)))
        if self._timer is None and self._cap < self.said:
            self._timer = self._clock.call_later(PATIENCE_S, self._try_more)

    def stop(self) -> None:
        """Hold no timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _try_more(self) -> None:
        self._timer = None
        self._move(self.said - (self.said - self._cap) // 2)
        if self._cap < self.said:
            self._timer = self._clock.call_later(PATIENCE_S, self._try_more)

    def _move(self, cap: int) -> None:
        self._cap = cap
        self._changed(cap)
