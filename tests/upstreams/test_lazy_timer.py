"""A timer whose time keeps moving rings once, when the last time that was said has come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from math import inf

from silence_gateway.testing.clock import FakeClock
from silence_gateway.upstreams.lazy_timer import LazyTimer

Rung = list[float]


def play(scenario: Callable[[FakeClock, LazyTimer, Rung], Awaitable[None]]) -> Rung:
    rung: Rung = []

    async def main() -> None:
        clock = FakeClock()
        begun_s = clock.monotonic_s()
        timer = LazyTimer(clock, lambda: rung.append(round(clock.monotonic_s() - begun_s, 3)))
        await scenario(clock, timer, rung)

    asyncio.run(main())
    return rung


def test_it_rings_once_at_the_latest_time_said() -> None:
    async def scenario(clock: FakeClock, timer: LazyTimer, rung: Rung) -> None:
        now_s = clock.monotonic_s()
        timer.ring_at(now_s + 1)
        timer.ring_at(now_s + 3)
        await clock.advance(2.5)
        assert rung == []
        await clock.advance(5)

    assert play(scenario) == [3.0]


def test_a_time_that_comes_closer_is_kept_to() -> None:
    async def scenario(clock: FakeClock, timer: LazyTimer, _rung: Rung) -> None:
        now_s = clock.monotonic_s()
        timer.ring_at(now_s + 9)
        timer.ring_at(now_s + 1)
        await clock.advance(10)

    assert play(scenario) == [1.0]


def test_infinity_and_a_stop_take_it_back_and_it_can_be_set_again() -> None:
    async def scenario(clock: FakeClock, timer: LazyTimer, rung: Rung) -> None:
        timer.ring_at(clock.monotonic_s() + 1)
        timer.ring_at(inf)
        await clock.advance(2)
        timer.ring_at(clock.monotonic_s() + 1)
        timer.stop()
        await clock.advance(2)
        assert rung == []
        timer.ring_at(clock.monotonic_s() + 1)
        await clock.advance(2)

    assert play(scenario) == [5.0]
