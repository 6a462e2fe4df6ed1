"""The Valkey board: pushes may be lost, the server may lose its memory, the copies come right."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.stores import board as board_file
from silence_gateway.stores import keys
from silence_gateway.stores.board import Push
from silence_gateway.stores.valkey import ValkeyStore
from silence_gateway.testing.store_checks import eventually
from silence_gateway.testing.valkey import ValkeyServer


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_payload_is_a_push_or_refused(payload: bytes) -> None:
    try:
        push = Push(payload)
    except ValueError:
        return
    assert push.version > push.before >= 0


@given(st.text(min_size=1, max_size=20), st.binary(max_size=50), st.integers(0, 2**52), st.integers(1, 1000))
def test_a_push_is_read_as_it_was_written(name: str, value: bytes, before: int, ttl_us: int) -> None:
    raw = name.encode()
    head = b"%d %d 5000 %d %d\n" % (before + 1, before, 5000 + ttl_us, len(raw))
    push = Push(head + raw + value)

    assert (push.name, push.value, push.before) == (name, value, before)
    assert push.left_s == ttl_us / 1_000_000


@pytest.mark.valkey
def test_a_lost_push_is_noticed_at_the_next(
    valkey_url: str, fleet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board_file, "POLL_S", 60.0)  # or the poll may find what the push should tell

    async def scenario() -> None:
        one, two = ValkeyStore(valkey_url, fleet), ValkeyStore(valkey_url, fleet)
        await one.start()
        await two.start()
        try:
            seen = two.board.watch("r")
            await one.board.put("r", "a", b"1")
            await eventually(lambda: seen.get("a") == b"1", "a push arrives")
            entry = two.valkey_board.rooms["r"]
            await eventually(lambda: entry.version > 0 and entry.reading is None, "the first reading is over")
            # Writes that nobody hears of: the same script, announced on a channel without listeners.
            room = keys.board_room(fleet, "r")
            await one.general.run(board_file.WRITE, [room], [b"nowhere", b"S", b"b", 0, b"2", 100])
            await one.general.run(board_file.WRITE, [room], [b"nowhere", b"R", b"a", 0, b"", 100])
            await one.board.put("r", "c", b"3")
            await eventually(
                lambda: dict(seen) == {"b": b"2", "c": b"3"}, "the next push tells of the lost ones"
            )
            assert two.valkey_board.missed == 1
        finally:
            await one.stop()
            await two.stop()

    asyncio.run(scenario())


@pytest.mark.valkey
def test_a_lost_last_push_is_found_by_the_poll_and_an_unchanged_room_is_not_sent(
    valkey_url: str, fleet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board_file, "POLL_S", 0.05)

    async def scenario() -> None:
        store = ValkeyStore(valkey_url, fleet)
        await store.start()
        try:
            seen = store.board.watch("r")
            await store.board.put("r", "a", b"x" * 50_000)
            room = keys.board_room(fleet, "r")
            answer = await store.general.run(board_file.READ, [room], [store.valkey_board.rooms["r"].version])
            assert len(answer) == 3, "an unchanged room costs three numbers"
            await store.general.run(board_file.WRITE, [room], [b"nowhere", b"S", b"b", 0, b"2", 100])
            await eventually(lambda: seen.get("b") == b"2", "the poll finds it")
        finally:
            await store.stop()

    asyncio.run(scenario())


@pytest.mark.valkey
@pytest.mark.parametrize("first_write", [False, True], ids=["wiped", "wiped-and-written"])
def test_a_server_that_lost_its_memory_is_given_it_back(
    fleet: str, monkeypatch: pytest.MonkeyPatch, first_write: bool
) -> None:
    monkeypatch.setattr(board_file, "POLL_S", 0.1)

    async def scenario(url: str) -> None:
        one, two = ValkeyStore(url, fleet), ValkeyStore(url, fleet)
        await one.start()
        await two.start()
        try:
            seen_by_one, seen_by_two = one.board.watch("r"), two.board.watch("r")
            await one.board.put("r", "kept", b"1")
            await one.board.put("r", "lives", b"2", ttl_s=60)
            await one.board.put("r", "removed", b"3")
            await one.board.remove("r", "removed")
            await eventually(lambda: set(seen_by_two) == {"kept", "lives"}, "both know")
            await one.general_lane.call(b"FLUSHALL")
            if first_write:
                await one.board.put("r", "new", b"4", ttl_s=60)
            expected = {"kept": b"1", "lives": b"2"} | ({"new": b"4"} if first_write else {})

            async def at_server() -> set[bytes]:
                fields = await one.general_lane.call(b"HKEYS", keys.board_room(fleet, "r"))
                return {field for field in fields if field.startswith(b"=")}

            end_s = asyncio.get_running_loop().time() + 5
            while await at_server() != {b"=" + name.encode() for name in expected}:
                assert asyncio.get_running_loop().time() < end_s, await at_server()
            await eventually(lambda: dict(seen_by_one) == dict(seen_by_two) == expected, "nothing was lost")
        finally:
            await one.stop()
            await two.stop()

    with ValkeyServer() as server:
        asyncio.run(scenario(server.url))


@pytest.mark.valkey
def test_every_key_has_a_time_to_live(fleet: str) -> None:
    async def scenario(url: str) -> None:
        store = ValkeyStore(url, fleet)
        await store.start()
        try:
            store.board.watch("r")
            await store.board.put("r", "a", b"1")
            await store.board.put("s", "a", b"1", ttl_s=0.5)
            await store.board.remove("t", "a")
            await store.board.lead("r", "job", 1)
            found = await store.general_lane.call(b"KEYS", b"*")
            assert len(found) >= 4
            for key in found:
                assert key.startswith(fleet.encode() + b":v2:")
                assert await store.general_lane.call(b"PTTL", key) > 0, key
        finally:
            await store.stop()

    with ValkeyServer() as server:
        asyncio.run(scenario(server.url))


@pytest.mark.valkey
def test_a_room_takes_no_more_than_it_can_hold(
    valkey_url: str, fleet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board_file, "MAX_VALUES", 3)
    from silence_gateway.errors import StoreMisconfigured

    async def scenario() -> None:
        store = ValkeyStore(valkey_url, fleet)
        await store.start()
        try:
            seen = store.board.watch("r")
            for number in range(3):
                await store.board.put("r", str(number), b"")
            with pytest.raises(StoreMisconfigured, match="room of the board is full"):
                await store.board.put("r", "more", b"")
            await store.board.put("r", "0", b"rewritten")
            assert "more" not in seen
            assert seen["0"] == b"rewritten"
        finally:
            await store.stop()

    asyncio.run(scenario())


@pytest.mark.valkey
def test_stopping_gives_up_leases(valkey_url: str, fleet: str) -> None:
    async def scenario() -> None:
        one, two = ValkeyStore(valkey_url, fleet), ValkeyStore(valkey_url, fleet)
        await one.start()
        await two.start()
        held = await one.board.lead("r", "job", 60)
        await one.stop()
        try:
            assert await two.board.lead("r", "job", 60) > held > 0
        finally:
            await two.stop()

    asyncio.run(scenario())
