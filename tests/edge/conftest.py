"""A real server on a loopback port, raw clients, and both event loops."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import pytest
import uvloop

from silence_gateway.clock import Clock
from silence_gateway.core.http import Handler, Request, Response
from silence_gateway.edge.listen import open_sockets
from silence_gateway.edge.server import HttpServer
from silence_gateway.edge.settings import ServerSettings
from silence_gateway.events import Event

DEADLINE_S = 10.0

Run: TypeAlias = Callable[[Coroutine[Any, Any, None]], None]


async def say_hello(request: Request) -> Response:
    """Answer with what was asked for, so that a test can see it."""
    said = f"{request.method} {request.target} {len(request.body)}".encode()
    return Response(200, [(b"content-type", b"text/plain")], said)


@dataclass
class Served:
    """A running server and how to talk to it."""

    server: HttpServer
    port: int
    noticed: list[Event] = field(default_factory=list)
    client_tls: ssl.SSLContext | None = None

    async def connect(
        self, receive_buffer: int | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a connection; a small *receive_buffer* makes for a slow reader."""
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        except OSError:
            sock.close()
            raise
        name = "localhost" if self.client_tls else None
        limit = 1024 if receive_buffer is not None else 2**16
        return await asyncio.open_connection(
            sock=sock, ssl=self.client_tls, server_hostname=name, limit=limit
        )

    def stop_reading(self, writer: asyncio.StreamWriter) -> None:
        """Make the client of *writer* one that reads nothing any more."""
        cast("asyncio.Transport", writer.transport).pause_reading()

    async def exchange(self, data: bytes, *, half_close: bool = False) -> bytes:
        """Send *data* and return everything that comes until the server ends the connection."""
        reader, writer = await self.connect()
        try:
            writer.write(data)
            if half_close:
                writer.write_eof()
            return await asyncio.wait_for(reader.read(-1), DEADLINE_S)
        finally:
            writer.close()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when *condition* holds; fail if it does not within the deadline."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():  # noqa: ASYNC110 - what is waited for is a count, not an event
                # Turns of the loop, not time: every turn lets the server act on its sockets.
                await asyncio.sleep(0.001)


Serving: TypeAlias = Callable[..., AbstractAsyncContextManager[Served]]


@asynccontextmanager
async def serve(
    handler: Handler = say_hello,
    *,
    clock: Clock | None = None,
    tls: ssl.SSLContext | None = None,
    client_tls: ssl.SSLContext | None = None,
    **settings: Any,
) -> AsyncIterator[Served]:
    """Run a server while inside."""
    sockets = open_sockets(["127.0.0.1:0"], reuse_port=False)
    port = sockets[0].getsockname()[1]
    noticed: list[Event] = []
    server = HttpServer(handler, ServerSettings(**settings), clock, noticed.append)
    await server.start(sockets, tls)
    try:
        yield Served(server, port, noticed, client_tls)
    finally:
        await asyncio.wait_for(server.abort(), DEADLINE_S)


@pytest.fixture(scope="session")
def serving() -> Serving:
    """Return what runs a server while inside."""
    return serve


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Return what runs a coroutine, on one event loop and then on the other."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run_it(coroutine: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(asyncio.wait_for(coroutine, 30))

    return run_it
