"""
Asking a silent peer whether it is still there.

Costs nothing per call: one timer per interval compares the count of bytes received with what it was.

Servers of gRPC allow two pings that come sooner than five minutes after the last, and forget them when they
have sent headers or data; a third ends the connection. So a long silence is asked after twice at our own
interval, and from then on only as often as every such server allows, until an answer moves again.
"""

from __future__ import annotations

from collections.abc import Callable

from silence_gateway.clock import Clock, Timer
from silence_gateway.upstreams.connection_settings import ConnectionSettings
from silence_gateway.upstreams.statistics import ConnectionStatistics

PING_CONTENT = b"silence?"

FORGIVEN_PINGS = 2
"""Pings in a row, without headers or data of the peer between them, at our own interval."""

POLITE_INTERVAL_S = 305.0
"""Five minutes, and what a ping may be delayed less than the one before it."""


class Keepalive:
    """
    The pings of one connection.

    Args:
        send_ping: Sends a ping.
        in_flight: Tells how many calls wait for an answer.
        on_silence: Called when a ping was not followed by a single byte in time.

    Attributes:
        interval_s: Silence before a ping; doubled when the peer complained. None never pings.
        quiet_pings: Pings since the peer last sent headers or data; whoever reads these sets it to zero.
    """

    __slots__ = (
        "_clock",
        "_heard_bytes",
        "_in_flight",
        "_on_silence",
        "_pinged_s",
        "_send_ping",
        "_settings",
        "_statistics",
        "_timer",
        "interval_s",
        "quiet_pings",
    )

    def __init__(
        self,
        settings: ConnectionSettings,
        clock: Clock,
        statistics: ConnectionStatistics,
        *,
        send_ping: Callable[[], None],
        in_flight: Callable[[], int],
        on_silence: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._statistics = statistics
        self._send_ping = send_ping
        self._in_flight = in_flight
        self._on_silence = on_silence
        self._timer: Timer | None = None
        self._heard_bytes = 0
        self.interval_s = settings.keepalive_s
        self.quiet_pings = 0
        self._pinged_s = 0.0

    def start(self) -> None:
        """Begin to watch; harmless if pings are off."""
        if self.interval_s is not None:
            self._heard_bytes = self._statistics.bytes_in
            self._timer = self._clock.call_later(self.interval_s, self._look)

    def stop(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def on_complaint(self) -> None:
        """The peer says we ping too much (GOAWAY too_many_pings): ask half as often from now on."""
        if self.interval_s is not None:
            self.interval_s *= 2

    def on_other_ping(self) -> None:
        """A ping was sent for another reason; the peer counts it all the same."""
        self.quiet_pings += 1
        self._pinged_s = self._clock.monotonic_s()

    def _look(self) -> None:
        heard = self._statistics.bytes_in
        asks = self._settings.keepalive_without_calls or self._in_flight() > 0
        if heard != self._heard_bytes or not asks:
            self.start()
            return
        now_s = self._clock.monotonic_s()
        if self.quiet_pings >= FORGIVEN_PINGS and now_s - self._pinged_s < POLITE_INTERVAL_S:
            self.start()
            return
        self._send_ping()
        self.on_other_ping()
        self._statistics.pings_sent += 1
        self._timer = self._clock.call_later(self._settings.keepalive_timeout_s, self._judge)

    def _judge(self) -> None:
        if self._statistics.bytes_in == self._heard_bytes:
            waited_s = self._settings.keepalive_timeout_s
            self._on_silence(f"keepalive: no byte within {waited_s:g} s of a ping")
        else:
            self.start()
