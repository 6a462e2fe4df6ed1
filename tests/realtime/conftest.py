"""A hub under a fake clock, clients without sockets, and words to talk to them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeAlias

import jwt
import pytest

from silence_gateway.events import Event
from silence_gateway.realtime.connection import Connection
from silence_gateway.realtime.hub import RealtimeHub
from silence_gateway.realtime.settings import NamespaceSettings, RealtimeSettings, TokenSettings
from silence_gateway.stores.memory import MemoryHub, MemoryStore
from silence_gateway.stores.sessions_memory import MemorySessions
from silence_gateway.testing.clock import FakeClock, settle

SECRET = "a secret of at least thirty-two bytes"
NAMESPACES = {
    "": NamespaceSettings(),
    "chat": NamespaceSettings(publish=True, join_leave=True),
    "quiet": NamespaceSettings(publish=True, presence=False),
}
SETTINGS = RealtimeSettings(
    tokens=TokenSettings(hmac_secret=SECRET), anonymous=True, namespaces=NAMESPACES, api_key="key"
)


def unframed(frames: bytes) -> list[bytes]:
    """Return the text messages in what a server wrote."""
    messages = []
    while frames:
        size, at = frames[1], 2
        if size == 126:
            size, at = int.from_bytes(frames[2:4], "big"), 4
        elif size == 127:
            size, at = int.from_bytes(frames[2:10], "big"), 10
        messages.append(frames[at : at + size])
        frames = frames[at + size :]
    return messages


class FakeSocket:
    """A `Socket` that keeps what it is given, and may be slow."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.waiting = 0
        self.closed: tuple[int, str] | None = None
        self.paused = False

    @property
    def buffered(self) -> int:
        return self.waiting

    def send_frames(self, frames: bytes) -> None:
        if self.closed is None:
            self.written.append(frames)

    def close(self, code: int, reason: str = "") -> None:
        self.closed = self.closed or (code, reason)

    def abort(self) -> None:
        self.close(1006)

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


@dataclass
class FakeClient:
    """One WebSocket client of a hub, without a wire."""

    connection: Connection
    socket: FakeSocket = field(default_factory=FakeSocket)
    last_id: int = 0

    def open(self) -> FakeClient:
        self.connection.on_open(self.socket)
        return self

    def send(self, *commands: dict[str, Any]) -> None:
        """Send commands in one frame, each with the next id."""
        lines = []
        for command in commands:
            self.last_id += 1
            lines.append(json.dumps({"id": self.last_id, **command}).encode())
        self.connection.on_text(b"\n".join(lines))

    def heard(self) -> list[dict[str, Any]]:
        """Return and forget what was received."""
        written, self.socket.written = self.socket.written, []
        texts = [text for frames in written for text in unframed(frames)]
        return [json.loads(line) for text in texts for line in text.split(b"\n")]

    async def ask(self, command: dict[str, Any]) -> dict[str, Any]:
        """Send one command and return its reply; what else was heard is forgotten."""
        self.send(command)
        await settle()
        return next(each for each in self.heard() if each.get("id") == self.last_id)

    async def connect(self, token: str = "") -> dict[str, Any]:
        return await self.ask({"connect": {"token": token}})

    async def subscribe(self, channel: str) -> dict[str, Any]:
        return await self.ask({"subscribe": {"channel": channel}})

    def gone(self, code: int = 1006) -> None:
        """The wire is gone."""
        self.connection.on_close(code, "")

    @property
    def id(self) -> str:
        return self.connection.session.client


@dataclass
class World:
    """A store and the hubs that share it, on one clock."""

    clock: FakeClock = field(default_factory=FakeClock)
    events: list[Event] = field(default_factory=list)
    hubs: list[RealtimeHub] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.memory = MemoryHub(self.clock)
        self.sessions = MemorySessions(self.clock)

    async def hub(self, settings: RealtimeSettings = SETTINGS) -> RealtimeHub:
        """Start one more instance."""
        store = MemoryStore(self.memory)
        hub = RealtimeHub(
            settings,
            sessions=self.sessions,
            bus=store.bus,
            board=store.board,
            instance_id=store.instance_id,
            clock=self.clock,
            observer=self.events.append,
            rng=Random(1),
        )
        await hub.start()
        await settle()
        self.hubs.append(hub)
        return hub

    def client(self, hub: RealtimeHub) -> FakeClient:
        return FakeClient(hub.listener_for()).open()

    async def connected(self, hub: RealtimeHub, user: str = "", *channels: str) -> FakeClient:
        """Return a client that has been let in, and is in *channels*."""
        client = self.client(hub)
        assert "connect" in await client.connect(self.token(user) if user else "")
        for channel in channels:
            assert "subscribe" in await client.subscribe(channel)
        await settle()
        client.heard()
        return client

    def token(self, user: str, secret: str = SECRET, **claims: Any) -> str:
        return jwt.encode({"sub": user, **claims}, secret, algorithm="HS256")

    def now_s(self) -> int:
        return self.clock.now_us() // 1_000_000

    def take_store_away(self) -> None:
        self.memory.go_away()
        self.sessions.away = True

    def give_store_back(self) -> None:
        self.memory.come_back()
        self.sessions.away = False

    async def stop(self) -> None:
        self.give_store_back()
        for hub in self.hubs:
            if hub.tasks:
                await hub.stop()


MakeWorld: TypeAlias = Callable[[], AbstractAsyncContextManager[World]]


@asynccontextmanager
async def open_world() -> AsyncIterator[World]:
    world = World()
    try:
        yield world
    finally:
        await world.stop()


@pytest.fixture
def make_world() -> MakeWorld:
    """Return a context manager that gives a world and stops its hubs."""
    return open_world
