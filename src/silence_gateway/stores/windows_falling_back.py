"""
Window counters that are shared while the store answers, and this instance's own while it does not.

Nobody waits for a store that is known to be away. What was counted here meanwhile is added there when it is
back, as far as its window has not ended, and only what it was certainly never sent. That goes for telling
it, too: a dead store is known to be away after a few failures only, and what was told it until then and
certainly never left is told it the next time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from silence_gateway.clock import Clock
from silence_gateway.core.limits import WhenDown
from silence_gateway.errors import StoreUnavailable
from silence_gateway.stores.limits_falling_back import MAX_OWED, OWED_PER_CALL, Liveness
from silence_gateway.stores.window_contract import Tally, WindowCount, WindowCounters
from silence_gateway.stores.windows_memory import MemoryCounters

DENIED = 1 << 60
"""What a counter says under `deny`: more than any limit."""


class FallingBackCounters:
    """
    `WindowCounters` that always answer.

    Args:
        shared: Where the fleet counts.
        store: Whether it answers.
        clock: This instance's own clock.
        when_down: What to do without it: count a share of each limit or the whole of it, let everything
            pass, or nothing.

    Attributes:
        local_decisions: Questions answered without the store.
        charged: Hits added to the store after it came back.
        uncharged: Hits that it never heard of: there were too many counters, or the answer was lost when it
            was told, so that it may know them and is not told again.
    """

    def __init__(
        self,
        shared: WindowCounters,
        store: Liveness,
        clock: Clock,
        when_down: WhenDown = WhenDown.LOCAL_SHARE,
    ) -> None:
        self.shared = shared
        self.store = store
        self.clock = clock
        self.when_down = when_down
        self.local = MemoryCounters(clock)
        # By counter: the number of the window that they belong to, and the hits.
        self.owed: dict[tuple[str, int, str], tuple[int, int]] = {}
        self.charging: asyncio.Task[None] | None = None
        self.local_decisions = self.charged = self.uncharged = 0

    async def add(self, counts: Sequence[WindowCount]) -> Sequence[Tally]:
        """Add *counts* in the store or, without waiting, here."""
        if not self.store.up:
            return self.add_here(counts, owed=True)
        if self.owed and self.charging is None:
            self.charging = asyncio.get_running_loop().create_task(self.charge_owed())
        try:
            return await self.shared.add(counts)
        except StoreUnavailable as exc:
            return self.add_here(counts, owed=not exc.sent)

    def add_here(self, counts: Sequence[WindowCount], *, owed: bool) -> Sequence[Tally]:
        """Count in this process; with *owed* the store is told when it is back."""
        self.local_decisions += 1
        tallies = self.local.add_now(counts)
        if owed:
            for count in counts:
                self.owe(count)
        match self.when_down:
            case WhenDown.LOCAL_SHARE:
                parts = self.store.live_instances
                return [told._replace(parts=parts) for told in tallies]
            case WhenDown.LOCAL_FULL:
                return [told._replace(parts=0) for told in tallies]
            case WhenDown.ALLOW:
                return [Tally(0, told.reset_us, 0) for told in tallies]
            case WhenDown.DENY:
                return [Tally(DENIED, told.reset_us, 0) for told in tallies]

    def owe(self, count: WindowCount) -> None:
        """Remember hits that the store does not know of."""
        if not count.hits:
            return
        place, window = count[:3], self.clock.now_us() // count.window_us
        known = self.owed.get(place)
        if known is not None:
            self.owed[place] = (window, count.hits + (known[1] if known[0] == window else 0))
        elif len(self.owed) < MAX_OWED:
            self.owed[place] = (window, count.hits)
        else:
            self.uncharged += max(0, count.hits)

    async def charge_owed(self) -> None:
        """
        Tell the store what it does not know of.

        What it may have heard is not told again. What it has certainly not heard is owed as before, and this
        ends: the next question begins it anew.
        """
        try:
            while self.owed and self.store.up:
                part = [self.owed.popitem() for _ in range(min(OWED_PER_CALL, len(self.owed)))]
                now_us = self.clock.now_us()
                counts = [
                    WindowCount(name, window_us, key, hits)
                    for (name, window_us, key), (window, hits) in part
                    if window == now_us // window_us
                ]
                # Each by itself, so that each is known to have been heard or not; they leave together.
                told = await asyncio.gather(
                    *(self.shared.add([count]) for count in counts), return_exceptions=True
                )
                if not self.settle(counts, told, now_us):
                    return
        finally:
            self.charging = None

    def settle(
        self,
        counts: Sequence[WindowCount],
        told: Sequence[Sequence[Tally] | BaseException],
        told_us: int,
    ) -> bool:
        """Count what has become of *counts*, told at *told_us*; returns whether the store may know all."""
        complete = True
        for count, answer in zip(counts, told, strict=True):
            hits = max(0, count.hits)
            if not isinstance(answer, BaseException):
                self.charged += hits
            elif not isinstance(answer, StoreUnavailable):
                raise answer
            elif answer.sent:
                self.uncharged += hits
            else:
                complete = False
                if self.clock.now_us() // count.window_us == told_us // count.window_us:
                    self.owe(count)
        return complete

    async def stop(self) -> None:
        """End what runs in the background."""
        if self.charging is not None:
            self.charging.cancel()
            await asyncio.gather(self.charging, return_exceptions=True)
