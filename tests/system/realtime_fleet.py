"""Gateways that share WebSocket sessions, and a client that says exactly what it is told to."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jwt
import pytest
from tests.system.yard import Answer, Gateway, Yard, until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from silence_gateway.testing.valkey import ValkeyServer, fresh_fleet

SECRET = "a secret of at least thirty-two bytes"
PATIENCE_S = 10.0
CONFIG = """
name: %s
listen: "@listen@"
admin: {listen: "@admin@"}
store: {url: "%s"}
upstreams: {cafe: {endpoints: ["%s"]}}
telemetry: {access_log: none}
realtime:
  anonymous: true
  tokens: {hmac_secret: "%s"}
  api_key: let-me-in
  origins: ["https://app.example.com"]
  namespaces:
    "": {presence: true}
    chat: {publish: true, presence: true, join_leave: true}
"""


def token(user: str, ttl_s: int = 600) -> str:
    return jwt.encode({"sub": user, "exp": int(time.time()) + ttl_s}, SECRET, algorithm="HS256")


class Raw:
    """A client that says exactly what it is told to."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.waiting: list[dict[str, Any]] = []
        self.number = 0

    def say(self, **command: Any) -> dict[str, Any]:
        """Send one command and return its reply; pushes that come before it are kept."""
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, **command}))
        while True:
            for message in self.frame():
                if message.get("id") == self.number:
                    return message
                self.waiting.append(message)

    def connected(self, user: str = "") -> dict[str, Any]:
        """Connect as *user*; return what the server says of it."""
        reply: dict[str, Any] = self.say(connect={"token": token(user)} if user else {})["connect"]
        return reply

    def push(self, kind: str) -> dict[str, Any]:
        """Return the next push of *kind*; who joins is told of it as well, so others may come before."""
        while True:
            while self.waiting:
                found: dict[str, Any] = self.waiting.pop(0)["push"]
                if kind in found:
                    return found
            self.waiting += self.frame()

    def frame(self) -> list[dict[str, Any]]:
        """Return the messages of one frame; a ping is answered and is none."""
        text = self.socket.recv(PATIENCE_S)
        messages = [json.loads(line) for line in str(text).splitlines()]
        for message in messages:
            if message == {}:
                self.socket.send("{}")
        return [message for message in messages if message]

    def closed_with(self) -> int:
        """Return the code that the server closed with."""
        with pytest.raises(ConnectionClosed) as raised:
            while True:
                self.socket.recv(PATIENCE_S)
        received = raised.value.rcvd
        return 0 if received is None else received.code


@contextmanager
def raw_client(gateway: Gateway, origin: str | None = None) -> Iterator[Raw]:
    headers = {} if origin is None else {"Origin": origin}
    url = f"ws://127.0.0.1:{gateway.port}/connection/websocket"
    with connect(url, additional_headers=headers, proxy=None) as socket:
        yield Raw(socket)


@dataclass
class Fleet:
    """Two gateways; a third one was killed with a session on it."""

    one: Gateway
    two: Gateway
    left_behind: str
    killed_s: float

    def api(self, method: str, **params: Any) -> Any:
        """Call the server API of the first gateway."""
        answer = call_api(self.one, method, params)
        assert answer.status == 200
        return answer.json()


def call_api(gateway: Gateway, method: str, params: object, key: str = "let-me-in") -> Answer:
    return gateway.ask("POST", f"/api/{method}", params, {"X-API-Key": key})


def start_fleet(yard: Yard, valkey: ValkeyServer) -> Fleet:
    """Start three gateways, and kill one of them that has a session."""
    config = CONFIG % (fresh_fleet(), valkey.url, yard.cafe().address, SECRET)
    one, two, victim = (yard.gateway(config, words=("ready",)) for _ in range(3))
    with raw_client(victim) as raw:
        session = raw.connected("eve")["client"]
        raw.say(subscribe={"channel": "chat:attic"})
        until(lambda: session_ids(one, user="eve") == [session], "the others know the session")
        until(lambda: presence(one, "chat:attic") == {"eve"}, "the others see it in its channel")
        victim.signal(signal.SIGKILL)
        victim.wait()
    return Fleet(one, two, session, time.monotonic())


def session_ids(gateway: Gateway, **query: str) -> list[str]:
    """Return the sessions that a gateway knows of."""
    asked = "&".join(f"{key}={value}" for key, value in query.items())
    page = gateway.admin("GET", f"/api/v1/sessions?{asked}").json()
    return [session["id"] for session in page["sessions"]]


def presence(gateway: Gateway, channel: str) -> set[str]:
    """Return the users in a channel."""
    answer = call_api(gateway, "presence", {"channel": channel}).json()
    return {client["user"] for client in answer["result"]["presence"].values()}
