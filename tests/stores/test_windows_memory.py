"""Window counters in this process."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.stores.window_contract import Tally, WindowCount
from silence_gateway.stores.windows_memory import SWEEP_EVERY, MemoryCounters
from silence_gateway.testing.clock import FakeClock
from silence_gateway.testing.window_checks import check_window_counters

MINUTE_US = 60_000_000
HALF_PAST_S = 1_700_000_010  # 30 seconds into a minute


def at(seconds: float = HALF_PAST_S) -> FakeClock:
    return FakeClock(round(seconds * 1_000_000))


def count(key: str = "k", hits: int = 1, window_us: int = MINUTE_US) -> WindowCount:
    return WindowCount("d", window_us, key, hits)


def test_it_keeps_every_promise() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        await check_window_counters(MemoryCounters(clock), clock.advance)

    asyncio.run(scenario())


def test_windows_begin_at_whole_multiples_of_the_epoch() -> None:
    clock = at()
    counters = MemoryCounters(clock)

    assert counters.add_now([count()]) == [Tally(1, 30_000_000)]
    clock.step_wall(29.999_999)
    assert counters.add_now([count()]) == [Tally(2, 1)]
    clock.step_wall(0.000_001)
    assert counters.add_now([count()]) == [Tally(1, MINUTE_US)]


def test_a_clock_that_steps_back_does_not_begin_a_window_again() -> None:
    clock = at()
    counters = MemoryCounters(clock)
    counters.add_now([count(hits=3)])
    clock.step_wall(-60)

    assert counters.add_now([count()]) == [Tally(4, MINUTE_US)]


def test_counters_of_windows_that_are_over_are_dropped() -> None:
    clock = at()
    counters = MemoryCounters(clock)
    counters.add_now([count(str(number)) for number in range(100)])
    counters.add_now([count("other", window_us=2 * MINUTE_US)])
    assert counters.keys_kept() == 101

    clock.step_wall(120)
    for _ in range(SWEEP_EVERY):
        counters.add_now([])

    assert counters.keys_kept() == 0


def test_a_counter_back_at_nothing_takes_no_room() -> None:
    counters = MemoryCounters(at())
    counters.add_now([count("asked", 0), count("given", -1), count("back", 2), count("back", -2)])

    assert counters.keys_kept() == 0


def test_the_oldest_makes_room() -> None:
    counters = MemoryCounters(at(), max_keys=2)
    counters.add_now([count("a"), count("b"), count("a"), count("c")])

    assert counters.add_now([count("a", 0), count("b", 0), count("c", 0)]) == [
        Tally(0, 30_000_000),
        Tally(1, 30_000_000),
        Tally(1, 30_000_000),
    ]
    assert counters.evicted == 1


@given(st.lists(st.tuples(st.integers(0, 90), st.sampled_from("ab"), st.integers(-5, 5)), max_size=40))
def test_a_count_is_the_sum_of_the_hits_in_its_window(steps: list[tuple[int, str, int]]) -> None:
    clock = at()
    counters = MemoryCounters(clock)
    sums: dict[tuple[int, str], int] = {}
    for passed_s, key, hits in steps:
        clock.step_wall(passed_s)
        window = clock.now_us() // MINUTE_US
        sums[window, key] = max(0, sums.get((window, key), 0) + hits)

        assert counters.add_now([count(key, hits)]) == [
            Tally(sums[window, key], MINUTE_US - clock.now_us() % MINUTE_US)
        ]
