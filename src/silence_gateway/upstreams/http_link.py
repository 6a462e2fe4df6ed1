"""
All sockets to one HTTP/1.1 endpoint, as the one connection that a pool sees (`dialing.Link`).

A socket carries one request at a time, so as many requests are in flight as there are sockets, at most
`max_sockets`. Sockets that are free are kept for a while, the one used last goes first, and one more is
opened when none is free. The link stands as long as its endpoint lets itself be dialled: when it does not,
the pool is told, and dials again in its own time.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from silence_gateway.clock import Clock, Timer
from silence_gateway.errors import UpstreamTimeout, UpstreamUnavailable
from silence_gateway.upstreams.addresses import parse_address
from silence_gateway.upstreams.dialing import why_not
from silence_gateway.upstreams.http_body import HttpAnswer
from silence_gateway.upstreams.http_connection import HttpConnection, StaleSocket
from silence_gateway.upstreams.http_contracts import HttpAsk
from silence_gateway.upstreams.http_doubt import doubt
from silence_gateway.upstreams.http_heads import AnswerHeads
from silence_gateway.upstreams.liveness import has_news
from silence_gateway.upstreams.statistics import TrafficCounts

SOONER_S = 1.0
"""A free socket is closed this much before the server would do it, so that no request meets its end."""

CLOSE_GRACE_S = 1.0
"""How long the goodbye of TLS may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """
    Bounds of one link.

    Attributes:
        max_sockets: Sockets, and so requests, at once.
        idle_timeout_s: How long a free socket is kept.
        connect_timeout_s: How long opening one may take, TLS included.
        tls: Encrypt with this context; None speaks plain text.
        server_name: The name to check the certificate for; None takes the address.
    """

    max_sockets: int
    idle_timeout_s: float
    connect_timeout_s: float
    tls: ssl.SSLContext | None = None
    server_name: str | None = None


class HttpLink:
    """
    The sockets to *address*.

    Attributes:
        open_streams: Requests in flight.
        max_streams: How many there may be.
        accepting: Whether the endpoint let itself be dialled when that was last tried.
        sockets: How many are open.
        opened: How many have been opened so far.
        statistics: What they and those before them have carried.
    """

    __slots__ = (
        "_address",
        "_authority",
        "_clock",
        "_closed",
        "_free",
        "_heads",
        "_on_capacity",
        "_on_lost",
        "_open",
        "_settings",
        "_sweeper",
        "accepting",
        "max_streams",
        "open_streams",
        "opened",
        "statistics",
    )

    def __init__(
        self,
        address: str,
        settings: LinkSettings,
        heads: AnswerHeads,
        clock: Clock,
        *,
        on_lost: Callable[[str], None],
        on_capacity: Callable[[], None],
    ) -> None:
        self.open_streams = self.opened = 0
        self.statistics = TrafficCounts()
        self.max_streams = settings.max_sockets
        self.accepting = True
        self._address = parse_address(address)
        self._authority = self._address.authority.encode("ascii")
        self._settings = settings
        self._heads = heads
        self._clock = clock
        self._on_lost = on_lost
        self._on_capacity = on_capacity
        self._free: list[HttpConnection] = []
        self._open: set[HttpConnection] = set()
        self._sweeper: Timer | None = None
        self._closed = False

    @property
    def sockets(self) -> int:
        """How many are open."""
        return len(self._open)

    async def open(self) -> None:
        """
        Open a first socket and keep it for the first request.

        Raises:
            UpstreamUnavailable: The endpoint cannot be reached.
        """
        self._keep(await self._dial())

    async def exchange(self, ask: HttpAsk, patience_s: float, limit_s: float = inf) -> HttpAnswer:
        """
        Send *ask* and return its answer as soon as the head is here; `HttpConnection.exchange` has the rest.

        A request that met a socket which its server had just closed is sent once more on a new one, if it
        may run twice.

        Raises:
            UpstreamUnavailable: The endpoint cannot be reached; the request never left.
        """
        self.open_streams += 1
        try:
            answer = await self._exchange(ask, patience_s, limit_s)
        except BaseException:
            self._ended()
            raise
        if answer.ended and answer.switched is None:
            self._ended()
        else:
            answer.on_end = lambda _error: self._ended()
        return answer

    async def reach(self) -> None:
        """
        Find out whether the endpoint accepts connections, by opening one and closing it.

        Raises:
            UpstreamUnavailable: It does not.
        """
        connection = await self._connect()
        connection.transport.close()

    async def close(self, *, graceful: bool = True) -> None:
        """End it: with *graceful* once the requests in flight are over, else at once, failing them."""
        self._closed = True
        self.accepting = False
        self._close_free()
        if not graceful:
            for connection in tuple(self._open):
                connection.abort()

    async def _exchange(self, ask: HttpAsk, patience_s: float, limit_s: float) -> HttpAnswer:
        while self._free:
            connection = self._free.pop()
            if connection.gone or connection.transport.is_closing():
                continue
            if not ask.can_repeat and has_news(connection.transport):
                # Its server has hung up; this may not be found out by sending what cannot be sent again.
                connection.transport.close()
                continue
            try:
                return await connection.exchange(ask, self._authority, patience_s, limit_s)
            except StaleSocket:
                if not ask.can_repeat:
                    raise
                # Its neighbours are most likely as old: begin afresh.
                self._close_free()
        connection = await self._dial_by(min(limit_s, self._clock.monotonic_s() + patience_s))
        return await connection.exchange(ask, self._authority, patience_s, limit_s)

    async def _dial_by(self, limit_s: float) -> HttpConnection:
        """Dial, within the time that the request has; how long is the endpoint's to answer for."""
        left_s = limit_s - self._clock.monotonic_s()
        if left_s >= self._settings.connect_timeout_s:
            return await self._dial()
        dialling = asyncio.ensure_future(self._dial())
        too_late = False

        def give_up() -> None:
            nonlocal too_late
            too_late = dialling.cancel()

        timer = self._clock.call_later(max(0.0, left_s), give_up)
        try:
            return await dialling
        except asyncio.CancelledError:
            if too_late:
                said = f"{self._address.shown} could not be connected to within the time there was"
                raise UpstreamTimeout(said, sent=False) from None
            if dialling.done() and not dialling.cancelled() and dialling.exception() is None:
                # It stood in the tick in which its caller left: somebody else can use it.
                self._freed(dialling.result(), reusable=True)
            raise
        finally:
            timer.cancel()

    async def _dial(self) -> HttpConnection:
        try:
            connection = await self._connect()
            if connection.gone or connection.transport.is_closing():
                # As servers do that stop, and balancers with nobody behind them.
                said = f"{self._address.shown} closed a new connection at once"
                # Who wants TLS waits for it; what is said in TLS 1.3 about a certificate gets lost.
                if connection.heard or self._settings.tls is not None:
                    known = self.statistics.bytes_in > 0
                    said += doubt(strange=connection.heard, known=known, tls=True)
                raise UpstreamUnavailable(said, sent=False)
        except UpstreamUnavailable as error:
            self._lost(str(error))
            raise
        if self._closed:
            connection.abort()
            raise UpstreamUnavailable(f"{self._address.shown}: closed here", sent=False)
        self._open.add(connection)
        self.opened += 1
        return connection

    async def _connect(self) -> HttpConnection:
        settings, where = self._settings, self._address
        loop = asyncio.get_running_loop()
        connection = HttpConnection(where.shown, self._heads, self._clock, self._freed, self.statistics)
        name = shutdown_s = None
        if settings.tls is not None:
            shutdown_s = CLOSE_GRACE_S
            name = settings.server_name or where.host or "localhost"
        try:
            async with asyncio.timeout(settings.connect_timeout_s):
                if where.path:
                    await loop.create_unix_connection(
                        lambda: connection,
                        where.path,
                        ssl=settings.tls,
                        server_hostname=name,
                        ssl_shutdown_timeout=shutdown_s,
                    )
                else:
                    await loop.create_connection(
                        lambda: connection,
                        where.host,
                        where.port,
                        ssl=settings.tls,
                        server_hostname=name,
                        ssl_shutdown_timeout=shutdown_s,
                    )
        except TimeoutError as error:
            raise UpstreamUnavailable(
                f"{where.shown} could not be connected to within {settings.connect_timeout_s:g} s",
                sent=False,
            ) from error
        except (OSError, ssl.SSLError) as error:
            raise UpstreamUnavailable(
                f"cannot connect to {where.shown}: {why_not(error)}", sent=False
            ) from error
        return connection

    def _ended(self) -> None:
        """One request less is in flight."""
        was_full = self.open_streams >= self.max_streams
        self.open_streams -= 1
        if was_full and self.accepting:
            self._on_capacity()

    def _lost(self, reason: str) -> None:
        if self.accepting and not self._closed:
            self.accepting = False
            self._close_free()
            self._on_lost(reason)

    def _freed(self, connection: HttpConnection, reusable: bool) -> None:
        """Keep *connection* if it can be used again; else it is gone."""
        if not reusable:
            self._open.discard(connection)
            if connection in self._free:
                self._free.remove(connection)
        elif self.accepting:
            self._keep(connection)
        else:
            connection.transport.close()

    def _keep(self, connection: HttpConnection) -> None:
        connection.idle_since_s = self._clock.monotonic_s()
        self._free.append(connection)
        if self._sweeper is None:
            self._sweeper = self._clock.call_later(self._keeps_s(connection), self._sweep)

    def _keeps_s(self, connection: HttpConnection) -> float:
        """Return how long a free *connection* is kept."""
        if connection.idle_s is None:
            return self._settings.idle_timeout_s
        return min(self._settings.idle_timeout_s, max(0.0, connection.idle_s - SOONER_S))

    def _sweep(self) -> None:
        """Close the sockets that nobody has used for long enough."""
        self._sweeper = None
        now_s = self._clock.monotonic_s()
        kept: list[HttpConnection] = []
        next_s = inf
        for connection in self._free:
            ends_s = connection.idle_since_s + self._keeps_s(connection)
            if ends_s <= now_s:
                connection.transport.close()
            else:
                kept.append(connection)
                next_s = min(next_s, ends_s)
        self._free = kept
        if kept:
            self._sweeper = self._clock.call_later(max(0.0, next_s - now_s), self._sweep)

    def _close_free(self) -> None:
        free, self._free = self._free, []
        for connection in free:
            connection.transport.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
