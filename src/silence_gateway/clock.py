"""
The only clock.

Every other file is given one: `SystemClock` in a running gateway, `testing.FakeClock` in a test.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A call that has been asked for and has not happened yet."""

    def cancel(self) -> None:
        """Forget the call; harmless when it has already happened."""


class Clock(Protocol):
    """What time it is, and when to be called."""

    def now_us(self) -> int:
        """Microseconds since the Unix epoch. May step; use it for what leaves this process."""

    def monotonic_s(self) -> float:
        """Seconds on a clock that never steps back: the event loop's own. Use it for every wait."""

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Call *callback* on the event loop in *delay_s* seconds."""

    async def sleep(self, delay_s: float) -> None:
        """Return in *delay_s* seconds; cancelling it is safe."""


class SystemClock:
    """The machine's clock and the running event loop's timers."""

    def now_us(self) -> int:
        """Microseconds since the Unix epoch."""
        return time.time_ns() // 1000

    # Seconds of the monotonic clock that asyncio loops (and uvloop) use. The function itself and not one
    # that calls it, because a request looks at it six times: 0.03 us each.
    monotonic_s = staticmethod(time.monotonic)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Call *callback* on the running event loop in *delay_s* seconds."""
        return asyncio.get_running_loop().call_later(delay_s, callback)

    async def sleep(self, delay_s: float) -> None:
        """Return in *delay_s* seconds."""
        await asyncio.sleep(delay_s)
