"""
The stock client libraries, unmodified, over real sockets: two instances, one store.

Tested with centrifuge-python 0.7 and the npm package centrifuge 5.8 (tests/node/package-lock.json).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jwt
import pytest
from centrifuge import (
    Client,
    ClientEventHandler,
    DisconnectedContext,
    JoinContext,
    PublicationContext,
    SubscriptionEventHandler,
    UnsubscribedContext,
)

from silence_gateway.core.http import Request, Response
from silence_gateway.edge.listen import open_sockets
from silence_gateway.edge.server import HttpServer
from silence_gateway.errors import StoreUnavailable
from silence_gateway.realtime.door import SessionHub
from silence_gateway.realtime.settings import NamespaceSettings, RealtimeSettings, TokenSettings
from silence_gateway.stores.memory import MemoryHub, MemoryStore
from silence_gateway.stores.session_contract import SessionRecord
from silence_gateway.stores.sessions_memory import MemorySessions
from silence_gateway.stores.valkey import ValkeyStore
from silence_gateway.testing.store_checks import eventually
from silence_gateway.testing.valkey import ValkeyServer, fresh_fleet

pytestmark = pytest.mark.system

SECRET = "a secret of at least thirty-two bytes"
SETTINGS = RealtimeSettings(
    tokens=TokenSettings(hmac_secret=SECRET),
    anonymous=True,
    namespaces={"": NamespaceSettings(), "chat": NamespaceSettings(publish=True, join_leave=True)},
)
PATIENCE_S = 10.0
NODE = Path(__file__).parents[1] / "node"


@dataclass
class Instance:
    """One hub behind one HTTP server."""

    hub: SessionHub
    url: str


MakeHub = Callable[[RealtimeSettings], SessionHub]


@asynccontextmanager
async def served(hub: SessionHub) -> AsyncIterator[Instance]:
    """Serve *hub* on loopback."""
    endpoint = hub.endpoint()

    async def handle(request: Request) -> Response:
        return await endpoint(request)

    async with hub:
        server = HttpServer(handle)
        sockets = open_sockets(["127.0.0.1:0"], reuse_port=False)
        port = sockets[0].getsockname()[1]
        await server.start(sockets)
        try:
            yield Instance(hub, f"ws://127.0.0.1:{port}/connection/websocket")
        finally:
            await hub.drain(0)
            await server.drain(5)


def memory_fleet() -> MakeHub:
    """Return a maker of hubs that share memory."""
    fleet, sessions = MemoryHub(), MemorySessions()
    return lambda settings: SessionHub(settings, store=MemoryStore(fleet), sessions=sessions)


def on_two_instances(
    make_hub: MakeHub,
    scenario: Callable[[Instance, Instance], Awaitable[None]],
    settings: RealtimeSettings = SETTINGS,
) -> None:
    """Run *scenario* with two instances of one fleet."""

    async def run() -> None:
        async with AsyncExitStack() as stack:
            one = await stack.enter_async_context(served(make_hub(settings)))
            two = await stack.enter_async_context(served(make_hub(settings)))
            await scenario(one, two)

    asyncio.run(run())


def token(user: str, ttl_s: int = 600, **claims: Any) -> str:
    return jwt.encode({"sub": user, "exp": int(time.time()) + ttl_s, **claims}, SECRET, algorithm="HS256")


class Heard(SubscriptionEventHandler):  # type: ignore[misc] # the library is not typed
    """Collects what a subscription hears."""

    def __init__(self) -> None:
        self.publications: asyncio.Queue[PublicationContext] = asyncio.Queue()
        self.joins: asyncio.Queue[JoinContext] = asyncio.Queue()
        self.ends: asyncio.Queue[UnsubscribedContext] = asyncio.Queue()

    async def on_publication(self, ctx: PublicationContext) -> None:
        await self.publications.put(ctx)

    async def on_join(self, ctx: JoinContext) -> None:
        await self.joins.put(ctx)

    async def on_unsubscribed(self, ctx: UnsubscribedContext) -> None:
        await self.ends.put(ctx)


class Goodbyes(ClientEventHandler):  # type: ignore[misc] # the library is not typed
    """Collects how a client was disconnected."""

    def __init__(self) -> None:
        self.ends: asyncio.Queue[DisconnectedContext] = asyncio.Queue()

    async def on_disconnected(self, ctx: DisconnectedContext) -> None:
        await self.ends.put(ctx)


async def soon(awaitable: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(awaitable, PATIENCE_S)


@asynccontextmanager
async def python_client(url: str, **options: Any) -> AsyncIterator[Client]:
    client = Client(url, **options)
    await client.connect()
    await client.ready(PATIENCE_S)
    try:
        yield client
    finally:
        await client.disconnect()


async def talk_python(one: Instance, two: Instance) -> None:
    """Two Python clients on two instances hear each other."""
    async with (
        python_client(one.url, token=token("ann", info={"name": "Ann"})) as ann,
        python_client(two.url, token=token("bob")) as bob,
    ):
        heard_ann, heard_bob = Heard(), Heard()
        room_ann, room_bob = (
            ann.new_subscription("chat:room", heard_ann),
            bob.new_subscription("chat:room", heard_bob),
        )
        for room in (room_ann, room_bob):
            await room.subscribe()
            await room.ready(PATIENCE_S)
        await room_ann.publish({"text": "grüß dich"})
        await two.hub.publish("chat:room", ["from", "the", "server"])
        for heard in (heard_ann, heard_bob):
            first = await soon(heard.publications.get())
            second = await soon(heard.publications.get())
            by_text = {json.dumps(each.pub.data): each for each in (first, second)}

            said = by_text[json.dumps({"text": "grüß dich"})]
            assert said.pub.info.user == "ann"
            assert said.pub.info.conn_info == {"name": "Ann"}
            assert json.dumps(["from", "the", "server"]) in by_text
        presence = await room_bob.presence()
        stats = await room_ann.presence_stats()
        assert {each.user for each in presence.clients.values()} == {"ann", "bob"}
        assert (stats.num_clients, stats.num_users) == (2, 2)
        assert (await soon(heard_ann.joins.get())).info.user in {"ann", "bob"}
        listed = (await one.hub.directory.sessions(channel="chat:room")).sessions
        assert {(each.user, each.name) for each in listed} == {("ann", "python"), ("bob", "python")}


async def talk_javascript(one: Instance, two: Instance) -> None:
    """Two JavaScript clients on two instances hear each other."""
    process = await asyncio.create_subprocess_exec(
        "node",
        str(NODE / "two_instances.mjs"),
        one.url,
        two.url,
        token("ann", info={"n": 1}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), 3 * PATIENCE_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()
    seen = json.loads(out)
    by_a, by_b = {"from": "a", "text": "grüß dich"}, {"from": "b"}
    for publications in seen["publications"]:
        assert sorted(json.dumps(each["data"]) for each in publications) == sorted(
            json.dumps(each) for each in (by_a, by_b)
        )
        assert {each["user"] for each in publications} == {"ann"}
    assert set(seen["presence"]["clients"]) == set(seen["clients"])
    assert seen["stats"] == {"numClients": 2, "numUsers": 1}
    assert (seen["refused"], seen["unknown"]) == (103, 102)


@pytest.fixture(scope="session")
def javascript() -> None:
    """Install the stock JavaScript client, or say why not."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("NO JAVASCRIPT CLIENT TESTED: node and npm are not installed (Debian: nodejs, npm)")
    if not (NODE / "node_modules" / "centrifuge").exists():
        done = subprocess.run(
            ["npm", "ci", "--no-audit", "--no-fund"],
            cwd=NODE,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"NO JAVASCRIPT CLIENT TESTED: npm ci failed in tests/node: {done.stderr[-300:]}")


@pytest.fixture(scope="session")
def valkey() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def valkey_fleet(valkey: ValkeyServer) -> MakeHub:
    """Return a maker of hubs that share a real Valkey, each with connections of its own."""
    fleet = fresh_fleet()
    return lambda settings: SessionHub(settings, store=ValkeyStore(valkey.url, fleet))


@pytest.mark.valkey
def test_python_clients_talk_across_instances_through_valkey(valkey_fleet: MakeHub) -> None:
    on_two_instances(valkey_fleet, talk_python)


@pytest.mark.valkey
@pytest.mark.node
@pytest.mark.usefixtures("javascript")
def test_javascript_clients_talk_across_instances_through_valkey(valkey_fleet: MakeHub) -> None:
    on_two_instances(valkey_fleet, talk_javascript)


@pytest.mark.valkey
def test_sessions_outlive_a_killed_valkey_and_are_in_it_again_when_it_is_back() -> None:
    fleet = fresh_fleet()
    settings = replace(SETTINGS, instance_ttl_s=2.0)
    with ValkeyServer() as server:

        async def scenario(one: Instance, two: Instance) -> None:
            async with (
                python_client(one.url, token=token("ann")) as ann,
                python_client(two.url, token=token("bob")) as bob,
            ):
                heard = Heard()
                for client, events in ((ann, Heard()), (bob, heard)):
                    room = client.new_subscription("chat:room", events)
                    await room.subscribe()
                    await room.ready(PATIENCE_S)
                await asyncio.to_thread(server.kill)
                with pytest.raises(StoreUnavailable):
                    while True:
                        await one.hub.publish("chat:room", "lost")
                await asyncio.to_thread(server.start)

                async with asyncio.timeout(2 * PATIENCE_S):
                    while heard.publications.empty():
                        with contextlib.suppress(StoreUnavailable):
                            await one.hub.publish("chat:room", "again")
                        await asyncio.sleep(0.05)  # between two tries, not for luck
                assert one.hub.statistics.opened == two.hub.statistics.opened == 1
                async with asyncio.timeout(2 * PATIENCE_S):
                    while {each.user for each in await listed(one)} != {"ann", "bob"}:  # noqa: ASYNC110
                        await asyncio.sleep(0.05)  # the store's own content is no event of ours

        on_two_instances(
            lambda settings: SessionHub(settings, store=ValkeyStore(server.url, fleet)), scenario, settings
        )


async def listed(instance: Instance) -> Sequence[SessionRecord]:
    """Return the sessions that the store itself names."""
    try:
        return (await instance.hub.directory.everywhere(10, "")).sessions
    except StoreUnavailable:
        return ()


def test_python_clients_talk_across_instances() -> None:
    on_two_instances(memory_fleet(), talk_python)


@pytest.mark.node
@pytest.mark.usefixtures("javascript")
def test_javascript_clients_talk_across_instances() -> None:
    on_two_instances(memory_fleet(), talk_javascript)


def test_an_expiring_client_fetches_a_new_token_and_stays() -> None:
    async def scenario(one: Instance, _two: Instance) -> None:
        fetched: asyncio.Queue[str] = asyncio.Queue()

        async def get_token(*_: object) -> str:
            fresh = token("ann", ttl_s=600)
            await fetched.put(fresh)
            return fresh

        async with python_client(one.url, token=token("ann", ttl_s=2), get_token=get_token):
            await soon(fetched.get())
            (connection,) = one.hub.connections.values()
            expires_us = one.hub.now_us() + 60_000_000
            await eventually(lambda: connection.session.expires_us > expires_us, "the new token counts")

            assert one.hub.statistics.opened == 1

    on_two_instances(memory_fleet(), scenario)


def test_an_expired_token_makes_the_client_fetch_another_before_it_is_let_in() -> None:
    async def scenario(one: Instance, _two: Instance) -> None:
        async def get_token(*_: object) -> str:
            return token("ann")

        async with python_client(one.url, token=token("ann", ttl_s=-5), get_token=get_token):
            assert one.hub.statistics.errors == 1

    on_two_instances(memory_fleet(), scenario)


def test_pings_keep_an_idle_client_connected() -> None:
    async def scenario(one: Instance, _two: Instance) -> None:
        async with python_client(one.url, token=token("ann")) as client:
            heard = Heard()
            room = client.new_subscription("chat:room", heard)
            await room.subscribe()
            await room.ready(PATIENCE_S)
            before = one.hub.statistics.commands
            # Each pong is a command.
            await eventually(lambda: one.hub.statistics.commands >= before + 2, "two pongs come")
            await one.hub.publish("chat:room", "still here")

            assert (await soon(heard.publications.get())).pub.data == "still here"
            assert one.hub.statistics.opened == 1

    on_two_instances(memory_fleet(), scenario, replace(SETTINGS, ping_s=1.0, pong_timeout_s=0.9))


def test_a_client_is_unsubscribed_and_disconnected_from_another_instance() -> None:
    async def scenario(one: Instance, two: Instance) -> None:
        ends, heard = Goodbyes(), Heard()
        async with python_client(two.url, token=token("ann"), events=ends) as client:
            room = client.new_subscription("chat:room", heard)
            await room.subscribe()
            await room.ready(PATIENCE_S)
            (session,) = (await one.hub.directory.sessions(user="ann")).sessions
            assert await one.hub.directory.disconnect(session.id)

            assert (await soon(ends.ends.get())).code == 3503

    on_two_instances(memory_fleet(), scenario)


def test_a_python_client_that_wants_protobuf_is_told_for_good() -> None:
    async def scenario(one: Instance, _two: Instance) -> None:
        ends = Goodbyes()
        client = Client(one.url, token=token("ann"), use_protobuf=True, events=ends)
        await client.connect()

        assert (await soon(ends.ends.get())).code == 3506

    on_two_instances(memory_fleet(), scenario)
