"""
Places that this process holds under concurrency limits: taken, renewed while the work goes on, released.

A place is renewed well before its time is over, and freed by the store when nobody does: what a killed
process held is free after the limit's `ttl`. Renewing puts a place back where the store has lost it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import count

from silence_gateway.clock import Clock, Timer
from silence_gateway.core.limits import Ask, Change, Op
from silence_gateway.errors import StoreFault
from silence_gateway.stores.limit_contract import LimitStore

LOOK_EVERY_S = 0.5
RENEWALS_PER_LIFE = 3
CHANGES_PER_CALL = 100


class Hold:
    """One holder's places, and when they were renewed last."""

    __slots__ = ("asks", "every_s", "renewed_s")

    def __init__(self, asks: list[Ask], now_s: float) -> None:
        self.asks = asks
        self.every_s = min(ask.rule.ttl_us for ask in asks) / 1_000_000 / RENEWALS_PER_LIFE
        self.renewed_s = now_s


class Holds:
    """
    The places of one process.

    Args:
        store: Where places are counted.
        clock: When to renew.
        owner: A name that no other process of the fleet has.

    Attributes:
        held: Holders with a place, by name.
        lost: Renewals and releases that the store did not confirm.
    """

    def __init__(self, store: LimitStore, clock: Clock, owner: str) -> None:
        self.store = store
        self.clock = clock
        self.owner = owner
        self.numbers = count(1)
        self.held: dict[str, Hold] = {}
        self.leaving: list[Ask] = []
        self.timer: Timer | None = None
        self.background: set[asyncio.Task[None]] = set()
        self.lost = 0

    def name(self) -> str:
        """Return a name for a new holder."""
        return f"{self.owner}-{next(self.numbers):x}"

    def hold(self, holder: str, asks: Iterable[Ask]) -> None:
        """*holder* got the places it asked for: renew them from now on."""
        places = [ask for ask in asks if ask.rule.kind == "c" and ask.cost]
        if not places:
            return
        self.held[holder] = Hold(places, self.clock.monotonic_s())
        if self.timer is None:
            self.timer = self.clock.call_later(LOOK_EVERY_S, self.look)

    def release(self, holder: str) -> None:
        """*holder* is done; releases of one loop tick travel together. Harmless when it holds nothing."""
        hold = self.held.pop(holder, None)
        if hold is None:
            return
        if not self.leaving:
            asyncio.get_running_loop().call_soon(self.flush)
        self.leaving += hold.asks

    def flush(self) -> None:
        """Tell the store who is done."""
        leaving, self.leaving = self.leaving, []
        changes = [Change(Op.RELEASE, ask.rule, ask.key, holder=ask.holder) for ask in leaving]
        self.send(changes)

    def look(self) -> None:
        """Renew what is due."""
        self.timer = None
        now_s = self.clock.monotonic_s()
        due = []
        for hold in self.held.values():
            if now_s - hold.renewed_s >= hold.every_s:
                hold.renewed_s = now_s
                due += [Change(Op.RENEW, ask.rule, ask.key, holder=ask.holder) for ask in hold.asks]
        self.send(due)
        if self.held:
            self.timer = self.clock.call_later(LOOK_EVERY_S, self.look)

    def send(self, changes: list[Change]) -> None:
        """Hand changes to the store, in the background."""
        for at in range(0, len(changes), CHANGES_PER_CALL):
            task = asyncio.get_running_loop().create_task(self.adjust(changes[at : at + CHANGES_PER_CALL]))
            self.background.add(task)
            task.add_done_callback(self.background.discard)

    async def adjust(self, changes: list[Change]) -> None:
        """Hand some changes to the store; what it does not hear, time mends."""
        try:
            await self.store.adjust(changes)
        except StoreFault:
            self.lost += len(changes)

    async def stop(self) -> None:
        """Release everything and end."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        for holder in list(self.held):
            self.release(holder)
        self.flush()
        await asyncio.gather(*self.background, return_exceptions=True)
