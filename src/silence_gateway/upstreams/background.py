"""
The background tasks of one pool: begun, kept from being forgotten, and ended together.

A task that breaks is reported, not lost; nobody awaits its result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from silence_gateway.events import Noticed, Observer


class Background:
    """Tasks of *owner*, whose name begins what is reported."""

    def __init__(self, owner: str, observer: Observer) -> None:
        self._owner = owner
        self._observer = observer
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin *work*; returns at once."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def soon(self, hook: Callable[[str], None], address: str) -> None:
        """Call *hook* with *address* soon; should it break, that is reported and nothing else is touched."""

        async def call() -> None:
            hook(address)

        self.begin(call())

    async def cancel(self) -> None:
        """Cancel every task and wait until it has ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def finish(self, limit_s: float) -> None:
        """Wait until every task has ended by itself, for at most *limit_s*; then cancel what is left."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=limit_s)
        await self.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            what = f"{self._owner}: a background task broke: {type(error).__name__}: {error}"
            self._observer(Noticed(what=what, loudness="error"))
