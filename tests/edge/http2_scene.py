"""A gRPC server in memory, with a clock that stands still, and clients that send exactly what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from silence_gateway.edge.grpc_server import GrpcServer, Method, StreamCall, UnaryCall, streaming, unary
from silence_gateway.edge.http2_settings import Http2Settings
from silence_gateway.edge.http2_statistics import Cap
from silence_gateway.events import Event, Noticed
from silence_gateway.testing.clock import FakeClock
from silence_gateway.testing.h2_client import H2Client

ECHO, LATER, NEVER, BROKEN, CHAT, PUSH = (
    b"/test.Echo/" + name for name in (b"Echo", b"Later", b"Never", b"Broken", b"Chat", b"Push")
)


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """Run *scenario* on an event loop of its own, for at most ten seconds."""

    async def limited() -> None:
        async with asyncio.timeout(10):
            await scenario

    asyncio.run(limited())


@dataclass
class Scene:
    """
    A server and what it has come to.

    Attributes:
        running: Calls of `Later` and `Never` whose handler runs.
        cancelled: How many handlers were cancelled.
        go: Lets the handlers of `Later` answer.
    """

    clock: FakeClock
    noticed: list[Event] = field(default_factory=list)
    running: list[UnaryCall] = field(default_factory=list)
    cancelled: int = 0
    go: asyncio.Event = field(default_factory=asyncio.Event)
    stubborn: bool = False  # a cancelled handler of `Never` goes on until `go`
    server: GrpcServer = field(init=False)
    clients: list[H2Client] = field(default_factory=list)

    def client(self, *, greet: bool = True, extra: dict[str, Any] | None = None) -> H2Client:
        """Connect a client."""
        client = H2Client(self.server.connection, extra)
        self.clients.append(client)
        if greet:
            client.greet()
        return client

    def capped(self) -> dict[Cap, int]:
        """Return the bounds that were run into, and how often."""
        return {cap: count for cap, count in self.server.statistics.capped.items() if count}

    def said(self) -> list[str]:
        """Return what the observer was told."""
        return [event.what for event in self.noticed if isinstance(event, Noticed)]

    # Handlers.

    def echo(self, message: bytes, _call: UnaryCall) -> bytes:
        """Answer with the message, at once."""
        return message

    async def later(self, message: bytes, call: UnaryCall) -> bytes:
        """Answer with the message, when `go` is set."""
        await self.wait(call)
        return message

    async def wait(self, call: UnaryCall) -> None:
        """Wait until `go` is set."""
        self.running.append(call)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            if self.stubborn:
                await self.go.wait()
            raise
        finally:
            self.running.remove(call)

    def broken(self, _message: bytes, _call: UnaryCall) -> bytes:
        """Raise what nobody expects."""
        raise RuntimeError("a secret")

    async def chat(self, call: StreamCall) -> None:
        """Answer every message with itself."""
        async for message in call:
            await call.send(message)

    async def push(self, call: StreamCall) -> None:
        """Send as many messages of as many bytes as the message says."""
        count, size = (int(word) for word in (await call.only_message()).split())
        for _ in range(count):
            await call.send(bytes(size))

    def methods(self) -> dict[str, Method]:
        """Return the table of methods."""
        return {
            "test.Echo/Echo": unary(self.echo),
            "test.Echo/Later": unary(self.later),
            "test.Echo/Never": unary(self.later),
            "test.Echo/Broken": unary(self.broken),
            "test.Echo/Chat": streaming(self.chat),
            "test.Echo/Push": streaming(self.push),
        }


@asynccontextmanager
async def scene(
    more: dict[str, Method] | None = None,
    *,
    max_message_bytes: int = 4_194_304,
    fallback: Method | None = None,
    methods: Callable[[Scene], dict[str, Method]] | None = None,
    **settings: Any,
) -> AsyncIterator[Scene]:
    """Run a server while inside; at the end nothing of it may be left."""
    made = Scene(FakeClock())
    table = {**made.methods(), **(more or {}), **(methods(made) if methods else {})}
    made.server = GrpcServer(
        table,
        Http2Settings(**settings),
        made.clock,
        made.noticed.append,
        max_message_bytes=max_message_bytes,
        fallback=fallback,
    )
    await made.server.start([])
    try:
        yield made
    finally:
        made.go.set()
        await made.server.abort()
    for client in made.clients:
        connection = client.protocol
        assert connection.streams == {}, "a stream is left"  # type: ignore[attr-defined]
        assert not connection.lingering, "a handler is left"  # type: ignore[attr-defined]
        assert connection.unsent == connection.grants.lent == 0, "bytes are held"  # type: ignore[attr-defined]
    assert made.server.statistics.connections_open == 0
