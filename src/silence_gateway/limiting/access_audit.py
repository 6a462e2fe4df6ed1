"""
Who tells the audit that an entry has ended: one instance, for the whole fleet.

Every instance sees an entry run out. The one that holds a lease on the board tells; it is renewed long
before it ends, and goes to another instance some seconds after its holder is gone. What ends in those
seconds is told by nobody: the line that told of its beginning says when. While the store is away nobody
can hold a lease, and every instance tells what it sees.
"""

from __future__ import annotations

import asyncio
import contextlib

from silence_gateway.clock import Clock
from silence_gateway.errors import StoreFault
from silence_gateway.stores.contracts import Board

ROOM = "access"
LEASE = "audit"
EVERY_S = 5.0


class AuditDuty:
    """
    Whether this instance tells of what all instances see.

    Attributes:
        ours: It does; False until the first answer of the store.
    """

    def __init__(self, board: Board, clock: Clock) -> None:
        self.board = board
        self.clock = clock
        self.ours = False
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Try for the lease from now on."""
        if self.task is None:
            self.task = asyncio.create_task(self.keep_trying())

    async def stop(self) -> None:
        """Try no more; the lease goes when the store is left."""
        if self.task is None:
            return
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        self.task = None
        self.ours = False

    async def keep_trying(self) -> None:
        """Take or renew the lease at every interval."""
        while True:
            try:
                # Half as long again as the interval: the holder renews before it could lose it.
                self.ours = bool(await self.board.lead(ROOM, LEASE, EVERY_S * 1.5))
            except StoreFault:
                self.ours = True
            await self.clock.sleep(EVERY_S)
