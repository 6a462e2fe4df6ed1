"""
When an endpoint is dialled again after what failed or broke, and whether calls wait for it.

Attempts for the first connection and for further ones are counted apart, because a server that refuses a
further one still answers on those it has.
"""

from __future__ import annotations

from random import Random

from silence_gateway.core.backoff import Backoff, wait_us

# The first wait is short because most endpoints that go away are being restarted; the cap keeps recovery
# of one that was away for long within seconds, and a refused connection costs next to nothing.
RECONNECT = Backoff(first_us=100_000, cap_us=5_000_000, floor_us=20_000)

STABLE_S = 10.0
"""A connection that lived this long clears the count of failed attempts; one that flaps does not."""
GOODBYE_STABLE_S = 0.5
"""Servers end connections of a certain age, a second or more, in good order; only doing so at once is odd."""


class Redials:
    """Counts the attempts to reach one endpoint that came to nothing."""

    __slots__ = ("_failed", "_failed_further", "_rng")

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._failed = 0
        self._failed_further = 0

    @property
    def soon(self) -> bool:
        """Whether the next wait is too short to turn calls away for; later ones are not."""
        return self._failed <= 1

    def wait_s(self, *, further: bool) -> float:
        """Return how long to wait before dialling, in seconds; *further* is beside those that stand."""
        failed = self._failed_further if further else self._failed
        return wait_us(RECONNECT, failed - 1, self._rng.random()) / 1e6 if failed else 0.0

    def failed(self, *, further: bool) -> None:
        """Count an attempt that failed."""
        if further:
            self._failed_further += 1
        else:
            self._failed += 1

    def stands(self) -> None:
        """A connection stands, so further ones are not refused; whether it lasts is yet to be seen."""
        self._failed_further = 0

    def lost(self, lived_s: float, *, goodbye: bool) -> None:
        """
        The last connection is gone.

        Args:
            lived_s: How long it stood, in seconds.
            goodbye: Whether the server ended it in good order.
        """
        stable = lived_s >= (GOODBYE_STABLE_S if goodbye else STABLE_S)
        self._failed = 0 if stable else self._failed + 1

    def forget(self) -> None:
        """Whoever dials next shall not wait for what went wrong before."""
        self._failed = 0
