"""How late the loop is, as the worst of the last half minute."""

from __future__ import annotations

import asyncio
import contextlib

from silence_gateway.app.loop_lag import INTERVAL_S, KEPT, LoopLag
from silence_gateway.testing import FakeClock


class LateClock(FakeClock):
    """A clock whose sleepers are woken late."""

    late_s = 0.0

    async def sleep(self, delay_s: float) -> None:
        await super().sleep(delay_s + self.late_s)


def test_the_worst_is_remembered_for_a_while_and_then_forgotten() -> None:
    async def scenario() -> None:
        clock = LateClock()
        lag = LoopLag(clock)
        task = asyncio.create_task(lag.run())
        await clock.advance(0)
        assert lag.worst_s == 0.0

        clock.late_s = 0.125
        await clock.advance(INTERVAL_S * 2 + 0.125)
        assert abs(lag.worst_s - 0.125) < 1e-6

        clock.late_s = 0.0
        for _ in range(KEPT + 2):
            await clock.advance(INTERVAL_S)
        assert lag.worst_s < 1e-6
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
