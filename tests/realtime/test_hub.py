"""Sessions and channels of a hub, seen from its clients."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from silence_gateway.errors import NotFound
from silence_gateway.events import Noticed
from silence_gateway.realtime.settings import RealtimeSettings, TokenSettings
from silence_gateway.testing.clock import settle


def run(scenario: Any) -> None:
    asyncio.run(scenario())


def pushes(messages: list[dict[str, Any]], kind: str) -> list[Any]:
    return [each["push"][kind] for each in messages if kind in each.get("push", {})]


def test_a_publication_reaches_every_instance_once_per_subscriber(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            one, two = await world.hub(), await world.hub()
            ann = await world.connected(one, "ann", "chat:a")
            bob = await world.connected(two, "bob", "chat:a")
            ann.heard()
            reply = await ann.ask({"publish": {"channel": "chat:a", "data": {"x": 1}}})
            await settle()

            (got,) = pushes(bob.heard(), "pub")
            assert reply == {"id": ann.last_id, "publish": {}}
            assert got["data"] == {"x": 1}
            assert got["info"] == {"user": "ann", "client": ann.id}
            assert one.statistics.publications == 1
            assert two.statistics.deliveries >= 1

    run(scenario)


def test_one_frame_is_made_for_all_subscribers_of_a_channel(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            hub = await world.hub()
            clients = [await world.connected(hub, "", "quiet:a") for _ in range(3)]
            for number in range(3):
                await hub.publish("quiet:a", {"n": number})
            await settle()

            frames = [client.socket.written for client in clients]
            assert all(len(each) == 1 for each in frames)
            assert frames[0][0] is frames[1][0] is frames[2][0]
            assert [each["data"]["n"] for each in pushes(clients[0].heard(), "pub")] == [0, 1, 2]
            assert hub.statistics.deliveries == 9

    run(scenario)


def test_those_who_come_and_go_are_announced_where_the_namespace_says_so(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            one, two = await world.hub(), await world.hub()
            ann = await world.connected(one, "ann", "chat:a", "news")
            bob = await world.connected(two, "bob", "chat:a", "news")
            await settle()
            joined = pushes(ann.heard(), "join")
            bob.gone()
            await settle()
            left = pushes(ann.heard(), "leave")

            assert [each["info"]["user"] for each in joined] == ["bob"]
            assert [each["info"]["user"] for each in left] == ["bob"]

    run(scenario)


def test_presence_is_of_the_whole_fleet_and_sees_the_one_who_asks(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            one, two = await world.hub(), await world.hub()
            bob = await world.connected(two, "bob", "news")
            ann = world.client(one)
            await ann.connect(world.token("ann", info={"n": 1}))
            ann.send(
                {"subscribe": {"channel": "news"}},
                {"presence": {"channel": "news"}},
                {"presence_stats": {"channel": "news"}},
            )
            await settle()
            _, presence, stats = sorted(ann.heard(), key=lambda each: each["id"])

            assert presence["presence"]["presence"] == {
                ann.id: {"user": "ann", "client": ann.id, "conn_info": {"n": 1}},
                bob.id: {"user": "bob", "client": bob.id},
            }
            assert stats["presence_stats"] == {"num_clients": 2, "num_users": 2}

    run(scenario)


def test_many_questions_about_one_channel_are_one_reading(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            hub = await world.hub()
            clients = [await world.connected(hub, "", "news") for _ in range(20)]
            read = 0
            look = hub.presence_desk.look

            async def counted(channel: str, whole: bool) -> bytes:
                nonlocal read
                read += 1
                result: bytes = await look(channel, whole)
                return result

            hub.presence_desk.look = counted
            for client in clients:
                client.send({"presence": {"channel": "news"}})
            await settle()

            assert all(len(client.heard()[0]["presence"]["presence"]) == 20 for client in clients)
            assert read == 1

    run(scenario)


@pytest.mark.parametrize(
    ("token", "code"),
    [
        pytest.param(lambda world: "garbage", 3500, id="garbage"),
        pytest.param(
            lambda world: world.token("ann", "another secret of thirty-two bytes.."), 3500, id="forged"
        ),
    ],
)
def test_a_token_that_cannot_be_believed_ends_the_connection(make_world: Any, token: Any, code: int) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            client = world.client(await world.hub())
            client.send({"connect": {"token": token(world)}})

            assert client.socket.closed == (code, "invalid token")
            assert client.heard() == []

    run(scenario)


def test_an_expired_token_is_told_so_that_the_client_fetches_another(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            client = world.client(await world.hub())
            reply = await client.connect(world.token("ann", exp=world.now_s() - 1))

            assert reply["error"]["code"] == 109
            assert client.socket.closed is None

    run(scenario)


def test_without_a_token_only_the_anonymous_are_let_in(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            client = world.client(
                await world.hub(RealtimeSettings(tokens=TokenSettings(hmac_secret="x" * 32)))
            )
            client.send({"connect": {}})

            assert client.socket.closed == (3500, "invalid token")

    run(scenario)


@pytest.mark.parametrize(("user", "exp", "code"), [("bob", 600, 3500), ("ann", -1, 3005)])
def test_a_refresh_with_a_bad_token_ends_the_session(make_world: Any, user: str, exp: int, code: int) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            client = await world.connected(await world.hub(), "ann")
            client.send({"refresh": {"token": world.token(user, exp=world.now_s() + exp)}})

            assert client.socket.closed is not None
            assert client.socket.closed[0] == code

    run(scenario)


def test_a_client_that_reads_too_slowly_is_closed_and_counted(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            hub = await world.hub()
            slow, quick = [await world.connected(hub, "", "quiet:a") for _ in range(2)]
            slow.socket.waiting = hub.settings.queue_bytes + 1
            await hub.publish("quiet:a", 1)
            await settle()
            await hub.publish("quiet:a", 2)
            await settle()

            assert slow.socket.closed == (3008, "slow")
            assert hub.statistics.slow_closes == 1
            assert [each["data"] for each in pushes(quick.heard(), "pub")] == [1, 2]

    run(scenario)


def test_a_client_far_ahead_of_us_is_not_read_until_we_have_caught_up(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            client = await world.connected(await world.hub(), "")
            client.send(*({"presence": {"channel": "news"}} for _ in range(200)))
            held = client.socket.paused
            await settle(40)

            assert held
            assert not client.socket.paused
            assert len(client.heard()) == 200

    run(scenario)


@pytest.mark.parametrize(
    "frame",
    [b"", b"nonsense", b"\xff", b'{"id":1,"connect":5}', b'{"id":99999999999,"ping":{}}', b"[" * 5000, b"{}"],
)
def test_a_bad_frame_ends_one_connection_and_nothing_else(make_world: Any, frame: bytes) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            hub = await world.hub()
            other = await world.connected(hub, "", "news")
            client = await world.connected(hub, "", "news")
            client.connection.on_text(frame)
            client.gone(3501)
            await hub.publish("news", 1)
            await settle()

            assert client.socket.closed == (3501, "bad request")
            assert len(pushes(other.heard(), "pub")) == 1
            assert hub.statistics.closes == {3501: 1}
            assert hub.statistics.connected == 1

    run(scenario)


def test_binary_is_not_spoken_here(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            client = await world.connected(await world.hub())
            client.connection.on_binary(b"\x00")

            assert client.socket.closed == (3506, "inappropriate protocol")

    run(scenario)


def test_draining_sends_clients_away_bit_by_bit_and_lets_nobody_in(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            hub = await world.hub()
            clients = [await world.connected(hub) for _ in range(10)]
            draining = asyncio.create_task(hub.drain(1.0))
            await settle()
            first = sum(client.socket.closed is not None for client in clients)
            late = world.client(hub)
            await world.clock.advance(1.0)
            await draining

            assert first == 1
            assert {client.socket.closed for client in [*clients, late]} == {(3001, "shutdown")}

    run(scenario)


def test_a_stopped_hub_leaves_nothing_in_the_store(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            hub = await world.hub()
            await world.connected(hub, "ann", "news")
            assert world.sessions.records
            await hub.stop()

            assert not world.sessions.records
            assert not world.sessions.channels
            assert await world.sessions.instances() == ()
            assert not world.memory.subscriptions

    run(scenario)


def test_a_callback_hears_what_is_published_until_it_stops(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            hub = await world.hub()
            heard: list[object] = []
            stop = hub.subscribe("news", heard.append)
            await hub.publish("news", {"n": 1})
            await settle()
            stop()
            stop()
            await hub.publish("news", {"n": 2})
            await settle()

            assert heard == [{"n": 1}]

    run(scenario)


def test_a_callback_that_fails_is_told_and_stops_nobody(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            hub = await world.hub()
            client = await world.connected(hub, "", "news")
            hub.subscribe("news", lambda _data: 1 / 0)
            with pytest.raises(NotFound):
                hub.subscribe("nowhere:a", print)
            await hub.publish("news", 1)
            await settle()

            assert len(pushes(client.heard(), "pub")) == 1
            assert any(
                isinstance(each, Noticed) and "ZeroDivisionError" in each.what for each in world.events
            )

    run(scenario)


def test_publishing_where_there_is_no_channel_is_an_error_for_the_caller(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            hub = await world.hub()
            with pytest.raises(NotFound, match="namespace"):
                await hub.publish("nowhere:a", 1)
            with pytest.raises(ValueError, match="JSON"):
                await hub.publish("news", object())

    run(scenario)


def test_a_short_secret_is_told_to_the_operator(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            hub = await world.hub(RealtimeSettings(tokens=TokenSettings(hmac_secret="short")))
            client = world.client(hub)

            assert "connect" in await client.connect(world.token("ann", "short".ljust(32, "\0")))
            assert any(isinstance(each, Noticed) and "guessed" in each.what for each in world.events)

    run(scenario)
