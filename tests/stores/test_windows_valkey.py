"""Window counters in Valkey, and without it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.clock import SystemClock
from silence_gateway.core.limits import WhenDown
from silence_gateway.core.slots import slot_of
from silence_gateway.errors import StoreFault, StoreMisconfigured, StoreUnavailable
from silence_gateway.stores.contracts import Script
from silence_gateway.stores.valkey import ValkeyStore
from silence_gateway.stores.window_contract import Tally, WindowCount
from silence_gateway.stores.windows_falling_back import DENIED, FallingBackCounters
from silence_gateway.stores.windows_memory import MemoryCounters
from silence_gateway.stores.windows_valkey import ValkeyCounters
from silence_gateway.testing import FakeClock, settle
from silence_gateway.testing.store_checks import eventually
from silence_gateway.testing.valkey import ValkeyServer
from silence_gateway.testing.window_checks import check_window_counters

HOUR_US = 3_600_000_000


def count(key: str = "k", hits: int = 1, window_us: int = HOUR_US, name: str = "d") -> WindowCount:
    return WindowCount(name, window_us, key, hits)


async def pass_real_time(seconds: float) -> None:
    """The server's own clock decides here, so time has to pass for real."""
    over = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds + 0.002, over.set)
    await over.wait()


def with_store(url: str, fleet: str, scenario: Callable[[ValkeyStore], Any]) -> None:
    async def main() -> None:
        store = ValkeyStore(url, fleet)
        await store.start()
        try:
            await scenario(store)
        finally:
            await store.stop()

    asyncio.run(main())


@pytest.mark.valkey
@pytest.mark.parametrize("spread", [False, True])
def test_valkey_keeps_every_promise(valkey_url: str, fleet: str, spread: bool) -> None:
    async def scenario(store: ValkeyStore) -> None:
        await check_window_counters(ValkeyCounters(store.scripts, fleet, spread=spread), pass_real_time)

    with_store(valkey_url, fleet, scenario)


@pytest.mark.valkey
def test_all_of_one_tick_is_one_call_and_every_key_ends_by_itself(valkey_url: str, fleet: str) -> None:
    async def scenario(store: ValkeyStore) -> None:
        counters = ValkeyCounters(store.scripts, fleet)
        asked = [counters.add([count(f"secret-{n}"), count("all")]) for n in range(20)]
        told = await asyncio.gather(*asked)

        assert counters.batches == 1
        assert [each[1].after for each in told] == list(range(1, 21))
        assert store.only is not None
        lane = store.only.general
        keys = await lane.call(b"KEYS", fleet.encode() + b":*window*")
        assert len(keys) == 21
        assert not any(b"secret" in key for key in keys)
        assert len({slot_of(key) for key in keys}) > 15, "no slot has them all"
        for key in keys:
            assert 0 < await lane.call(b"PTTL", key) <= HOUR_US // 1000 + 2000

    with_store(valkey_url, fleet, scenario)


TRACES = st.lists(
    st.tuples(st.sampled_from(["a", "b"]), st.integers(-5, 9), st.sampled_from([1_000_000, HOUR_US])),
    max_size=20,
)


@pytest.mark.valkey
def test_it_counts_as_memory_does(valkey_url: str, fleet: str) -> None:
    """On the same trace, within one window; where windows begin is checked by the promises."""

    async def scenario(store: ValkeyStore) -> None:
        runs = 0

        async def compare(trace: list[tuple[str, int, int]]) -> None:
            nonlocal runs
            runs += 1
            valkey, memory = ValkeyCounters(store.scripts, f"{fleet}{runs}"), MemoryCounters(FakeClock())
            counts = [count(key, hits, HOUR_US * 24, f"d{window}") for key, hits, window in trace]
            told = await valkey.add(counts)
            assert [one.after for one in told] == [one.after for one in memory.add_now(counts)]

        loop = asyncio.get_running_loop()

        @settings(max_examples=60, deadline=None)
        @given(TRACES)
        def every_trace(trace: list[tuple[str, int, int]]) -> None:
            asyncio.run_coroutine_threadsafe(compare(trace), loop).result(10)

        await asyncio.to_thread(every_trace)

    with_store(valkey_url, fleet, scenario)


class Answering:
    """A ScriptPoster that fails, or leaves its callers waiting."""

    def __init__(self, fault: StoreFault | None) -> None:
        self.fault = fault
        self.sizes: list[int] = []

    def run(self, _script: Script, _keys: Sequence[bytes], _args: Sequence[bytes | int]) -> Any:
        raise AssertionError

    def post(
        self,
        _script: Script,
        keys: Sequence[bytes],
        _args: Sequence[bytes | int],
        _on_answer: Callable[[Any], None],
        on_failure: Callable[[StoreFault], None],
    ) -> None:
        self.sizes.append(len(keys))
        if self.fault is not None:
            on_failure(self.fault)


@pytest.mark.parametrize("fault", [StoreUnavailable("late"), StoreMisconfigured("NOPERM")])
def test_there_is_one_kind_of_trouble(fault: StoreFault) -> None:
    async def scenario() -> None:
        counters = ValkeyCounters(Answering(fault), "f")
        with pytest.raises(StoreUnavailable):
            await counters.add([count("a"), count("b")])

    asyncio.run(scenario())


def test_who_has_left_is_not_counted_and_long_lists_go_in_parts() -> None:
    async def scenario() -> None:
        scripts = Answering(None)
        counters = ValkeyCounters(scripts, "f")
        counters.add([count("gone")]).cancel()
        long = counters.add([count(str(n)) for n in range(300)])
        await settle()

        assert scripts.sizes == [256, 44]
        long.cancel()

    asyncio.run(scenario())


class Fleet:
    """Shared counters that a test takes away."""

    def __init__(self, clock: FakeClock) -> None:
        self.counters = MemoryCounters(clock)
        self.up = True
        self.partly_away = ""
        self.live_instances = 3
        self.fault: StoreUnavailable | None = None

    async def add(self, counts: Sequence[WindowCount]) -> Sequence[Tally]:
        if self.fault is not None:
            raise self.fault
        return self.counters.add_now(counts)


@pytest.mark.parametrize("up", [True, False])
def test_it_keeps_every_promise_with_and_without_the_store(up: bool) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        fleet = Fleet(clock)
        fleet.up = up
        await check_window_counters(FallingBackCounters(fleet, fleet, clock), clock.advance)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("when_down", "after", "parts"),
    [
        (WhenDown.LOCAL_SHARE, 5, 3),
        (WhenDown.LOCAL_FULL, 5, 0),
        (WhenDown.ALLOW, 0, 0),
        (WhenDown.DENY, DENIED, 0),
    ],
)
def test_each_way_of_doing_without_the_store(when_down: WhenDown, after: int, parts: int) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        fleet = Fleet(clock)
        fleet.up = False
        counters = FallingBackCounters(fleet, fleet, clock, when_down)

        [told] = await counters.add([count(hits=5)])

        assert (told.after, told.parts) == (after, parts)
        assert counters.local_decisions == 1

    asyncio.run(scenario())


def test_a_store_that_is_back_is_told_what_was_counted_meanwhile() -> None:
    async def scenario() -> None:
        clock = FakeClock(HOUR_US * 500_000)
        fleet = Fleet(clock)
        counters = FallingBackCounters(fleet, fleet, clock)
        await counters.add([count(hits=2)])
        fleet.up = False
        await counters.add([count(hits=5), count("short", 3, 1_000_000)])
        await counters.add([count(hits=4), count("zero", 0)])
        clock.step_wall(2)

        fleet.up = True
        await counters.add([count(hits=0)])
        await settle()

        [told] = await counters.add([count(hits=0)])
        assert (told.after, told.parts) == (11, 1)
        assert counters.charged == 9, "what a window that is over had counted is of no use"
        assert counters.owed == {}

    asyncio.run(scenario())


@pytest.mark.parametrize(("sent", "charged"), [(False, 1), (True, 0)])
def test_only_what_was_never_sent_is_told_again(sent: bool, charged: int) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        fleet = Fleet(clock)
        counters = FallingBackCounters(fleet, fleet, clock)
        fleet.fault = StoreUnavailable("cut", sent=sent)
        assert (await counters.add([count()]))[0].after == 1
        fleet.fault = None

        await counters.add([count("other")])
        await settle()

        assert counters.charged == charged

    asyncio.run(scenario())


def test_there_is_a_bound_to_what_is_owed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("silence_gateway.stores.windows_falling_back.MAX_OWED", 2)

    async def scenario() -> None:
        clock = FakeClock()
        fleet = Fleet(clock)
        fleet.up = False
        counters = FallingBackCounters(fleet, fleet, clock)
        await counters.add([count(str(n), 2) for n in range(3)])
        fleet.up, fleet.fault = True, StoreUnavailable("late")
        await counters.add([count("x")])
        await settle()

        assert (len(counters.owed), counters.uncharged) == (0, 6)

    asyncio.run(scenario())


def test_what_a_dead_store_was_told_before_that_was_known_is_told_when_it_is_back() -> None:
    """Several questions meet a server that was killed: its first refusals do not make it known to be away."""

    async def scenario() -> None:
        clock = FakeClock()
        fleet = Fleet(clock)
        counters = FallingBackCounters(fleet, fleet, clock)
        fleet.fault = StoreUnavailable("connection refused", sent=False)
        for key in ("a", "b", "c"):
            await counters.add([count(key)])
            await settle()
        assert (counters.local_decisions, counters.charged, counters.uncharged) == (3, 0, 0)

        fleet.fault = None
        await counters.add([count("other", 0)])
        await settle()

        assert (counters.charged, counters.uncharged, counters.owed) == (3, 0, {})
        assert [told.after for told in fleet.counters.add_now([count(key, 0) for key in "abc"])] == [1, 1, 1]

    asyncio.run(scenario())


@pytest.mark.valkey
@pytest.mark.parametrize("at_once", [False, True])
def test_every_hit_that_met_a_killed_server_is_told_when_it_has_started_again(
    fleet: str, *, at_once: bool
) -> None:
    async def scenario(server: ValkeyServer) -> None:
        store = ValkeyStore(server.url, fleet)
        await store.start()
        counters = FallingBackCounters(ValkeyCounters(store.scripts, fleet), store, SystemClock())
        try:
            await counters.add([count("before")])
            assert store.only is not None
            only = store.only
            server.kill()
            # Until then a question is written to a connection that has ended, and may have been heard.
            await eventually(lambda: not only.hot.connected, "the lane knows that its connection has ended")
            asked = [counters.add([count(key)]) for key in "abc"]
            if at_once:
                await asyncio.gather(*asked)
            else:
                for each in asked:
                    await each
            assert (counters.local_decisions, counters.charged, counters.uncharged) == (3, 0, 0)

            server.start()
            await eventually(lambda: store.up and only.hot.connected, "the store is back")
            await counters.add([count("after")])
            await eventually(lambda: counters.charging is None, "it was told")

            assert (counters.charged, counters.uncharged, counters.owed) == (3, 0, {})
            assert [told.after for told in await counters.add([count(key, 0) for key in "abc"])] == [1, 1, 1]
        finally:
            await counters.stop()
            await store.stop()

    with ValkeyServer() as server:
        asyncio.run(scenario(server))


def test_each_count_is_told_again_for_itself_and_never_in_another_window() -> None:
    class Parts(Fleet):
        """Some of a cluster: one part is cut off, one gives no answer, one takes until the next window."""

        async def add(self, counts: Sequence[WindowCount]) -> Sequence[Tally]:
            match counts[0].key if counts else "":
                case "cut":
                    raise StoreUnavailable("cut", sent=False)
                case "lost":
                    raise StoreUnavailable("lost")
                case "slow":
                    clock.step_wall(1)
                    raise StoreUnavailable("too late", sent=False)
            return await super().add(counts)

    clock = FakeClock(HOUR_US * 500_000)

    async def scenario() -> None:
        fleet = Parts(clock)
        fleet.up = False
        counters = FallingBackCounters(fleet, fleet, clock)
        await counters.add([count("cut", 1), count("lost", 2), count("slow", 4, 1_000_000), count("well", 8)])
        fleet.up = True
        await counters.add([count("other", 0)])
        await settle()

        assert (counters.charged, counters.uncharged) == (8, 2)
        assert list(counters.owed) == [("d", HOUR_US, "cut")]

    asyncio.run(scenario())


def test_stopping_ends_what_runs() -> None:
    class Never(Fleet):
        async def add(self, counts: Sequence[WindowCount]) -> Sequence[Tally]:
            if counts and counts[0].key == "owed":
                await asyncio.Event().wait()
            return await super().add(counts)

    async def scenario() -> None:
        clock = FakeClock()
        fleet = Never(clock)
        fleet.up = False
        counters = FallingBackCounters(fleet, fleet, clock)
        await counters.add([count("owed")])
        fleet.up = True
        await counters.add([count("x")])
        await settle()

        await counters.stop()

        assert counters.charging is None

    asyncio.run(scenario())
