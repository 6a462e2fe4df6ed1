"""Something that is done again and again in the background, from `start` to `stop`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from silence_gateway.clock import Clock


class Periodic:
    """
    Does *work*, waits, and does it again; one at a time, however long it takes.

    Args:
        clock: What it waits by.
        every_s: Seconds between the end of one and the beginning of the next.
        work: What to do. What it raises ends the repetition, and `stop` raises it.
        at_once: Whether the first comes before the first wait.
    """

    def __init__(
        self, clock: Clock, every_s: float, work: Callable[[], Awaitable[object]], *, at_once: bool = False
    ) -> None:
        self.clock = clock
        self.every_s = every_s
        self.work = work
        self.at_once = at_once
        self.task: asyncio.Task[None] | None = None

    @property
    def started(self) -> bool:
        """Whether `start` was called, and `stop` was not."""
        return self.task is not None

    def start(self) -> None:
        """Begin; harmless where it has begun."""
        if self.task is None:
            self.task = asyncio.get_running_loop().create_task(self.keep_on())

    async def stop(self) -> None:
        """End, in the middle of the work if need be; harmless where it has not begun."""
        task, self.task = self.task, None
        if task is None:
            return
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def keep_on(self) -> None:
        """Do it for ever."""
        if self.at_once:
            await self.work()
        while True:
            await self.clock.sleep(self.every_s)
            await self.work()
