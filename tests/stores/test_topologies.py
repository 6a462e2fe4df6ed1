"""One server, sentinels or a cluster, in clear or with TLS: every promise of the contracts holds in each."""

from __future__ import annotations

import asyncio

import pytest
from tests.stores.places import Place
from tests.stores.promises import check_everything

from silence_gateway.stores.valkey import ValkeyStore
from silence_gateway.testing.store_checks import eventually
from silence_gateway.testing.valkey import fresh_fleet

pytestmark = pytest.mark.valkey


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


def test_a_subscriber_that_hears_is_left_alone(where: Place) -> None:
    """In a cluster a publication may be answered by a server that the subscriber does not listen to."""

    async def once() -> None:
        store = ValkeyStore(where.settings(tls=False), fresh_fleet())
        await store.start()
        heard: list[bytes] = []
        store.bus.subscribe("news", heard.append)
        await store.bus.ready("news")
        await store.bus.ready(store.valkey_bus.own)
        store.valkey_bus.probe()
        for number in range(5):
            await store.bus.publish("news", b"%d" % number)
        await eventually(lambda: len(heard) == 5, "every message arrives")
        assert store.valkey_bus.interruptions == 0
        assert store.valkey_bus.restarts == 0
        await store.stop()

    for _ in range(6):  # names, and so the servers that publications go to, are drawn
        asyncio.run(once())
