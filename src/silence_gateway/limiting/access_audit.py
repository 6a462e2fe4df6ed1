"""
Who tells the audit that an entry has ended: one instance, for the whole fleet.

Every instance sees an entry run out. The one that holds a lease on the board tells; it is renewed long
before it ends, and goes to another instance some seconds after its holder is gone. What ends in those
seconds is told by nobody: the line that told of its beginning says when. While the store is away nobody
can hold a lease, and every instance tells what it sees.
"""

from __future__ import annotations

from silence_gateway.clock import Clock
from silence_gateway.errors import StoreFault
from silence_gateway.periodic import Periodic
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
        self.periodic = Periodic(clock, EVERY_S, self.try_for_it, at_once=True)

    def start(self) -> None:
        """Try for the lease from now on."""
        self.periodic.start()

    async def stop(self) -> None:
        """Try no more; the lease goes when the store is left."""
        await self.periodic.stop()
        self.ours = False

    async def try_for_it(self) -> None:
        """Take or renew the lease."""
        try:
            # Half as long again as the interval: the holder renews before it could lose it.
            self.ours = bool(await self.board.lead(ROOM, LEASE, EVERY_S * 1.5))
        except StoreFault:
            self.ours = True
