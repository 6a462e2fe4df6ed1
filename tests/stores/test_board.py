"""The Valkey board: pushes may be lost, the server may lose its memory, the copies come right."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.stores.shards import general

from silence_gateway.errors import StoreUnavailable
from silence_gateway.stores import board as board_file
from silence_gateway.stores import keys
from silence_gateway.stores.board_room import Push, Room
from silence_gateway.stores.rooms import RoomCopy
from silence_gateway.stores.settings import StoreSettings
from silence_gateway.stores.valkey import ValkeyStore
from silence_gateway.testing.clock import FakeClock
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
            await general(one).call(b"FLUSHALL")
            if first_write:
                await one.board.put("r", "new", b"4", ttl_s=60)
            expected = {"kept": b"1", "lives": b"2"} | ({"new": b"4"} if first_write else {})

            async def at_server() -> set[bytes]:
                fields = await general(one).call(b"HKEYS", keys.board_room(fleet, "r"))
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
            found = await general(store).call(b"KEYS", b"*")
            assert len(found) >= 4
            for key in found:
                assert key.startswith(fleet.encode() + b":v2:")
                assert await general(store).call(b"PTTL", key) > 0, key
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


@pytest.mark.valkey
def test_a_room_that_changes_all_the_time_is_never_read_as_a_whole(
    valkey_url: str, fleet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A poll that meets changes on their way must not ask for thousands of values, over and over."""
    monkeypatch.setattr(board_file, "POLL_S", 0.02)

    async def scenario() -> None:
        one, two = ValkeyStore(valkey_url, fleet), ValkeyStore(valkey_url, fleet)
        await one.start()
        await two.start()
        try:
            seen = two.board.watch("r")
            one.board.watch("r")
            for store in (one, two):
                await store.bus.ready("board/r")
                await eventually(lambda s=store: s.valkey_board.reads > 0, "a first look")  # type: ignore[misc]
            for first in range(0, 3000, 30):
                await asyncio.gather(*(one.board.put("r", str(first + n), b"x" * 50) for n in range(30)))
            await eventually(lambda: len(seen) == 3000, "every change arrives")

            for store in (one, two):
                assert (store.valkey_board.missed, store.valkey_board.restored) == (0, 0)
                assert store.valkey_board.rooms["r"].version == store.valkey_board.rooms["r"].tip
                # One reading when it is watched, and one per poll while there is no such room.
                assert store.valkey_board.reads < 10
        finally:
            await one.stop()
            await two.stop()

    asyncio.run(scenario())


@pytest.mark.valkey
def test_many_writes_of_a_bad_time_reach_the_fleet_some_at_a_time(
    valkey_url: str, fleet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board_file, "POLL_S", 0.05)

    async def scenario() -> None:
        one, two = ValkeyStore(valkey_url, fleet), ValkeyStore(valkey_url, fleet)
        await one.start()
        await two.start()
        try:
            seen, mine = two.board.watch("r"), one.board.watch("r")
            general(one).refusal = lambda: StoreUnavailable("away")
            put = [one.board.put("r", str(number), b"1", ttl_s=60) for number in range(500)]
            outcomes = await asyncio.gather(*put, return_exceptions=True)
            assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes)
            assert (len(mine), len(seen)) == (500, 0)
            with pytest.raises(StoreUnavailable):
                await one.board.remove("r", "7")
            general(one).refusal = None
            await eventually(lambda: len(seen) == 499, "what was written meanwhile reaches the others")
            await eventually(lambda: not one.valkey_board.rooms["r"].copy.own, "and is settled")
            assert set(seen) == set(mine)
        finally:
            await one.stop()
            await two.stop()

    asyncio.run(scenario())


@pytest.mark.valkey
@pytest.mark.parametrize("turns", range(6))
def test_what_is_sent_again_does_not_follow_a_later_word_to_the_store(
    valkey_url: str, fleet: str, turns: int
) -> None:
    async def scenario() -> None:
        store = ValkeyStore(valkey_url, fleet)
        await store.start()
        try:
            general(store).refusal = lambda: StoreUnavailable("away")
            with pytest.raises(StoreUnavailable):
                await store.board.put("r", "name", b"old", ttl_s=60)
            general(store).refusal = None
            store.valkey_board.repeat(store.valkey_board.rooms["r"])
            for _ in range(turns):
                await asyncio.sleep(0)
            await store.board.remove("r", "name")
            await eventually(lambda: not store.valkey_board.rooms["r"].repeating, "it was sent again, or not")
            fields = await general(store).call(b"HKEYS", keys.board_room(fleet, "r"))
            assert b"=name" not in fields
        finally:
            await store.stop()

    asyncio.run(scenario())


@pytest.mark.valkey
def test_a_large_room_is_given_back_without_what_was_removed_meanwhile(
    fleet: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(board_file, "POLL_S", 0.05)
    monkeypatch.setattr(board_file, "AT_ONCE", 4)

    async def scenario(url: str) -> None:
        one, two = ValkeyStore(url, fleet), ValkeyStore(url, fleet)
        await one.start()
        await two.start()
        try:
            seen = two.board.watch("r")
            await asyncio.gather(*(one.board.put("r", str(number), b"1") for number in range(300)))
            await eventually(lambda: len(seen) == 300, "all are known")
            await general(one).call(b"FLUSHALL")
            await eventually(lambda: two.valkey_board.restored > 0, "the room is being given back")
            await two.board.remove("r", "299")
            await eventually(lambda: two.valkey_board.restored >= 299, "all of it")
            fields = await general(one).call(b"HKEYS", keys.board_room(fleet, "r"))
            assert {field for field in fields if field.startswith(b"=")} == {b"=%d" % n for n in range(299)}
        finally:
            await one.stop()
            await two.stop()

    with ValkeyServer() as server:
        asyncio.run(scenario(server.url))


changes = st.lists(
    st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans(), st.booleans()), max_size=25
)


@given(changes)
def test_a_copy_comes_right_whatever_is_lost_and_however_readings_and_pushes_meet(
    steps: list[tuple[str, bool, bool, bool]],
) -> None:
    """Each step changes a name; the push may be lost; a reading may begin, and one may be answered."""

    async def scenario() -> None:
        copy = RoomCopy(FakeClock())
        room = Room("r", b"r", copy)
        truth: dict[str, bytes] = {}
        version = 0
        answer: tuple[int, int, dict[str, tuple[bytes, float | None]]] | None = None

        def begin() -> None:
            nonlocal answer
            room.heard.clear()
            answer = (room.version, version, {name: (value, None) for name, value in truth.items()})

        def finish() -> bool:
            assert answer is not None
            known, at, values = answer
            return at == known or room.take(at, values)

        for name, lost, begins, answered in steps:
            before, version = version, version + 1
            value = None if truth.get(name) else b"%d" % version
            if value is None:
                truth.pop(name, None)
            else:
                truth[name] = value
            if not lost:
                copy.apply(name, value, None)
                room.hear(name, version, before)
            if begins and answer is None:
                begin()
            elif answered and answer is not None:
                finish()
                answer = None
            if room.version == version:
                assert dict(copy.view) == truth, "what claims to be everything is everything"
        begin()
        finish()
        assert dict(copy.view) == truth
        assert room.version == room.tip == version

    asyncio.run(scenario())


@pytest.mark.valkey
def test_large_values_are_stored_compressed_and_damaged_ones_hide_no_other(
    valkey_url: str, fleet: str
) -> None:
    async def scenario() -> None:
        one = ValkeyStore(valkey_url, fleet)
        two = ValkeyStore(StoreSettings(url=valkey_url, compress_over=1_000_000), fleet)
        await one.start()
        await two.start()
        try:
            big = b"abc" * 10_000
            pushed = two.board.watch("r")
            await one.board.put("r", "big", big, ttl_s=60)
            await two.board.put("r", "plain", big, ttl_s=60)
            room = keys.board_room(fleet, "r")
            assert await general(one).call(b"HSTRLEN", room, b"=big") < 200
            assert await general(one).call(b"HSTRLEN", room, b"=plain") > 30_000
            await eventually(lambda: dict(pushed) == {"big": big, "plain": big}, "pushes are read")

            ends, _, _ = (await general(one).call(b"HGET", room, b"=big")).partition(b":")
            await general(one).call(b"HSET", room, b"=odd", ends + b":\x28\xb5\x2f\xfd odd")
            late = ValkeyStore(valkey_url, fleet)
            await late.start()
            read = late.board.watch("r")
            await eventually(lambda: dict(read) == {"big": big, "plain": big}, "a whole room is read")
            assert late.valkey_board.unreadable >= 1
            await late.stop()
        finally:
            await one.stop()
            await two.stop()

    asyncio.run(scenario())
