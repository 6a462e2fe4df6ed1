"""
Noticing within a second or two that a peer which owes answers has stopped: a frozen process, a lost route.

Its kernel goes on taking what we send, so nothing breaks, and calls would only end with their deadlines. But
an HTTP/2 stack answers pings however busy its handlers are. So a peer that owes answers and has sent nothing
for a while is pinged, and is *silent* if that brings no byte either. It is only passed over then, and no
call in flight is given up: it may be a pause, and its first byte ends the silence.

Costs nothing per call: one timer per interval compares the count of bytes received with what it was. There is
at most one such ping between two answers, so that servers which count pings forgive it (`keepalive.py`).
"""

from __future__ import annotations

from collections.abc import Callable

from silence_gateway.clock import Clock, Timer
from silence_gateway.upstreams.keepalive import Keepalive
from silence_gateway.upstreams.statistics import ConnectionStatistics

LOOKS = 5
"""How often within one interval a silent peer is listened for."""


class SilenceWatch:
    """
    The silence of one connection.

    Args:
        interval_s: How long nothing must have come before a ping, and how long its answer may take; None
            never looks.
        send_ping: Sends a ping.
        in_flight: Tells how many calls wait for an answer.

    Attributes:
        silent: Whether the peer is.
        on_change: Called with that whenever it changes; also when the watch ends during a silence.
    """

    __slots__ = (
        "_clock",
        "_heard_bytes",
        "_in_flight",
        "_interval_s",
        "_keepalive",
        "_send_ping",
        "_statistics",
        "_timer",
        "on_change",
        "silent",
    )

    def __init__(
        self,
        interval_s: float | None,
        clock: Clock,
        statistics: ConnectionStatistics,
        keepalive: Keepalive,
        *,
        send_ping: Callable[[], None],
        in_flight: Callable[[], int],
    ) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self._statistics = statistics
        self._keepalive = keepalive
        self._send_ping = send_ping
        self._in_flight = in_flight
        self._heard_bytes = 0
        self._timer: Timer | None = None
        self.silent = False
        self.on_change: Callable[[bool], None] = lambda _silent: None

    def start(self) -> None:
        """Begin to watch; harmless if there is no interval."""
        if self._interval_s is not None:
            self._heard_bytes = self._statistics.bytes_in
            self._timer = self._clock.call_later(self._interval_s, self._look)

    def stop(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._turn(silent=False)

    def _look(self) -> None:
        interval_s = self._interval_s
        assert interval_s is not None
        # Without a ping of ours to answer, a peer may rightly say nothing.
        if self._has_spoken() or not self._in_flight() or self._keepalive.quiet_pings:
            self.start()
            return
        self._send_ping()
        self._keepalive.on_other_ping()
        self._statistics.pings_sent += 1
        self._timer = self._clock.call_later(interval_s, self._judge)

    def _judge(self) -> None:
        if self._has_spoken():
            self.start()
            return
        self._turn(silent=True)
        self._listen()

    def _listen(self) -> None:
        assert self._interval_s is not None
        if self._has_spoken():
            self._turn(silent=False)
            self.start()
            return
        self._timer = self._clock.call_later(self._interval_s / LOOKS, self._listen)

    def _has_spoken(self) -> bool:
        return self._statistics.bytes_in != self._heard_bytes

    def _turn(self, *, silent: bool) -> None:
        if silent is not self.silent:
            self.silent = silent
            self.on_change(silent)
