"""WebSocket sessions on two gateway processes and one Valkey: stock clients, raw frames, a killed gateway."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import jwt
import pytest
from centrifuge import Client, PublicationContext, SubscriptionEventHandler
from tests.system.yard import Answer, Cafe, Gateway, Yard, until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from silence_gateway.testing.valkey import ValkeyServer, fresh_fleet

pytestmark = pytest.mark.system

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


@pytest.fixture(scope="module")
def fleet(shared_yard: Yard, cafe: Cafe, valkey: ValkeyServer) -> Fleet:
    config = CONFIG % (fresh_fleet(), valkey.url, cafe.address, SECRET)
    one, two, victim = (shared_yard.gateway(config, words=("ready",)) for _ in range(3))
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


class Heard(SubscriptionEventHandler):  # type: ignore[misc] # the library is not typed
    """Collects what a subscription hears."""

    def __init__(self) -> None:
        self.publications: asyncio.Queue[Any] = asyncio.Queue()

    async def on_publication(self, ctx: PublicationContext) -> None:
        await self.publications.put(ctx.pub.data)


@asynccontextmanager
async def stock_client(gateway: Gateway, user: str) -> AsyncIterator[Client]:
    client = Client(f"ws://127.0.0.1:{gateway.port}/connection/websocket", token=token(user))
    await client.connect()
    await client.ready(PATIENCE_S)
    try:
        yield client
    finally:
        await client.disconnect()


def test_stock_clients_on_two_gateways_talk(fleet: Fleet) -> None:
    async def scenario() -> None:
        async with stock_client(fleet.one, "ann") as ann, stock_client(fleet.two, "bob") as bob:
            heard = {"ann": Heard(), "bob": Heard()}
            rooms = [
                client.new_subscription("chat:room", heard[name])
                for name, client in (("ann", ann), ("bob", bob))
            ]
            for room in rooms:
                await room.subscribe()
                await room.ready(PATIENCE_S)
            await rooms[0].publish({"text": "grüß dich"})
            for each in heard.values():
                said = await asyncio.wait_for(each.publications.get(), PATIENCE_S)
                assert said == {"text": "grüß dich"}
            found = await rooms[1].presence()
            assert {info.user for info in found.clients.values()} == {"ann", "bob"}
            answer = await asyncio.to_thread(fleet.api, "publish", channel="chat:room", data=[1, 2])
            assert answer == {"result": {}}
            for each in heard.values():
                assert await asyncio.wait_for(each.publications.get(), PATIENCE_S) == [1, 2]

    asyncio.run(scenario())


def test_raw_frames_on_two_gateways(fleet: Fleet) -> None:
    with raw_client(fleet.one) as ann, raw_client(fleet.two) as bob:
        hello = ann.connected("ann-raw")
        assert hello["client"]
        assert hello["ping"] == 25
        bob.connected("bob-raw")
        ann.say(subscribe={"channel": "chat:raw"})
        bob.say(subscribe={"channel": "chat:raw"})
        assert [ann.push("join")["join"]["info"]["user"] for _ in range(2)] == ["ann-raw", "bob-raw"]

        assert bob.say(publish={"channel": "chat:raw", "data": {"n": 1}})["publish"] == {}
        heard = ann.push("pub")
        assert (heard["channel"], heard["pub"]["data"]) == ("chat:raw", {"n": 1})
        assert heard["pub"]["info"]["user"] == "bob-raw"

        assert presence(fleet.one, "chat:raw") == {"ann-raw", "bob-raw"}
        for gateway in (fleet.one, fleet.two):
            assert len(session_ids(gateway, channel="chat:raw")) == 2
        (record,) = fleet.two.admin("GET", "/api/v1/sessions?user=ann-raw").json()["sessions"]
        assert record["id"] == hello["client"]
        assert record["channels"] == ["chat:raw"]

        bob.say(unsubscribe={"channel": "chat:raw"})
        assert ann.push("leave")["leave"]["info"]["user"] == "bob-raw"
        until(lambda: presence(fleet.one, "chat:raw") == {"ann-raw"}, "the one that left is gone")


def test_many_commands_in_one_frame(fleet: Fleet) -> None:
    with raw_client(fleet.one) as raw:
        raw.socket.send(
            '{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"news"}}\n'
            '{"id":3,"subscribe":{"channel":"nowhere:x"}}\n{"id":4,"publish":{"channel":"news","data":1}}\n'
            '{"id":5,"rpc":{"method":"x"}}'
        )
        replies: dict[int, dict[str, Any]] = {}
        while len(replies) < 5:
            replies.update({message["id"]: message for message in raw.frame()})

    assert "connect" in replies[1]
    assert "subscribe" in replies[2]
    assert replies[3]["error"] == {"code": 102, "message": "unknown channel"}
    assert replies[4]["error"]["code"] == 103
    assert replies[5]["error"]["code"] in {104, 108}


def test_the_server_api(fleet: Fleet) -> None:
    assert fleet.api("publish", channel="nowhere:x", data=1)["error"] == {
        "code": 102,
        "message": "unknown channel",
    }
    assert call_api(fleet.one, "publish", {}, key="wrong").status == 401
    assert fleet.one.ask("POST", "/api/publish", {}).status == 401
    until(lambda: len(fleet.api("info")["result"]["nodes"]) >= 2, "both instances are known")
    with raw_client(fleet.two) as raw:
        raw.connected("dora")
        raw.say(subscribe={"channel": "chat:x"})
        answer = fleet.api("broadcast", channels=["chat:x", "news"], data={"all": True})
        assert [each["result"] for each in answer["result"]["responses"]] == [{}, {}]
        assert raw.push("pub")["pub"]["data"] == {"all": True}
        fleet.api("disconnect", user="dora")
        assert raw.closed_with() == 3503


def test_an_operator_ends_a_session_of_another_gateway(fleet: Fleet) -> None:
    with raw_client(fleet.two) as raw:
        session = raw.connected("gina")["client"]
        until(lambda: session_ids(fleet.one, user="gina") == [session], "the session is known")

        assert fleet.one.admin("DELETE", f"/api/v1/sessions/{session}").status == 200
        assert raw.closed_with() >= 3000
        until(lambda: session_ids(fleet.one, user="gina") == [], "the session is gone")
        assert fleet.one.admin("GET", f"/api/v1/sessions/{session}").status == 404


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        pytest.param(None, 101, id="a-program"),
        pytest.param("https://app.example.com", 101, id="listed"),
        pytest.param("https://evil.example.com", 403, id="foreign"),
        pytest.param("https://app.example.com.evil.org", 403, id="looks-alike"),
        pytest.param("null", 403, id="sandboxed"),
    ],
)
def test_pages_of_other_sites_may_not_connect(fleet: Fleet, origin: str | None, status: int) -> None:
    refused = fleet.one.metric("silence_session_refused_origins_total")
    if status == 101:
        with raw_client(fleet.one, origin) as raw:
            assert raw.connected()["client"]
        return
    with pytest.raises(InvalidStatus) as raised, raw_client(fleet.one, origin):
        pass

    assert raised.value.response.status_code == status
    assert fleet.one.metric("silence_session_refused_origins_total") == refused + 1


def test_bad_tokens_and_bad_frames_have_their_codes(fleet: Fleet) -> None:
    with raw_client(fleet.one) as raw:
        raw.socket.send(json.dumps({"id": 1, "connect": {"token": "x.y.z"}}))
        assert raw.closed_with() == 3500
    with raw_client(fleet.one) as raw:
        raw.socket.send(json.dumps({"id": 1, "connect": {"token": token("ann", -60)}}))
        assert raw.frame()[0]["error"]["code"] == 109
    for nonsense in ("no JSON", '{"id":1,"subscribe":{"channel":"news"}}', "[]"):
        with raw_client(fleet.one) as raw:
            raw.socket.send(nonsense)
            assert raw.closed_with() == 3501, nonsense
    assert fleet.one.metric("silence_ws_closes_total") >= 4


def test_sessions_of_a_killed_gateway_are_swept(fleet: Fleet) -> None:
    """Nobody stays present who is not there: twice ten seconds after the kill at the latest."""
    left_s = max(1.0, fleet.killed_s + 25 - time.monotonic())
    until(lambda: session_ids(fleet.two, user="eve") == [], "its session is gone", left_s)
    until(lambda: presence(fleet.two, "chat:attic") == set(), "its presence is gone", 5)

    swept = sum(gateway.metric("silence_sessions_swept_total") for gateway in (fleet.one, fleet.two))
    assert swept == 1
    assert fleet.one.admin("GET", f"/api/v1/sessions/{fleet.left_behind}").status == 404


def test_a_drained_gateway_sends_its_clients_elsewhere(fleet: Fleet) -> None:
    """Last in this file: it ends one of the two."""
    with raw_client(fleet.two) as raw:
        raw.connected("hugo")
        fleet.two.signal(signal.SIGTERM)

        assert raw.closed_with() == 3001
    assert fleet.two.wait(10) == 0
    until(lambda: session_ids(fleet.one, user="hugo") == [], "its session is gone")
