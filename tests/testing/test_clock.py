"""The fake clock moves only when told, and fires in order."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.clock import Clock
from silence_gateway.testing import FakeClock


def test_it_is_a_clock() -> None:
    clock: Clock = FakeClock(now_us=5)

    assert clock.now_us() == 5
    assert clock.monotonic_s() == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 1000), max_size=20))
def test_timers_fire_in_the_order_they_fall_due_and_never_early(delays_ms: list[int]) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        fired: list[tuple[int, int]] = []
        for index, delay_ms in enumerate(delays_ms):

            def fire(index: int = index) -> None:
                fired.append((round(clock.monotonic_s() * 1000), index))

            clock.call_later(delay_ms / 1000, fire)

        await clock.advance(1)

        assert fired == sorted((delay_ms, index) for index, delay_ms in enumerate(delays_ms))

    asyncio.run(scenario())


def test_a_sleeper_that_sleeps_again_is_woken_in_the_same_advance() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        wakes: list[float] = []

        async def tick() -> None:
            while True:
                await clock.sleep(0.25)
                wakes.append(clock.monotonic_s())

        task = asyncio.create_task(tick())
        await clock.advance(1)
        task.cancel()

        assert wakes == [0.25, 0.5, 0.75, 1.0]

    asyncio.run(scenario())


def test_a_cancelled_timer_never_fires() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        fired: list[int] = []
        clock.call_later(1, lambda: fired.append(1)).cancel()

        await clock.advance(2)

        assert fired == []

    asyncio.run(scenario())


def test_stepping_the_wall_clock_moves_no_timer() -> None:
    async def scenario() -> None:
        clock = FakeClock(now_us=0)
        fired: list[int] = []
        clock.call_later(1, lambda: fired.append(1))
        clock.step_wall(3600)
        await clock.advance(0.5)

        assert fired == []
        assert clock.now_us() == 3_600_500_000
        assert clock.monotonic_s() == 0.5

    asyncio.run(scenario())
