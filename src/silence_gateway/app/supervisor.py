"""
Keeps the worker processes alive.

The parent opens one listening socket per address and worker (SO_REUSEPORT) and keeps it for as long as
it runs. A worker that dies leaves its sockets open here, so connections wait for its successor in the
kernel's queue: no port gap and no connection refused. A worker that keeps dying is restarted with a
growing pause; one worker's trouble never touches the others.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Protocol

from silence_gateway.clock import Clock
from silence_gateway.events import Noticed, Observer

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 10.0
# A worker that lived this long has earned a fresh start: its next death is restarted at once.
PROVEN_AFTER_S = 30.0
# What a worker gets on top of its own drain time before it is killed.
KILL_GRACE_S = 2.0


class Worker(Protocol):
    """One running worker process."""

    @property
    def pid(self) -> int:
        """Its process id."""

    async def wait(self) -> int:
        """Return its exit status once it has ended."""

    def terminate(self) -> None:
        """Ask it to drain and end; harmless when it has ended."""

    def kill(self) -> None:
        """End it now; harmless when it has ended."""


class Supervisor:
    """
    Runs *count* workers, made by *spawn* for each slot number, until stopped.

    Attributes:
        restarts: Workers started to replace one that had died.
    """

    def __init__(
        self,
        count: int,
        spawn: Callable[[int], Awaitable[Worker]],
        *,
        drain_s: float,
        clock: Clock,
        observer: Observer,
    ) -> None:
        self._count = count
        self._spawn = spawn
        self._drain_s = drain_s
        self._clock = clock
        self._observer = observer
        self._workers: dict[int, Worker] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self.restarts = 0

    @property
    def workers(self) -> dict[int, Worker]:
        """The workers that run now, by slot."""
        return dict(self._workers)

    def start(self) -> None:
        """Start every slot."""
        self._tasks = [
            asyncio.create_task(self._keep(slot), name=f"worker {slot}") for slot in range(self._count)
        ]

    async def stop(self) -> bool:
        """Drain and end every worker; returns whether all of them ended cleanly and in time."""
        self._stopping.set()
        for worker in self._workers.values():
            worker.terminate()
        if not self._tasks:
            return True
        _, late = await asyncio.wait(self._tasks, timeout=self._drain_s + KILL_GRACE_S)
        for worker in self._workers.values():
            self._observer(
                Noticed(what=f"worker {worker.pid} did not drain in time: killed", loudness="warning")
            )
            worker.kill()
        if late:
            await asyncio.wait(late)
        return not late

    async def _keep(self, slot: int) -> None:
        pause_s = 0.0
        while not self._stopping.is_set():
            started_s = self._clock.monotonic_s()
            status = await self._run_once(slot)
            if self._stopping.is_set():
                return
            lived_s = self._clock.monotonic_s() - started_s
            pause_s = (
                0.0 if lived_s >= PROVEN_AFTER_S else min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, pause_s * 2))
            )
            self._observer(
                Noticed(
                    what=f"worker {slot} ended with status {status} after {lived_s:.1f} s; "
                    f"restarting it in {pause_s:.1f} s",
                    loudness="error",
                )
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()
            self.restarts += 1

    async def _run_once(self, slot: int) -> int | str:
        try:
            worker = await self._spawn(slot)
        except OSError as exc:
            return f"not started: {exc}"
        self._workers[slot] = worker
        if self._stopping.is_set():
            # The stop came while this one was being made and could not see it.
            worker.terminate()
        try:
            return await worker.wait()
        finally:
            del self._workers[slot]
