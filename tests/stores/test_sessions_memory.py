"""Sessions in memory keep every promise, and can be taken away."""

from __future__ import annotations

import asyncio

import pytest

from silence_gateway.errors import StoreUnavailable
from silence_gateway.stores.session_contract import SessionRecord
from silence_gateway.stores.sessions_memory import MemorySessions
from silence_gateway.testing.clock import FakeClock
from silence_gateway.testing.session_checks import check_session_store


def test_memory_keeps_every_promise() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        await check_session_store(MemorySessions(clock), clock.advance)

    asyncio.run(scenario())


def test_nothing_is_left_behind_by_those_who_left() -> None:
    async def scenario() -> None:
        store = MemorySessions(FakeClock())
        record = SessionRecord(id="a", instance="one", user="ann")
        await store.write([record], 60)
        await store.remove([record])

        assert not store.records
        assert not store.users
        assert not store.held

    asyncio.run(scenario())


def test_a_store_that_was_taken_away_says_so() -> None:
    async def scenario() -> None:
        store = MemorySessions(FakeClock())
        store.away = True
        with pytest.raises(StoreUnavailable):
            await store.get("a")

    asyncio.run(scenario())
