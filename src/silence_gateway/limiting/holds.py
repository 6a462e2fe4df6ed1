"""
Places that this process holds under concurrency limits: taken, renewed while the work goes on, released.

A place is renewed before a third of its time is over, and freed by the store when nobody does: what a
killed process held is free after the limit's `ttl`. Renewing puts a place back where the store has lost it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import count

from silence_gateway.clock import Clock, Timer
from silence_gateway.core.limits import Ask, Change, Op
from silence_gateway.errors import StoreFault
from silence_gateway.stores.limit_contract import LimitStore
from silence_gateway.stores.limits_memory import MemoryLimitStore

RENEWALS_PER_LIFE = 4

TOGETHER_S = 0.08
"""What is due within so long is renewed together: a tenth of the shortest time to live is still left then."""

CHANGES_PER_CALL = 100

numbers = count(1)
"""Of the whole process: holders over one store never have the same name, whoever looks after them."""


class Hold:
    """One holder's places, and when they must be renewed."""

    __slots__ = ("asks", "due_s", "every_s")

    def __init__(self, asks: list[Ask], now_s: float) -> None:
        self.asks = asks
        self.every_s = min(ask.rule.ttl_us for ask in asks) / 1_000_000 / RENEWALS_PER_LIFE
        self.due_s = now_s + self.every_s


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
        self.held: dict[str, Hold] = {}
        self.leaving: list[Ask] = []
        self.timer: Timer | None = None
        self.timer_due_s = 0.0
        self.background: set[asyncio.Task[None]] = set()
        self.lost = 0

    def name(self) -> str:
        """Return a name for a new holder."""
        return f"{self.owner}-{next(numbers):x}"

    def hold(self, holder: str, asks: Iterable[Ask]) -> None:
        """*holder* got the places it asked for: renew them from now on."""
        places = places_of(asks)
        if not places:
            return
        hold = self.held[holder] = Hold(places, self.clock.monotonic_s())
        self.look_at(hold.due_s)

    def release(self, holder: str) -> None:
        """*holder* is done; releases of one loop tick travel together. Harmless when it holds nothing."""
        hold = self.held.pop(holder, None)
        if hold is not None:
            self.leave(hold.asks)

    def abandon(self, asks: Iterable[Ask]) -> None:
        """Whoever asked for these places does not wait for the answer: give back what it may have got."""
        places = places_of(asks)
        if places:
            self.leave(places)

    def leave(self, places: list[Ask]) -> None:
        """Tell the store that these places are free: at the end of this loop tick, at once if it is here."""
        if isinstance(self.store, MemoryLimitStore):
            self.store.adjust_now(
                [Change(Op.RELEASE, ask.rule, ask.key, holder=ask.holder) for ask in places]
            )
            return
        if not self.leaving:
            asyncio.get_running_loop().call_soon(self.flush)
        self.leaving += places

    def flush(self) -> None:
        """Tell the store who is done."""
        leaving, self.leaving = self.leaving, []
        self.send([Change(Op.RELEASE, ask.rule, ask.key, holder=ask.holder) for ask in leaving])

    def look_at(self, due_s: float) -> None:
        """Make sure that `look` runs at *due_s*, or earlier."""
        if self.timer is not None:
            if self.timer_due_s <= due_s:
                return
            self.timer.cancel()
        self.timer_due_s = due_s
        self.timer = self.clock.call_later(due_s - self.clock.monotonic_s(), self.look)

    def look(self) -> None:
        """Renew what is due."""
        self.timer = None
        now_s = self.clock.monotonic_s()
        due = []
        next_s = float("inf")
        for hold in self.held.values():
            if hold.due_s <= now_s + TOGETHER_S:
                hold.due_s = now_s + hold.every_s
                due += [Change(Op.RENEW, ask.rule, ask.key, holder=ask.holder) for ask in hold.asks]
            next_s = min(next_s, hold.due_s)
        self.send(due)
        if self.held:
            self.look_at(next_s)

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
        while self.background:
            await asyncio.gather(*self.background)


def places_of(asks: Iterable[Ask]) -> list[Ask]:
    """Return those of *asks* that ask for a place."""
    return [ask for ask in asks if ask.rule.kind == "c" and ask.cost]
