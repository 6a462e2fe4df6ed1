"""
How large a window an answer needs: the bandwidth-delay product, measured with one ping at a time.

What comes in between a ping and its acknowledgement is what the path holds. A window well above that never
holds the sender up; one that is filled to two thirds may, and is doubled. Nothing here reads a clock: a
larger product means more bytes in a round trip, however long that took.
"""

from __future__ import annotations

FULL_AT = 2 / 3
"""The share of the window that must have come in one round trip before it is taken for the bottleneck."""

GROWTH = 2


class WindowEstimate:
    """
    What one stream's window should be.

    Args:
        initial: What streams begin with, in bytes.
        most: The bound, in bytes; not below *initial*.

    Attributes:
        window: The window that is worth giving, in bytes. Never shrinks.
        measuring: A ping is on its way.
    """

    __slots__ = ("_at_ping", "_most", "measuring", "window")

    def __init__(self, initial: int, most: int) -> None:
        self.window = initial
        self.measuring = False
        self._most = most
        self._at_ping = 0

    @property
    def wants_ping(self) -> bool:
        """Whether another measurement could change anything."""
        return not self.measuring and self.window < self._most

    def on_ping_sent(self, received: int) -> None:
        """Begin a measurement; *received* counts bytes of the connection since any moment."""
        self.measuring = True
        self._at_ping = received

    def on_ping_answered(self, received: int) -> None:
        """End the measurement that was begun; harmless if there is none."""
        if not self.measuring:
            return
        self.measuring = False
        product = received - self._at_ping
        if product >= self.window * FULL_AT:
            self.window = min(self._most, max(self.window, product) * GROWTH)
