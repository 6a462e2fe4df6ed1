"""Looking sessions up and ordering them about, wherever they are."""

from __future__ import annotations

import asyncio
from typing import Any

from silence_gateway.realtime import control
from silence_gateway.testing.clock import settle


def run(scenario: Any) -> None:
    asyncio.run(scenario())


def test_sessions_are_found_by_user_by_channel_and_all_in_pages(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            hubs = [await world.hub() for _ in range(3)]
            for number in range(7):
                await world.connected(
                    hubs[number % 3], f"user{number % 2}", "news" if number < 5 else "chat:a"
                )
            directory = hubs[0].directory
            everybody: list[str] = []
            cursor, pages = "", 0
            while True:
                page = await directory.sessions(limit=2, cursor=cursor)
                everybody += [each.id for each in page.sessions]
                pages += 1
                cursor = page.cursor
                if not cursor:
                    break

            assert len(everybody) == len(set(everybody)) == 7
            assert pages < 9
            assert len((await directory.sessions(user="user0")).sessions) == 4
            assert len((await directory.sessions(channel="news")).sessions) == 5
            assert len((await directory.sessions(user="user1", channel="chat:a")).sessions) == 1
            first = await directory.sessions(channel="news", limit=3)
            rest = await directory.sessions(channel="news", limit=3, cursor=first.cursor)
            assert (len(first.sessions), len(rest.sessions), rest.cursor) == (3, 2, "")

    run(scenario)


def test_while_the_store_is_away_an_instance_sees_its_own(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            one, two = await world.hub(), await world.hub()
            mine = await world.connected(one, "ann", "news")
            other = await world.connected(two, "ann")
            world.take_store_away()

            assert [each.id for each in (await one.directory.sessions(user="ann")).sessions] == [mine.id]
            assert (await one.directory.sessions(channel="chat:a")).sessions == ()
            assert (await one.directory.session(mine.id)) is not None
            assert await one.directory.session(other.id) is None
            assert [each.id for each in await one.directory.instances()] == [one.instance_id]

    run(scenario)


def test_a_session_is_disconnected_wherever_it_is(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            one, two = await world.hub(), await world.hub()
            near, far = await world.connected(one, "ann"), await world.connected(two, "bob")

            assert await one.directory.disconnect(near.id)
            assert await one.directory.disconnect(far.id)
            assert not await one.directory.disconnect("nobody")
            await settle()
            assert near.socket.closed == far.socket.closed == (3503, "force disconnect")

    run(scenario)


def test_orders_reach_all_clients_of_a_user_except_the_spared(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            one, two = await world.hub(), await world.hub()
            first, second = (
                await world.connected(one, "ann", "news"),
                await world.connected(two, "ann", "news"),
            )
            bob = await world.connected(two, "bob", "news")
            await one.directory.give_order(
                control.Order(op="unsubscribe", user="ann", channel="news", code=2000, reason="moved")
            )
            await one.directory.give_order(
                control.Order(op="disconnect", user="bob", client=first.id, code=3503)
            )
            await one.directory.give_order(
                control.Order(op="disconnect", user="ann", spare=(second.id,), code=3011, reason="again")
            )
            await settle()

            assert "unsubscribe" in first.heard()[0]["push"]
            assert second.heard()[0]["push"]["unsubscribe"] == {"code": 2000, "reason": "moved"}
            assert first.socket.closed == (3011, "again")
            assert second.socket.closed is None
            assert bob.heard() == []

    run(scenario)


def test_orders_that_mean_nothing_to_us_are_skipped(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            hub = await world.hub()
            client = await world.connected(hub, "ann")
            for payload in (
                b"",
                b"[]",
                b"7",
                b"\xff",
                b"{}",
                b'{"op":"dance","user":"ann"}',
                b'{"op":"x","code":"y"}',
            ):
                await hub.bus.publish(control.CHANNEL, payload)
            await settle()

            assert client.socket.closed is None

    run(scenario)
