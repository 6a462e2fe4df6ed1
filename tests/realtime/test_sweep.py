"""A killed instance's sessions are removed by the others, within twice the time it is given."""

from __future__ import annotations

import asyncio
from typing import Any

from silence_gateway.realtime.hub import RealtimeHub
from silence_gateway.realtime.settings import RealtimeSettings


def kill(hub: RealtimeHub) -> None:
    """Drop an instance as a crash would: nothing of it runs any more, and it tells nobody."""
    for task in hub.tasks:
        task.cancel()
    hub.tasks = []
    hub.housekeeper.stop()


def test_a_killed_instances_sessions_are_gone_within_the_stated_time(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            doomed, other = await world.hub(), await world.hub()
            dead = await world.connected(doomed, "ann", "chat:a", "news")
            alive = await world.connected(other, "bob", "chat:a")
            kill(doomed)
            alive.heard()
            await world.clock.advance(2 * other.settings.instance_ttl_s)

            assert await world.sessions.get(dead.id) is None
            assert (await world.sessions.list_by_user("ann", "", 10)).sessions == ()
            assert set(await world.sessions.presence("chat:a", 10)) == {alive.id}
            assert await world.sessions.presence("news", 10) == {}
            assert [each.id for each in await world.sessions.instances()] == [other.instance_id]
            assert other.statistics.swept == 1
            left = [each["push"]["leave"] for each in alive.heard() if "leave" in each.get("push", {})]
            assert [each["info"]["client"] for each in left] == [dead.id]

    asyncio.run(scenario())


def test_an_instance_that_was_only_asleep_writes_everything_again(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            sleeper, other = await world.hub(), await world.hub()
            client = await world.connected(sleeper, "ann", "news")
            for task in sleeper.tasks:
                task.cancel()
            await world.clock.advance(2 * other.settings.instance_ttl_s)
            assert await world.sessions.get(client.id) is None

            sleeper.tasks = [
                asyncio.create_task(sleeper.recorder.run()),
                asyncio.create_task(sleeper.housekeeper.run()),
            ]
            await world.clock.advance(1)

            assert await world.sessions.get(client.id) is not None
            assert set(await world.sessions.presence("news", 10)) == {client.id}

    asyncio.run(scenario())


def test_one_instance_sweeps_at_a_time_and_large_leftovers_go_in_pages(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            doomed, one, two = await world.hub(), await world.hub(), await world.hub()
            for number in range(300):
                await world.connected(doomed, f"user{number % 7}")
            kill(doomed)
            await world.clock.advance(20)

            assert sorted([one.statistics.swept, two.statistics.swept]) == [0, 300]
            assert not world.sessions.records

    asyncio.run(scenario())


def test_after_an_outage_of_the_store_nobody_is_taken_for_dead(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            settings = RealtimeSettings(anonymous=True, ping_s=0)
            hubs = [await world.hub(settings) for _ in range(3)]
            clients = [await world.connected(hub, "", "news") for hub in hubs]
            world.take_store_away()
            await world.clock.advance(15)
            world.give_store_back()
            await world.clock.advance(8)

            assert sum(hub.statistics.swept for hub in hubs) == 0
            assert set(await world.sessions.presence("news", 10)) == {client.id for client in clients}

    asyncio.run(scenario())
