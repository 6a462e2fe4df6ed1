"""Sessions in a real Valkey keep every promise, and every key ends by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
import redis.asyncio

from silence_gateway.stores.contracts import Script
from silence_gateway.stores.session_contract import Presence, SessionRecord
from silence_gateway.stores.sessions_valkey import ValkeySessions, decode_presence, encode_presence
from silence_gateway.testing.session_checks import check_session_store
from silence_gateway.testing.valkey import ValkeyServer


class Scripts:
    """A `ScriptRunner` without batching: what is tested here is the scripts."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self.client = client

    async def run(self, script: Script, keys: Sequence[bytes], args: Sequence[bytes | int]) -> Any:
        given: list[Any] = [*keys, *args]
        return await self.client.eval(script.text, len(keys), *given)


def with_client(valkey: ValkeyServer, scenario: Callable[[redis.asyncio.Redis], Awaitable[None]]) -> None:
    async def run() -> None:
        client = redis.asyncio.Redis(unix_socket_path=valkey.socket)
        try:
            await scenario(client)
        finally:
            await client.aclose()

    asyncio.run(run())


@pytest.mark.valkey
def test_valkey_keeps_every_promise(valkey: ValkeyServer, fleet: str) -> None:
    async def scenario(client: redis.asyncio.Redis) -> None:
        # The server's own clock decides about leases, so this time really passes: 1.2 s in all.
        await check_session_store(ValkeySessions(Scripts(client), fleet), asyncio.sleep)

    with_client(valkey, scenario)


@pytest.mark.valkey
def test_every_key_ends_by_itself_and_begins_with_the_fleet(valkey: ValkeyServer, fleet: str) -> None:
    async def scenario(client: redis.asyncio.Redis) -> None:
        store = ValkeySessions(Scripts(client), fleet)
        await store.write([SessionRecord(id="a", instance="one", user="ann")], 60)
        await store.join("room{x}", {"a": Presence("ann", b"{}")}, 60)
        await store.beat("one", 10, b"{}")

        keys = [key async for key in client.scan_iter(f"{fleet}:v2:session:*")]
        ttls = [await client.pttl(key) for key in keys]

        assert len(keys) == 3 + 3 + 2
        assert all(ttl > 0 for ttl in ttls)
        assert all(key.count(b"{") == key.count(b"}") == 1 for key in keys)

    with_client(valkey, scenario)


@pytest.mark.valkey
def test_a_shorter_write_never_shortens_an_index(valkey: ValkeyServer, fleet: str) -> None:
    async def scenario(client: redis.asyncio.Redis) -> None:
        store = ValkeySessions(Scripts(client), fleet)
        await store.write([SessionRecord(id="a", instance="one")], 60)
        await store.write([SessionRecord(id="b", instance="one")], 1)

        assert await client.pttl(store.key("i", "one")) > 50_000

    with_client(valkey, scenario)


@pytest.mark.parametrize("user", ["", "ann", "3:x", "ü" * 10, "\ud800"])
def test_presence_is_read_back_as_it_was_written(user: str) -> None:
    presence = Presence(user, b'{"a":":"}')

    assert decode_presence(encode_presence(presence)) == presence


@pytest.mark.valkey
def test_large_payloads_are_stored_compressed_and_damaged_ones_count_as_missing(
    valkey: ValkeyServer, fleet: str
) -> None:
    async def scenario(client: redis.asyncio.Redis) -> None:
        store, other = ValkeySessions(Scripts(client), fleet), ValkeySessions(Scripts(client), fleet)
        info = b'{"text":"' + b"abc" * 1000 + b'"}'
        big = SessionRecord(id="big", instance="one", channels=tuple(f"channel-{n}" for n in range(300)))
        await store.write([big, SessionRecord(id="odd", instance="one")], 60)
        await store.join("room", {"a": Presence("ann", info)}, 60)
        await store.beat("one", 60, info)
        # Another threshold reads it all the same.
        other.compression.over = 1_000_000

        assert await client.strlen(store.key("s", "big")) < 2000
        assert await other.get("big") == big
        assert await other.presence("room", 10) == {"a": Presence("ann", info)}
        assert [each.info for each in await other.instances()] == [info]

        await client.set(store.key("s", "odd"), b"\x28\xb5\x2f\xfd odd", keepttl=True)
        assert await other.get("odd") is None
        assert [each.id for each in (await other.list_by_instance("one", "", 10)).sessions] == ["big"]
        assert other.unreadable == 2

    with_client(valkey, scenario)
