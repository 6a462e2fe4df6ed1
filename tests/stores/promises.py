"""Every promise of the contracts, put to one store at once."""

from __future__ import annotations

import asyncio

from silence_gateway.clock import SystemClock
from silence_gateway.limiting.assembly import limit_engine
from silence_gateway.stores.contracts import Store
from silence_gateway.stores.sessions_valkey import ValkeySessions
from silence_gateway.stores.settings import StoreSettings
from silence_gateway.stores.valkey import ValkeyStore
from silence_gateway.testing.limit_checks import check_limit_store
from silence_gateway.testing.session_checks import check_session_store
from silence_gateway.testing.store_checks import check_board, check_bus


async def check_everything(settings: StoreSettings, fleet: str) -> None:
    """Run every public check at once: they wait for time to pass more than for anything else."""

    async def make_store() -> Store:
        store = ValkeyStore(settings, fleet)
        await store.start()
        assert store.up, "a store that is there is usable when start returns"
        return store

    store = ValkeyStore(settings, fleet)
    await store.start()
    engine = limit_engine(store, fleet, SystemClock())
    assert engine.leasing is not None
    try:
        async with asyncio.TaskGroup() as checks:
            checks.create_task(check_board(make_store, asyncio.sleep))
            checks.create_task(check_bus(make_store))
            checks.create_task(check_session_store(ValkeySessions(store.general, fleet), asyncio.sleep))
            checks.create_task(check_limit_store(engine.leasing, asyncio.sleep))
    finally:
        await engine.stop()
        await store.stop()
