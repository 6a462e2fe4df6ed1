"""
A clock that moves only when told to.

Give it to anything that takes a `Clock`. Time passes in `advance`, timers fire in the order they fall
due, and whatever they wake runs before the next one fires. Nothing here may look at the real time.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count

# Rounds of the event loop granted after each timer, so that what it woke (a task, the task behind that
# one) has run before time moves again. Chains in this project are shorter than half of this.
SETTLE_ROUNDS = 12


class FakeTimer:
    """A call that `FakeClock` will make, unless cancelled first."""

    __slots__ = ("callback", "cancelled", "due_us")

    def __init__(self, due_us: int, callback: Callable[[], None]) -> None:
        self.due_us = due_us
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        """Forget the call; harmless when it has already happened."""
        self.cancelled = True


class FakeClock:
    """A `Clock` for tests: it stands still between two calls of `advance`."""

    def __init__(self, now_us: int = 1_700_000_000_000_000) -> None:
        self.wall_offset_us = now_us
        self.passed_us = 0
        self.order = count()
        self.timers: list[tuple[int, int, FakeTimer]] = []

    def now_us(self) -> int:
        """Microseconds since the Unix epoch, as this clock sees it."""
        return self.wall_offset_us + self.passed_us

    def monotonic_s(self) -> float:
        """Seconds that have passed since the clock was made."""
        return self.passed_us / 1_000_000

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an operator or NTP may; no timer notices."""
        self.wall_offset_us += round(seconds * 1_000_000)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> FakeTimer:
        """Call *callback* once `advance` has moved the clock by *delay_s* seconds."""
        timer = FakeTimer(self.passed_us + max(0, round(delay_s * 1_000_000)), callback)
        heapq.heappush(self.timers, (timer.due_us, next(self.order), timer))
        return timer

    async def sleep(self, delay_s: float) -> None:
        """Return once the clock has moved by *delay_s* seconds; cancelling it is safe."""
        woken = asyncio.Event()
        timer = self.call_later(delay_s, woken.set)
        try:
            await woken.wait()
        finally:
            timer.cancel()

    async def advance(self, seconds: float) -> None:
        """
        Move forward, firing timers in the order they fall due.

        What is already running gets its turn first, and what a timer wakes runs before the next
        timer fires; timers asked for on the way are honoured if they fall due in time.
        """
        end_us = self.passed_us + round(seconds * 1_000_000)
        await settle()
        while self.timers and self.timers[0][0] <= end_us:
            due_us, _, timer = heapq.heappop(self.timers)
            if timer.cancelled:
                continue
            self.passed_us = max(self.passed_us, due_us)
            timer.callback()
            await settle()
        self.passed_us = end_us
        await settle()


async def settle(rounds: int = SETTLE_ROUNDS) -> None:
    """Let everything that is ready to run on the event loop run; no time passes."""
    for _ in range(rounds):
        await asyncio.sleep(0)
