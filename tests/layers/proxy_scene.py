"""A gateway's layers in front of an HTTP origin that does as it is told, over loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeAlias, cast

from silence_gateway.clock import SystemClock
from silence_gateway.core.client_address import ProxyWalker
from silence_gateway.core.http import stack
from silence_gateway.edge.listen import open_sockets
from silence_gateway.edge.problems import answer_errors
from silence_gateway.edge.server import HttpServer
from silence_gateway.edge.settings import ServerSettings
from silence_gateway.events import Event
from silence_gateway.layers.identify import identify
from silence_gateway.layers.proxy import HttpProxy, ProxySettings
from silence_gateway.layers.route import (
    RouteMap,
    RouteRule,
    RouteSwitch,
    body_rule_of,
    find_route,
    serve_found,
)
from silence_gateway.upstreams.http_upstream import HttpUpstream
from silence_gateway.upstreams.settings import EndpointSettings, PoolSettings, UpstreamSettings

DEADLINE_S = 10.0


@dataclass
class Exchange:
    """One request as the origin got it, and the means to answer it."""

    head: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def line(self) -> bytes:
        return self.head.partition(b"\r\n")[0]

    def headers(self) -> dict[bytes, bytes]:
        """Every header; one that came twice fails the test."""
        found: dict[bytes, bytes] = {}
        for line in self.head.split(b"\r\n")[1:-2]:
            name, _, value = line.partition(b": ")
            assert name.lower() not in found, f"{name!r} twice"
            found[name.lower()] = value
        return found

    async def body(self) -> bytes:
        """Read the body by the framing that the head announces."""
        headers = self.headers()
        if headers.get(b"transfer-encoding") == b"chunked":
            out = bytearray()
            while size := int((await self.reader.readuntil(b"\r\n"))[:-2], 16):
                out += await self.reader.readexactly(size)
                assert await self.reader.readexactly(2) == b"\r\n"
            assert await self.reader.readexactly(2) == b"\r\n"
            return bytes(out)
        return await self.reader.readexactly(int(headers.get(b"content-length", b"0")))

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    def answer(self, body: bytes = b"ok", extra: bytes = b"", status: bytes = b"200 OK") -> None:
        self.say(b"HTTP/1.1 %b\r\ncontent-length: %d\r\n%b\r\n%b" % (status, len(body), extra, body))

    def end(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        cast("asyncio.Transport", self.writer.transport).abort()


Script: TypeAlias = Callable[[Exchange], Awaitable[None]]


async def say_ok(exchange: Exchange) -> None:
    await exchange.body()
    exchange.answer()


class Origin:
    """
    A server whose *script* is called for every request head.

    Attributes:
        heads: Every head it got.
        connections: How many were made.
        ended: Set when a connection has ended.
    """

    def __init__(self, script: Script = say_ok) -> None:
        self.script = script
        self.heads: list[bytes] = []
        self.connections = 0
        self.ended = asyncio.Event()
        self.port = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=2**20)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Refuse connections and break those there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                while not writer.is_closing():
                    head = await reader.readuntil(b"\r\n\r\n")
                    self.heads.append(head)
                    await self.script(Exchange(head, reader, writer))
        finally:
            self._tasks.discard(task)
            writer.close()
            self.ended.set()


@dataclass
class Front:
    """The gateway's side that clients see."""

    server: HttpServer
    upstream: HttpUpstream
    port: int
    noticed: list[Event] = field(default_factory=list)

    async def connect(
        self, receive_buffer: int | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection; a small *receive_buffer* makes for a slow reader."""
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        return await asyncio.open_connection(sock=sock, limit=1024 if receive_buffer is not None else 2**20)

    async def exchange(self, data: bytes) -> bytes:
        """Send *data* and return everything until the gateway ends the connection."""
        reader, writer = await self.connect()
        try:
            writer.write(data)
            return await asyncio.wait_for(reader.read(-1), DEADLINE_S)
        finally:
            writer.close()

    async def get(self, target: str = "/", extra: str = "", method: str = "GET") -> bytes:
        """Ask on a connection of its own and return the whole answer."""
        return await self.exchange(request(method, target, extra))

    async def until(self, condition: Callable[[], object]) -> None:
        """Return when *condition* holds; fail if it does not within the deadline."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():  # noqa: ASYNC110 - what is waited for is a count, not an event
                await asyncio.sleep(0.001)

    async def ready(self, count: int = 1) -> None:
        """Return when so many endpoints take requests."""
        await self.until(
            lambda: sum(one.state == "ready" for one in self.upstream.statistics.endpoints) >= count
        )


def request(method: str = "GET", target: str = "/", extra: str = "", body: bytes = b"") -> bytes:
    """Return a request as bytes, whose connection ends with its answer."""
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return (
        f"{method} {target} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n{length}{extra}\r\n".encode()
        + body
    )


@asynccontextmanager
async def front(
    *origins: Origin | str,
    proxy: ProxySettings | None = None,
    rules: tuple[RouteRule, ...] = (RouteRule(path="/**", upstream="web"),),
    trusted: tuple[str, ...] = (),
    server_settings: dict[str, Any] | None = None,
    **settings: Any,
) -> AsyncIterator[Front]:
    """Serve everything with *origins* while inside; *settings* are those of the upstream."""
    clock = SystemClock()
    noticed: list[Event] = []
    addresses = [one if isinstance(one, str) else one.address for one in origins]
    told = UpstreamSettings(
        name="web",
        endpoints=tuple(EndpointSettings(address=address) for address in addresses),
        pool=PoolSettings(max_connections=100, idle_timeout_s=4.0),
        health=None,
    )
    upstream = HttpUpstream(replace(told, **settings), clock=clock, observer=noticed.append)
    served = HttpProxy("web", upstream, proxy or ProxySettings(), ProxyWalker(trusted), clock)
    switch = RouteSwitch(RouteMap.build([], {}, rules, {"web": served}))
    handler = stack(answer_errors(noticed.append), identify(trusted), find_route(switch))(
        serve_found(switch, {}, clock)
    )
    sockets = open_sockets(["127.0.0.1:0"], reuse_port=False)
    server = HttpServer(handler, ServerSettings(**(server_settings or {})), clock, noticed.append)
    server.body_rule = body_rule_of(switch)
    port = sockets[0].getsockname()[1]
    await upstream.start()
    await server.start(sockets)
    try:
        found = Front(server, upstream, port, noticed)
        yield found
    finally:
        await asyncio.wait_for(server.abort(), DEADLINE_S)
        await upstream.stop(0)
