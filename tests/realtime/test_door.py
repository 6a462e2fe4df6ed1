"""The hub as a library: ten lines in any asyncio program."""

from __future__ import annotations

import asyncio

import pytest

from silence_gateway.realtime.door import SessionHub
from silence_gateway.realtime.settings import RealtimeSettings
from silence_gateway.stores.memory import MemoryHub, MemoryStore
from silence_gateway.stores.sessions_memory import MemorySessions


def test_a_program_publishes_and_listens_in_a_few_lines() -> None:
    async def program() -> None:
        heard: asyncio.Queue[object] = asyncio.Queue()
        async with SessionHub(RealtimeSettings(anonymous=True)) as hub:
            hub.subscribe("news", heard.put_nowait)
            await hub.publish("news", {"text": "hello"})

            assert await asyncio.wait_for(heard.get(), 5) == {"text": "hello"}

    asyncio.run(program())


def test_hubs_with_stores_of_one_fleet_are_one() -> None:
    async def program() -> None:
        fleet, sessions = MemoryHub(), MemorySessions()
        heard: asyncio.Queue[object] = asyncio.Queue()
        async with (
            SessionHub(store=MemoryStore(fleet), sessions=sessions) as one,
            SessionHub(store=MemoryStore(fleet), sessions=sessions) as two,
        ):
            two.subscribe("news", heard.put_nowait)
            await one.publish("news", 1)

            assert await asyncio.wait_for(heard.get(), 5) == 1

    asyncio.run(program())


def test_a_store_without_its_sessions_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="both"):
        SessionHub(store=MemoryStore())
