"""
An HTTP/2 server: accepts connections, watches their time, and stops gracefully.

What a connection does is in `http2.py`, what requests mean is the business of the application that it is
given. There is one timer for all connections.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from random import Random

from silence_gateway.clock import Clock, SystemClock, Timer
from silence_gateway.edge.http2 import Http2Connection
from silence_gateway.edge.http2_settings import Http2Settings
from silence_gateway.edge.http2_statistics import Cap, Http2Statistics
from silence_gateway.edge.http2_streams import Application
from silence_gateway.edge.http2_sweep import sweep
from silence_gateway.edge.listen import accept
from silence_gateway.events import Noticed, Observer, nobody

SWEEPS_PER_TIMEOUT = 8
"""How finely the shortest timeout is watched; a timeout is late by at most two sweeps."""

MAX_SWEEP_S = 1.0
MIN_SWEEP_S = 0.02

# A client that is turned away comes back at once; its log lines must not fill a disk.
NOTICE_PERIOD_S = 1.0

# Both ways of a connection that reaches its age at the same moment as all others would meet again.
AGE_JITTER = 0.1


class Http2Server:
    """
    Serves *application* over HTTP/2 in one event loop: in clear text by prior knowledge, or over TLS by ALPN.

    Attributes:
        statistics: Counts, read when asked for.
        draining: Whether a graceful stop has begun.
    """

    def __init__(
        self,
        application: Application,
        settings: Http2Settings | None = None,
        clock: Clock | None = None,
        observer: Observer = nobody,
        rng: Random | None = None,
    ) -> None:
        self.application = application
        self.settings = settings or Http2Settings()
        self.clock: Clock = clock or SystemClock()
        self.observer = observer
        self.rng = rng or Random()  # noqa: S311 - spreads reconnects, guards nothing
        self.statistics = Http2Statistics()
        self.scheme = b"http"
        self.draining = False
        self.connections: set[Http2Connection] = set()
        self.lingering: set[asyncio.Future[object]] = set()  # work of streams that are gone
        self.loop: asyncio.AbstractEventLoop
        self.listeners: list[asyncio.Server] = []
        self.sweeper: Timer | None = None
        self.empty: asyncio.Event | None = None
        self.noticed_s: dict[Cap, float] = {}

    async def start(self, sockets: Sequence[socket.socket], tls: ssl.SSLContext | None = None) -> None:
        """
        Serve on bound *sockets* (`listen.open_sockets`), which belong to the server from now on.

        Args:
            sockets: TCP over IPv4 or IPv6, and unix sockets.
            tls: Encrypt with this context, which must offer h2 by ALPN (`listen.server_tls`).
        """
        self.loop = asyncio.get_running_loop()
        self.scheme = b"http" if tls is None else b"https"
        self.sweep()
        for sock in sockets:
            self.listeners.append(
                await accept(
                    sock, self.connection, tls, self.settings.header_timeout_s, self.settings.linger_s
                )
            )

    def stop_accepting(self) -> None:
        """Close the listening sockets; what is open goes on."""
        for listener in self.listeners:
            listener.close()
        self.listeners.clear()

    async def drain(self, timeout_s: float) -> int:
        """
        Stop gracefully: send every client away, finish what was asked, and return within *timeout_s*.

        Returns:
            How many connections had to be cut off; their handlers have been cancelled. Cancelling this
            leaves the rest open: call `abort` then.
        """
        self.stop_accepting()
        self.draining = True
        for connection in list(self.connections):
            connection.leave()
        if self.connections:
            self.empty = asyncio.Event()
            timer = self.clock.call_later(timeout_s, self.empty.set)
            try:
                await self.empty.wait()
            finally:
                timer.cancel()
        return await self.abort()

    async def abort(self) -> int:
        """Cut off what is still open, and wait for cancelled handlers; return how many connections it was."""
        self.stop_accepting()
        self.draining = True
        left = list(self.connections)
        self.empty = asyncio.Event()
        for connection in left:
            connection.transport.abort()
        if left:
            # Aborting is carried out on the loop's next turns.
            await self.empty.wait()
        if self.lingering:
            await asyncio.wait(self.lingering)
        if self.sweeper is not None:
            self.sweeper.cancel()
            self.sweeper = None
        return len(left)

    # What connections call.

    def connection(self) -> Http2Connection:
        """Return the protocol for a socket that was just accepted."""
        return Http2Connection(self)

    def admit(self, connection: Http2Connection) -> bool:
        """Count *connection*; False if there are too many already."""
        self.connections.add(connection)
        statistics = self.statistics
        statistics.connections_total += 1
        statistics.connections_open += 1
        if self.settings.max_age_s:
            spread = self.rng.uniform(1 - AGE_JITTER, 1 + AGE_JITTER)
            connection.watch.retire_s = connection.begun_s + self.settings.max_age_s * spread
        cap = self.settings.max_connections
        return not cap or statistics.connections_open <= cap

    def forget(self, connection: Http2Connection) -> None:
        """*connection* is gone."""
        if connection in self.connections:
            self.connections.discard(connection)
            self.statistics.connections_open -= 1
            if self.empty is not None and not self.connections:
                self.empty.set()

    def count_capped(self, cap: Cap, peer: str, text: str) -> None:
        """Count a client that ran into a bound, and tell the observer at most once a second."""
        self.statistics.capped[cap] += 1
        now_s = self.clock.monotonic_s()
        if now_s - self.noticed_s.get(cap, -NOTICE_PERIOD_S) >= NOTICE_PERIOD_S:
            self.noticed_s[cap] = now_s
            what = f"HTTP/2 client {peer or 'on a unix socket'} ran into {cap.value}: {text}"
            self.observer(Noticed(what=what, loudness="warning"))

    # Time.

    def sweep(self) -> None:
        """Watch the time of all connections, and come back."""
        now_s = self.clock.monotonic_s()
        for connection in list(self.connections):
            sweep(connection, now_s)
        self.sweeper = self.clock.call_later(self.sweep_interval_s(), self.sweep)

    def sweep_interval_s(self) -> float:
        """Return how long to wait between two looks at the clock."""
        settings = self.settings
        shortest_s = min(
            settings.header_timeout_s,
            settings.body_timeout_s,
            settings.idle_timeout_s,
            settings.stall_timeout_s,
            settings.linger_s,
            settings.age_grace_s,
            settings.max_age_s or MAX_SWEEP_S * SWEEPS_PER_TIMEOUT,
        )
        return min(MAX_SWEEP_S, max(MIN_SWEEP_S, shortest_s / SWEEPS_PER_TIMEOUT))
