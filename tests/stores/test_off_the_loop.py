"""What may take long is done beside the event loop, on which every request of the process is decided."""

from __future__ import annotations

import asyncio
import threading

import pytest
import redis.utils

from silence_gateway.stores import valkey
from silence_gateway.stores.client import Login, StoreRefused
from silence_gateway.stores.discovery import Directory
from silence_gateway.stores.embedded import EmbeddedServer
from silence_gateway.stores.settings import StoreSettings
from silence_gateway.stores.url import Node
from silence_gateway.stores.valkey import ValkeyStore


def test_what_asks_sentinels_is_imported_beside_the_loop_and_made_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The import takes 0.1 s of CPU; two first questions at once are asked by one."""
    real, where = valkey._import_directory, list[threading.Thread]()

    def noted() -> type[Directory]:
        where.append(threading.current_thread())
        return real()

    monkeypatch.setattr(valkey, "_import_directory", noted)

    async def scenario() -> None:
        store = ValkeyStore(StoreSettings(url="valkey+sentinel://127.0.0.1:1/mymaster/0"), "edge")
        made = await asyncio.gather(store._directory(), store._directory())
        assert made[0] is made[1]
        with pytest.raises(StoreRefused):
            await store.find_primary()
        assert store.directory is made[0]
        await store.directory.close()

    asyncio.run(scenario())
    assert where
    assert threading.main_thread() not in where


def test_a_question_reads_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Left to itself, redis-py looks its own version up on the disk for every connection."""
    looked: list[None] = []
    monkeypatch.setattr(redis.utils, "get_lib_version", lambda: looked.append(None))

    async def plain() -> None:
        return None

    async def scenario() -> None:
        directory = Directory(lambda: Login("", ""), plain, deadline_s=1.0)
        client = await directory.client(Node("127.0.0.1", 1))
        client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
        await client.aclose()

    asyncio.run(scenario())
    assert looked == []


@pytest.mark.valkey
def test_a_server_of_our_own_that_starts_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it answers already is asked in a thread: that may take a tenth of a second each time."""
    where: list[threading.Thread] = []

    async def scenario() -> None:
        server = EmbeddedServer()
        real = server.process.answers

        def noted() -> bool:
            where.append(threading.current_thread())
            return real()

        monkeypatch.setattr(server.process, "answers", noted)
        await server.start()
        await server.stop()

    asyncio.run(scenario())
    assert where
    assert threading.main_thread() not in where
