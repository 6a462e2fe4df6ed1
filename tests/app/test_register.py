"""Every instance says who it is, and each of them can list all."""

from __future__ import annotations

import asyncio

from silence_gateway.app.register import MAX_BYTES, ROOM, SAY_EVERY_S, TTL_S, Register
from silence_gateway.stores.memory import MemoryHub, MemoryStore
from silence_gateway.testing import FakeClock, settle


def register(hub: MemoryHub, clock: FakeClock, name: str) -> Register:
    return Register(MemoryStore(hub, instance_id=name), clock, listen=f"{name}:8080", digest="d")


def test_instances_see_each_other_come_and_go() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        hub = MemoryHub(clock)
        one, two = register(hub, clock, "one"), register(hub, clock, "two")
        one.start()
        two.start()
        await settle()

        assert [node["id"] for node in one.nodes()] == ["one", "two"]
        assert one.nodes()[1]["listen"] == "two:8080"

        await two.stop()
        await settle()

        assert [node["id"] for node in one.nodes()] == ["one"]
        await one.stop()

    asyncio.run(scenario())


def test_an_instance_that_fell_silent_is_taken_off() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        hub = MemoryHub(clock)
        one, two = register(hub, clock, "one"), register(hub, clock, "two")
        one.start()
        two.start()
        await settle()
        await two._saying.stop()

        for _ in range(int(TTL_S / SAY_EVERY_S) + 2):
            await clock.advance(SAY_EVERY_S)

        assert [node["id"] for node in one.nodes()] == ["one"]
        await one.stop()

    asyncio.run(scenario())


def test_what_cannot_be_read_is_left_out() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        hub = MemoryHub(clock)
        one = register(hub, clock, "one")
        one.start()
        await settle()
        other = MemoryStore(hub)
        await other.board.put(ROOM, "a", b"not json", 60)
        await other.board.put(ROOM, "b", b"[1]", 60)
        await other.board.put(ROOM, "c", b'{"id":"' + b"x" * MAX_BYTES + b'"}', 60)

        assert [node["id"] for node in one.nodes()] == ["one"]
        await one.stop()

    asyncio.run(scenario())
