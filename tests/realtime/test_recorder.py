"""What sessions do is written to the store behind their backs, and outlives its absence."""

from __future__ import annotations

import asyncio
from typing import Any

from silence_gateway.testing.clock import settle


def run(scenario: Any) -> None:
    asyncio.run(scenario())


def test_sessions_are_written_with_what_they_are(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            hub = await world.hub()
            client = await world.connected(hub, "ann", "news", "chat:a")
            (record,) = (await world.sessions.list_by_user("ann", "", 10)).sessions

            assert record.id == client.id
            assert record.instance == hub.instance_id
            assert record.authenticated
            assert record.channels == ("news", "chat:a")
            assert record.connected_us == record.seen_us == world.clock.now_us()
            assert record.commands == 3

    run(scenario)


def test_records_and_presence_are_kept_alive_while_a_session_lives(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            hub = await world.hub()
            client = await world.connected(hub, "ann", "news")
            for _ in range(400):
                await world.clock.advance(0.25)
                if {} in client.heard():
                    client.connection.on_text(b"{}")

            assert set(await world.sessions.presence("news", 10)) == {client.id}
            record = await world.sessions.get(client.id)
            assert record is not None
            assert world.clock.now_us() - record.seen_us < hub.settings.presence_ttl_s * 1_000_000

    run(scenario)


def test_namespaces_without_presence_write_none(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            await world.connected(await world.hub(), "ann", "quiet:a")

            assert not world.sessions.channels

    run(scenario)


def test_a_store_that_is_away_breaks_no_session_and_learns_everything_on_its_return(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            hub = await world.hub()
            old = await world.connected(hub, "ann", "quiet:a", "news")
            leaver = await world.connected(hub, "cid", "quiet:a")
            world.take_store_away()
            new = world.client(hub)
            connected = await new.connect(world.token("bob"))
            subscribed = await new.subscribe("quiet:a")
            elsewhere = await new.subscribe("quiet:b")
            presence = await new.ask({"presence": {"channel": "news"}})
            published = await new.ask({"publish": {"channel": "quiet:a", "data": 1}})
            leaver.gone()
            await world.clock.advance(3)

            assert "connect" in connected
            assert "subscribe" in subscribed
            for refused in (elsewhere, presence, published):
                assert refused["error"] == {
                    "code": 100,
                    "message": "internal server error",
                    "temporary": True,
                }
            assert old.socket.closed is None
            assert hub.statistics.store_failures > 0

            world.give_store_back()
            await world.clock.advance(1.5)
            listed = (await hub.directory.sessions()).sessions
            assert {each.user for each in listed} == {"ann", "bob"}
            assert "subscribe" in await new.subscribe("quiet:b")
            assert hub.statistics.gaps > 0

    run(scenario)


def test_a_store_that_lost_its_memory_is_told_everything_again(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            hub = await world.hub()
            client = await world.connected(hub, "ann", "news")
            world.sessions.__init__(world.clock)
            await world.clock.advance(4)

            assert (await world.sessions.get(client.id)) is not None
            assert set(await world.sessions.presence("news", 10)) == {client.id}
            assert hub.statistics.resyncs == 2

    run(scenario)


def test_who_waits_for_a_write_hears_that_it_failed(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            hub = await world.hub()
            client = await world.connected(hub, "ann")
            world.take_store_away()
            client.send({"subscribe": {"channel": "news"}})
            reply = await client.ask({"presence_stats": {"channel": "news"}})
            world.give_store_back()
            await world.clock.advance(2)
            await settle()
            again = await client.ask({"presence_stats": {"channel": "news"}})

            assert reply["error"]["code"] == 100
            assert again["presence_stats"] == {"num_clients": 0, "num_users": 0}

    run(scenario)


def test_what_came_and_went_while_the_store_was_away_is_written_as_it_ended(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            hub = await world.hub()
            stays = await world.connected(hub, "ann", "news")
            goes = await world.connected(hub, "bob", "news")
            world.take_store_away()
            await stays.ask({"unsubscribe": {"channel": "news"}})
            await world.clock.advance(1)
            await goes.ask({"unsubscribe": {"channel": "news"}})
            assert "subscribe" in await stays.subscribe("news")
            world.give_store_back()
            await world.clock.advance(2)

            assert set(await world.sessions.presence("news", 10)) == {stays.id}

    run(scenario)
