"""Work that is done again and again, and ends when it is told to."""

from __future__ import annotations

import asyncio

import pytest

from silence_gateway.periodic import Periodic
from silence_gateway.testing.clock import FakeClock


@pytest.mark.parametrize(("at_once", "counts"), [(False, [0, 1, 2]), (True, [1, 2, 3])])
def test_it_is_done_at_every_interval_until_stopped(at_once: bool, counts: list[int]) -> None:
    async def scenario() -> None:
        clock, done = FakeClock(), []

        async def work() -> None:
            done.append(clock.monotonic_s())

        periodic = Periodic(clock, 5.0, work, at_once=at_once)
        seen = []
        periodic.start()
        periodic.start()
        for _ in counts:
            await clock.advance(0.0)
            seen.append(len(done))
            await clock.advance(5.0)
        assert seen == counts
        assert periodic.started

        await periodic.stop()
        await periodic.stop()
        await clock.advance(50.0)
        assert len(done) == counts[-1] + 1
        assert not periodic.started

    asyncio.run(scenario())


def test_work_that_hangs_is_cancelled_by_stop() -> None:
    async def scenario() -> None:
        begun = asyncio.Event()
        hung: list[bool] = []

        async def work() -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                hung.append(True)

        periodic = Periodic(FakeClock(), 5.0, work, at_once=True)
        periodic.start()
        await begun.wait()
        await periodic.stop()
        assert hung == [True]

    asyncio.run(scenario())


def test_work_that_breaks_is_raised_by_stop_and_not_lost() -> None:
    async def scenario() -> None:
        async def work() -> None:
            raise ZeroDivisionError

        periodic = Periodic(FakeClock(), 5.0, work, at_once=True)
        periodic.start()
        await asyncio.sleep(0)
        with pytest.raises(ZeroDivisionError):
            await periodic.stop()

    asyncio.run(scenario())
