"""What a hub does by itself as time passes."""

from __future__ import annotations

import asyncio
from typing import Any


def run(scenario: Any) -> None:
    asyncio.run(scenario())


def test_pings_go_to_every_session_and_the_silent_are_closed(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            hub = await world.hub()
            lively, silent = await world.connected(hub), await world.connected(hub)
            for _ in range(80):
                await world.clock.advance(0.5)
                if {} in lively.heard():
                    lively.connection.on_text(b"{}")

            assert lively.socket.closed is None
            assert silent.socket.closed == (3012, "no pong")
            assert {} in silent.heard()

    run(scenario)


def test_a_socket_that_never_connects_is_closed(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            hub = await world.hub()
            client = world.client(hub)
            assert hub.statistics.by_state == {"connecting": 1, "connected": 0}
            await world.clock.advance(10.5)

            assert client.socket.closed == (3502, "stale")
            client.gone(3502)
            assert hub.statistics.by_state == {"connecting": 0, "connected": 0}
            assert hub.statistics.closes == {3502: 1}

    run(scenario)


def test_an_expired_session_is_closed_and_a_refreshed_one_is_not(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            hub = await world.hub()
            until = world.now_s() + 5
            expired, refreshed = world.client(hub), world.client(hub)
            for client in (expired, refreshed):
                assert (await client.connect(world.token("ann", exp=until)))["connect"]["ttl"] == 5
            reply = await refreshed.ask({"refresh": {"token": world.token("ann", exp=until + 600)}})
            assert reply["refresh"]["ttl"] == 605
            for _ in range(32):
                await world.clock.advance(1)
                for client in (expired, refreshed):
                    if {} in client.heard() and client.socket.closed is None:
                        client.connection.on_text(b"{}")

            assert expired.socket.closed == (3005, "connection expired")
            assert refreshed.socket.closed is None
            record = await hub.directory.session(refreshed.id)
            assert record.expires_us == (until + 600) * 1_000_000

    run(scenario)


def test_a_channel_lingers_then_is_let_go(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            hub = await world.hub()
            client = await world.connected(hub, "", "news")
            await client.ask({"unsubscribe": {"channel": "news"}})
            held = "rt1:c:news" in world.memory.subscriptions
            await client.subscribe("news")
            await world.clock.advance(2)
            kept = "rt1:c:news" in world.memory.subscriptions
            client.gone()
            await world.clock.advance(2)

            assert held
            assert kept
            assert "rt1:c:news" not in world.memory.subscriptions
            assert hub.statistics.channels == hub.statistics.subscriptions == 0

    run(scenario)
