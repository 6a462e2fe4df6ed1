"""An ASGI server without sockets: it hands an app one request or one WebSocket and keeps what it answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from silence_gateway import LimitMiddleware, MessageLimit, RateLimiter, RouteLimit
from silence_gateway.asgi.protocol import ASGIApp, Message, Receive, Scope, Send
from silence_gateway.testing.clock import FakeClock

PEER = ("192.0.2.7", 4711)


@dataclass
class Answer:
    """What an app has sent."""

    messages: list[Message] = field(default_factory=list)

    @property
    def status(self) -> int:
        [start] = [message for message in self.messages if message["type"].endswith("response.start")]
        return int(start["status"])

    @property
    def headers(self) -> dict[str, str]:
        """The header lines of the head of an answer, or of an accepted handshake."""
        head = next(message for message in self.messages if "headers" in message)
        pairs = [(name.decode(), value.decode()) for name, value in head["headers"]]
        assert len(dict(pairs)) == len(pairs), f"a line is there twice: {pairs}"
        return dict(pairs)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def types(self) -> list[str]:
        return [message["type"] for message in self.messages]


def http_scope(path: str = "/", method: str = "GET", **more: Any) -> Scope:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"test")],
        "client": PEER,
        "server": ("127.0.0.1", 80),
        "extensions": {},
        **more,
    }


def websocket_scope(path: str = "/", **more: Any) -> Scope:
    scope = http_scope(path, **more)
    scope.update(type="websocket", scheme="ws", subprotocols=[])
    del scope["method"]
    return scope


async def request(app: ASGIApp, path: str = "/", method: str = "GET", **more: Any) -> Answer:
    """Make one request, and return its answer once the app has ended."""
    answer = Answer()
    incoming: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        return incoming.pop(0) if incoming else await asyncio.Event().wait()  # type: ignore[return-value]

    async def send(message: Message) -> None:
        answer.messages.append(message)

    await app(http_scope(path, method, **more), receive, send)
    return answer


@dataclass
class WebSocketClient:
    """The other end of one WebSocket."""

    incoming: asyncio.Queue[Message] = field(default_factory=asyncio.Queue)
    outgoing: asyncio.Queue[Message] = field(default_factory=asyncio.Queue)
    task: asyncio.Task[None] | None = None

    def say(self, *texts: str | bytes) -> None:
        for text in texts:
            kind = "text" if isinstance(text, str) else "bytes"
            self.incoming.put_nowait({"type": "websocket.receive", kind: text})

    def leave(self) -> None:
        self.incoming.put_nowait({"type": "websocket.disconnect", "code": 1001, "reason": ""})

    async def hear(self) -> Message:
        """Return what the app sends next."""
        return await asyncio.wait_for(self.outgoing.get(), 5)

    async def end(self) -> list[Message]:
        """Wait for the app to end, and return what it has sent that nobody has heard."""
        assert self.task is not None
        await asyncio.wait_for(self.task, 5)
        return [self.outgoing.get_nowait() for _ in range(self.outgoing.qsize())]


def connect(app: ASGIApp, path: str = "/", **more: Any) -> WebSocketClient:
    """Begin a WebSocket."""
    client = WebSocketClient()
    client.incoming.put_nowait({"type": "websocket.connect"})

    async def send(message: Message) -> None:
        client.outgoing.put_nowait(message)

    async def serve() -> None:
        await app(websocket_scope(path, **more), client.incoming.get, send)

    client.task = asyncio.get_running_loop().create_task(serve())
    return client


@dataclass
class App:
    """
    An app that answers everything, and can be told how.

    Attributes:
        seen: The paths that have reached it.
    """

    status: int = 200
    headers: Sequence[tuple[bytes, bytes]] = ()
    seen: list[str] = field(default_factory=list)
    instead: Callable[[Scope, Receive, Send], Awaitable[None]] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen.append(scope["path"])
        if self.instead is not None:
            await self.instead(scope, receive, send)
        elif scope["type"] == "websocket":
            await echo(scope, receive, send)
        else:
            await send({"type": "http.response.start", "status": self.status, "headers": [*self.headers]})
            await send({"type": "http.response.body", "body": b"hello"})


async def echo(_scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    """Say every message again, until the client has left."""
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] != "websocket.disconnect":
        await send({"type": "websocket.send", "text": message.get("text") or f"{message.get('bytes')!r}"})


@dataclass
class Scene:
    """An app with its limits, on a clock of its own."""

    clock: FakeClock = field(default_factory=FakeClock)
    app: App = field(default_factory=App)
    limiter: RateLimiter = field(init=False)
    limited: LimitMiddleware = field(init=False)

    def __post_init__(self) -> None:
        self.limiter = RateLimiter(clock=self.clock)

    def limit(self, *limits: RouteLimit | MessageLimit, **options: Any) -> Scene:
        self.limited = LimitMiddleware(self.app, limiter=self.limiter, limits=limits, **options)
        return self

    async def get(self, path: str = "/", method: str = "GET", **more: Any) -> Answer:
        return await request(self.limited, path, method, **more)

    async def statuses(self, times: int, path: str = "/", method: str = "GET", **more: Any) -> list[int]:
        return [(await self.get(path, method, **more)).status for _ in range(times)]

    @contextmanager
    def answering(self, instead: Callable[[Scope, Receive, Send], Awaitable[None]]) -> Iterator[None]:
        self.app.instead = instead
        yield
        self.app.instead = None


def headers(**named: str) -> list[tuple[bytes, bytes]]:
    """Return header lines as a server hands them over."""
    return [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in named.items()]
