"""
The elected sweep: one instance of the fleet forgets the statistics of limits that are gone.

Counters and statistics end by their own TTL. The name of a limit in the index does not: it stands beside
those of living limits, whose instances keep the index alive; and by their names the totals of limits that
were removed are found long before their 30 days are over. Every instance tries to lead; whoever does runs
one bounded step per interval, and another takes over when its lease ends.
"""

from __future__ import annotations

from silence_gateway.clock import Clock
from silence_gateway.errors import StoreFault
from silence_gateway.events import Noticed, Observer, nobody
from silence_gateway.periodic import Periodic
from silence_gateway.stores.contracts import Store
from silence_gateway.stores.limit_stats_contract import LimitStats

ROOM = "limits"
LEASE = "sweep"
EVERY_S = 60.0

UNSEEN_S = 3600.0
"""How long no instance may have shown a limit. Living ones show it every minute, so an hour
outlasts any outage of the store that a fleet comes back from with the same limits."""

AT_MOST = 100
"""Limits forgotten per run; the next run goes on."""


class LimitSweep:
    """
    Runs the sweep on whichever instance leads.

    Attributes:
        runs: Sweeps that this instance has made.
        forgotten: Limits that they forgot.
    """

    def __init__(
        self,
        store: Store,
        stats: LimitStats,
        clock: Clock,
        *,
        every_s: float = EVERY_S,
        unseen_s: float = UNSEEN_S,
        observer: Observer = nobody,
    ) -> None:
        self.store = store
        self.stats = stats
        self.clock = clock
        self.every_s = every_s
        self.unseen_s = unseen_s
        self.observer = observer
        self.periodic = Periodic(clock, every_s, self.sweep_once)
        self.runs = 0
        self.forgotten = 0

    def start(self) -> None:
        """Sweep from now on, whenever this instance leads."""
        self.periodic.start()

    async def stop(self) -> None:
        """End; the lease runs out by itself."""
        await self.periodic.stop()

    async def sweep_once(self) -> None:
        """Make one bounded step if this instance leads; a store that is away is left alone."""
        if not self.store.up:
            return
        try:
            # Half an interval longer than the interval: the leader renews before it could lose it.
            if not await self.store.board.lead(ROOM, LEASE, self.every_s * 1.5):
                return
            names = await self.stats.sweep(self.unseen_s, AT_MOST)
        except StoreFault:
            return
        self.runs += 1
        if names:
            self.forgotten += len(names)
            self.observer(
                Noticed(what=f"forgot the statistics of limits that are gone: {', '.join(names)}"[:500])
            )
