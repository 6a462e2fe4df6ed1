"""One server, sentinels or a cluster, in clear or with TLS: every promise of the contracts holds in each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from tests.stores.places import KINDS, Place, place

from silence_gateway.clock import SystemClock
from silence_gateway.limiting.assembly import limit_engine
from silence_gateway.stores.contracts import Store
from silence_gateway.stores.sessions_valkey import ValkeySessions
from silence_gateway.stores.settings import StoreSettings
from silence_gateway.stores.valkey import ValkeyStore
from silence_gateway.testing.limit_checks import check_limit_store
from silence_gateway.testing.session_checks import check_session_store
from silence_gateway.testing.store_checks import check_board, check_bus, eventually
from silence_gateway.testing.valkey import fresh_fleet

pytestmark = pytest.mark.valkey


@pytest.fixture(scope="module", params=KINDS)
def where(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(request.param, tmp_path_factory.mktemp("where")) as found:
        yield found


SAFELY = pytest.mark.parametrize("tls", [pytest.param(False, id="clear"), pytest.param(True, id="tls")])


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


@pytest.mark.parametrize("tls", [pytest.param(False, id="clear"), pytest.param(True, id="tls")])
def test_board_bus_sessions_and_limits_keep_their_promises(where: Place, fleet: str, tls: bool) -> None:
    asyncio.run(check_everything(where.settings(tls=tls), fleet))


def test_instances_are_counted(where: Place, fleet: str) -> None:
    """In a cluster on each shard, and everybody comes to the same number."""

    async def scenario() -> None:
        stores = [ValkeyStore(where.settings(tls=False), fleet) for _ in range(3)]
        for store in stores:
            await store.start()
        try:
            await eventually(lambda: [store.live_instances for store in stores] == [3, 3, 3], "three live")
        finally:
            for store in stores:
                await store.stop()

    asyncio.run(scenario())


def test_a_store_is_left_without_a_trace_of_its_connections(where: Place) -> None:
    async def scenario() -> None:
        store = ValkeyStore(where.settings(tls=True), fresh_fleet())
        await store.start()
        await eventually(
            lambda: all(lane.connected for shard in store.shards for lane in shard.lanes), "lanes"
        )
        await store.stop()
        mine = f"{store.id}".encode()
        await eventually(
            lambda: not any(mine in server.call("CLIENT", "LIST") for server in where.servers), "none is left"
        )

    asyncio.run(scenario())
