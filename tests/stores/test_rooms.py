"""One instance's copy of a room: when values run out, and who hears of it."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.stores.rooms import MAX_STALE, RoomCopy
from silence_gateway.testing.clock import FakeClock


class Heard:
    """What a watcher hears."""

    def __init__(self, copy: RoomCopy) -> None:
        self.changes: list[tuple[str, bytes | None]] = []
        self.ends: list[str] = []
        copy.listen(lambda name, value: self.changes.append((name, value)), self.ends.append)


names = st.sampled_from("abc")
writes = st.tuples(names, st.none() | st.integers(1, 20))
steps = st.lists(st.tuples(st.sampled_from(["own", "pushed", "removed", "wait"]), writes), max_size=40)


@given(steps)
def test_a_value_is_there_exactly_as_long_as_it_was_last_said_to_live(
    taken: list[tuple[str, tuple[str, int | None]]],
) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        copy = RoomCopy(clock)
        heard = Heard(copy)
        alive: dict[str, float] = {}
        expected_ends = 0
        for number, (kind, (name, ttl_s)) in enumerate(taken):
            value = b"%d" % number
            if kind == "wait":
                await clock.advance(ttl_s or 1)
            elif kind == "removed":
                copy.apply(name, None, None)
                alive.pop(name, None)
            else:
                alive[name] = float("inf") if ttl_s is None else clock.monotonic_s() + ttl_s
                if kind == "pushed":
                    copy.apply(name, value, ttl_s)
                else:
                    copy.settle(name, copy.write(name, value, ttl_s), shared=True)
            ended = [name for name, end_s in alive.items() if end_s <= clock.monotonic_s()]
            for name in ended:
                del alive[name]
            expected_ends += len(ended)
            assert set(copy.view) == set(alive)
            assert len(heard.ends) == expected_ends

        assert sum(value is None for _, value in heard.changes) >= expected_ends

    asyncio.run(scenario())


def test_values_that_are_renewed_for_ever_leave_nothing_behind() -> None:
    async def scenario() -> None:
        copy = RoomCopy(FakeClock())
        for _ in range(10_000):
            copy.apply("a", b"1", 3600)

        assert len(copy.due) <= MAX_STALE + 3

    asyncio.run(scenario())


def test_what_a_fresh_reading_lacks_has_ended_only_if_its_end_was_near() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        copy = RoomCopy(clock)
        heard = Heard(copy)
        copy.apply("near", b"1", 10)
        copy.apply("far", b"1", 100)
        copy.apply("stays", b"1", None)
        await clock.advance(9.5)
        copy.replace({"stays": (b"1", None)})
        copy.apply("near", b"2", 10)
        copy.apply("near", b"2", 0)

        assert heard.ends == ["near", "near"]
        assert heard.changes[3:] == [("near", None), ("far", None), ("near", b"2"), ("near", None)]

    asyncio.run(scenario())


def test_closing_a_copy_stops_its_clock() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        copy = RoomCopy(clock)
        heard = Heard(copy)
        copy.write("a", b"1", 5)
        copy.close()
        await clock.advance(60)

        assert heard.ends == []

    asyncio.run(scenario())
