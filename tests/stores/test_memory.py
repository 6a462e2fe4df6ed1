"""The memory store keeps every promise, and behaves while it is taken away."""

from __future__ import annotations

import asyncio

import pytest

from silence_gateway.errors import StoreUnavailable
from silence_gateway.stores.contracts import Store
from silence_gateway.stores.memory import MemoryHub, MemoryStore
from silence_gateway.testing import FakeClock
from silence_gateway.testing.store_checks import check_board, check_bus


def test_the_memory_store_keeps_the_promises_of_board_and_bus() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        hub = MemoryHub(clock)

        async def make_store() -> Store:
            store = MemoryStore(hub)
            await store.start()
            return store

        await check_board(make_store, clock.advance)
        await check_bus(make_store)

    asyncio.run(scenario())


def test_instances_are_counted_while_they_live() -> None:
    async def scenario() -> None:
        hub = MemoryHub()
        one, two = MemoryStore(hub), MemoryStore(hub)
        await one.start()
        await two.start()
        both = one.live_instances
        await two.stop()

        assert both == 2
        assert one.live_instances == 1
        assert one.instance_id != two.instance_id

    asyncio.run(scenario())


def test_writes_made_while_the_hub_is_away_are_seen_here_and_shared_on_its_return() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        hub = MemoryHub(clock)
        one, two = MemoryStore(hub), MemoryStore(hub)
        here, there = one.board.watch("r"), two.board.watch("r")
        await one.board.put("r", "gone", b"0", ttl_s=60)
        await clock.advance(0)
        hub.go_away()
        with pytest.raises(StoreUnavailable):
            await one.board.put("r", "kept", b"1", ttl_s=60)
        with pytest.raises(StoreUnavailable):
            await one.board.put("r", "short", b"1", ttl_s=1)
        with pytest.raises(StoreUnavailable):
            await one.board.remove("r", "gone")
        with pytest.raises(StoreUnavailable):
            await one.board.lead("r", "job", 1)
        with pytest.raises(StoreUnavailable):
            await one.bus.publish("c", b"")
        assert dict(here) == {"kept": b"1", "short": b"1"}
        await clock.advance(2)
        assert dict(here) == {"kept": b"1"}
        assert dict(there) == {"gone": b"0"}
        assert not one.up

        hub.come_back()
        await clock.advance(0)

        assert dict(here) == dict(there) == {"kept": b"1"}
        assert one.up

    asyncio.run(scenario())


def test_a_return_tells_every_subscription_of_its_gap() -> None:
    async def scenario() -> None:
        hub = MemoryHub(FakeClock())
        store = MemoryStore(hub)
        gaps: list[int] = []
        store.bus.subscribe("c", lambda _payload: None, lambda: gaps.append(1))
        hub.go_away()
        hub.come_back()
        await asyncio.sleep(0)

        assert gaps == [1]

    asyncio.run(scenario())


def test_stopping_gives_up_leases() -> None:
    async def scenario() -> None:
        hub = MemoryHub(FakeClock())
        one, two = MemoryStore(hub), MemoryStore(hub)
        held = await one.board.lead("r", "job", 60)
        await one.stop()

        assert await two.board.lead("r", "job", 60) > held > 0

    asyncio.run(scenario())


def test_values_that_do_not_belong_on_the_board_are_refused() -> None:
    async def scenario() -> None:
        board = MemoryStore().board
        for name, value, ttl_s in (
            ("", b"", 1.0),
            ("a" * 513, b"", 1.0),
            ("a", b"x" * 65537, 1.0),
            ("a", b"", 0.0),
        ):
            with pytest.raises(ValueError, match=r"board|live"):
                await board.put("r", name, value, ttl_s)

    asyncio.run(scenario())
