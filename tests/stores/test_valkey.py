"""The Valkey store keeps every promise of the contracts against a real server."""

from __future__ import annotations

import asyncio

import pytest

from silence_gateway.stores.contracts import Store
from silence_gateway.stores.valkey import ValkeyStore
from silence_gateway.testing.store_checks import check_board, check_bus, eventually

pytestmark = pytest.mark.valkey


def test_the_valkey_store_keeps_the_promises_of_board_and_bus(valkey_url: str, fleet: str) -> None:
    async def scenario() -> None:
        async def make_store() -> Store:
            store = ValkeyStore(valkey_url, fleet)
            await store.start()
            return store

        await check_board(make_store, asyncio.sleep)
        await check_bus(make_store)

    asyncio.run(scenario())


def test_instances_know_how_many_they_are(valkey_url: str, fleet: str) -> None:
    async def scenario() -> None:
        stores = [ValkeyStore(valkey_url, fleet) for _ in range(3)]
        for store in stores:
            await store.start()
        try:
            await eventually(lambda: [store.live_instances for store in stores] == [3, 3, 3], "three live")
        finally:
            for store in stores:
                await store.stop()

    asyncio.run(scenario())
