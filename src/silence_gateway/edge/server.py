"""
The HTTP server: accepts connections, watches their time, and stops gracefully.

What a connection does is in `http1.py` and `websocket.py`. There is one timer for all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import TypeAlias

from silence_gateway.clock import Clock, SystemClock, Timer
from silence_gateway.core.http import BodyRule, Handler, Request
from silence_gateway.core.http_head import Rejected
from silence_gateway.edge.heads import HeadReader
from silence_gateway.edge.http1 import Http1Connection
from silence_gateway.edge.http1_timeouts import sweep
from silence_gateway.edge.http1_writer import Prefixes
from silence_gateway.edge.listen import accept
from silence_gateway.edge.settings import ServerSettings
from silence_gateway.edge.statistics import Statistics
from silence_gateway.edge.tunnel import TunnelConnection
from silence_gateway.edge.websocket import WebSocketConnection
from silence_gateway.events import Observer, nobody

SWEEPS_PER_TIMEOUT = 8
"""How finely the shortest timeout is watched; a timeout is late by at most two sweeps."""

MAX_SWEEP_S = 1.0  # also how often the Date header is looked at
MIN_SWEEP_S = 0.02

OnRefused: TypeAlias = Callable[[str, Request | None, Rejected], None]


def unheard(_peer: str, _request: Request | None, _error: Rejected) -> None:
    """Nobody wants to know of refused requests; the statistics have them."""


class HttpServer:
    """
    Serves HTTP/1.1 and WebSockets with *handler*, in one event loop.

    Attributes:
        statistics: Counts, read when asked for.
        on_refused: Called for whatever is answered before the handler sees it: who asked, as much of the
            request as there is, and why.
        body_rule: Says of a request with a body whether its handler takes that as it comes; None: none does.
        draining: Whether a graceful stop has begun; every answer then ends its connection.
    """

    def __init__(
        self,
        handler: Handler,
        settings: ServerSettings | None = None,
        clock: Clock | None = None,
        observer: Observer = nobody,
    ) -> None:
        self.handler = handler
        self.settings = settings or ServerSettings()
        self.clock: Clock = clock or SystemClock()
        self.observer = observer
        self.statistics = Statistics()
        self.on_refused: OnRefused = unheard
        self.body_rule: Callable[[Request], BodyRule | None] | None = None
        self.heads = HeadReader()
        self.prefixes = Prefixes()
        self.scheme = "http"
        self.draining = False
        self.connections: set[Http1Connection] = set()
        self.websockets: set[WebSocketConnection | TunnelConnection] = set()
        self.closing_websockets: set[WebSocketConnection | TunnelConnection] = set()
        self.loop: asyncio.AbstractEventLoop
        self.listeners: list[asyncio.Server] = []
        self.sweeper: Timer | None = None
        self.empty: asyncio.Event | None = None
        self.outbox: list[tuple[asyncio.Transport, bytes]] = []

    async def start(self, sockets: Sequence[socket.socket], tls: ssl.SSLContext | None = None) -> None:
        """Serve on bound *sockets* (`listen.open_sockets`), which belong to the server from now on."""
        self.loop = asyncio.get_running_loop()
        self.scheme = "http" if tls is None else "https"
        self.sweep()
        for sock in sockets:
            self.listeners.append(await accept(sock, self.connection, tls, self.settings.header_timeout_s))

    def stop_accepting(self) -> None:
        """Close the listening sockets; what is open goes on."""
        for listener in self.listeners:
            listener.close()
        self.listeners.clear()

    async def drain(self, timeout_s: float) -> int:
        """
        Stop gracefully: finish what was asked, say goodbye on WebSockets, and return within *timeout_s*.

        Returns:
            How many connections had to be cut off; their handlers have been cancelled. Cancelling this
            leaves the rest open: call `abort` then.
        """
        self.stop_accepting()
        self.draining = True
        for connection in list(self.connections):
            connection.drain()
        for websocket in list(self.websockets):
            websocket.shut_down()
        self.empty = asyncio.Event()
        if self.connections or self.websockets:
            timer = self.clock.call_later(timeout_s, self.empty.set)
            await self.empty.wait()
            timer.cancel()
        return await self.abort()

    async def abort(self) -> int:
        """Cut off what is still open, at once; return how many there were."""
        self.stop_accepting()
        self.draining = True
        left: list[Http1Connection | WebSocketConnection | TunnelConnection] = [
            *self.connections,
            *self.websockets,
        ]
        tasks = [connection.task for connection in self.connections if connection.task is not None]
        self.empty = asyncio.Event()
        for connection in left:
            connection.transport.abort()
        if left:
            # Aborting is carried out on the loop's next turns.
            await self.empty.wait()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self.sweeper is not None:
            self.sweeper.cancel()
            self.sweeper = None
        return len(left)

    # What connections call.

    def send_outbox(self) -> None:
        """
        Send the answers of this loop tick, one write after the other.

        A write wakes the client's process when it sleeps, which costs more than the copy; written in a
        row, most find it awake. Measured with wrk on the other core: 4 us less per answer.
        """
        outbox, self.outbox = self.outbox, []
        for transport, data in outbox:
            # uvloop raises for a client that left meanwhile, and all answers behind it would be lost.
            if not transport.is_closing():
                transport.write(data)

    def connection(self) -> Http1Connection:
        """Return the protocol for a socket that was just accepted."""
        return Http1Connection(self)

    def admit(self, connection: Http1Connection) -> bool:
        """Count *connection*; False if there are too many already."""
        self.connections.add(connection)
        statistics = self.statistics
        statistics.connections_total += 1
        statistics.connections_open += 1
        cap = self.settings.max_connections
        return not cap or statistics.connections_open + statistics.websockets_open <= cap

    def forget(self, connection: Http1Connection) -> None:
        """*connection* is gone, or has become a WebSocket."""
        if connection in self.connections:
            self.connections.discard(connection)
            self.statistics.connections_open -= 1
            self.check_empty()

    def forget_websocket(self, websocket: WebSocketConnection | TunnelConnection) -> None:
        """*websocket* is gone."""
        if websocket in self.websockets:
            self.websockets.discard(websocket)
            self.closing_websockets.discard(websocket)
            self.statistics.websockets_open -= 1
            self.check_empty()

    def check_empty(self) -> None:
        """Wake whoever waits for the last connection to go."""
        if self.empty is not None and not self.connections and not self.websockets:
            self.empty.set()

    # Time.

    def sweep(self) -> None:
        """Watch the time of all connections, and come back."""
        self.prefixes.tick(self.clock.now_us() / 1_000_000)
        now_s = self.clock.monotonic_s()
        for connection in list(self.connections):
            sweep(connection, now_s)
        for websocket in list(self.closing_websockets):
            websocket.sweep(now_s)
        self.sweeper = self.clock.call_later(self.sweep_interval_s(), self.sweep)

    def sweep_interval_s(self) -> float:
        """Return how long to wait between two looks at the clock."""
        settings = self.settings
        shortest_s = min(
            settings.header_timeout_s,
            settings.body_timeout_s,
            settings.idle_timeout_s,
            settings.linger_s,
            settings.close_timeout_s,
        )
        return min(MAX_SWEEP_S, max(MIN_SWEEP_S, shortest_s / SWEEPS_PER_TIMEOUT))
