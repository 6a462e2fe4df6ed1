"""
A limit store some way off: for tests of what stands between a store and those who ask it.

It counts as a memory store does. A test makes it slow, takes it away, or lets it lose its answers, and
sees what it was asked. Time passes only on the `FakeClock` that it is given.
"""

from __future__ import annotations

from collections.abc import Sequence

from silence_gateway.core.limits import Ask, Change, Changed, Decision, LimitRule, Op
from silence_gateway.core.prospect import Prospect
from silence_gateway.errors import StoreUnavailable
from silence_gateway.stores.limits_memory import MemoryLimitStore
from silence_gateway.testing.clock import FakeClock


class DistantLimitStore:
    """
    A `LimitStore` that has to be waited for.

    Attributes:
        memory: What it counts with.
        there_s: How long a question is on its way, in seconds.
        back_s: How long its answer is.
        away: It is not there: what is asked fails, and nothing is done.
        loses_answers: It does what it is asked, and nobody ever hears of it.
        broken: Raised instead of any answer, if set: a mistake in its code.
        trips: How often it was asked.
        changes: What it was told to change.
    """

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.memory = MemoryLimitStore(clock)
        self.there_s = 0.0
        self.back_s = 0.0
        self.away = False
        self.loses_answers = False
        self.broken: Exception | None = None
        self.trips = 0
        self.changes: list[Change] = []

    def reaches(self, _rule: LimitRule, _key: str) -> bool:
        """There is one server, and nobody knows that it is away before it was asked."""
        return True

    def at_once(self, _asks: Sequence[Ask]) -> None:
        """Nothing can be decided without asking."""

    async def decide(self, asks: Sequence[Ask]) -> Sequence[Decision]:
        """Decide as a memory store does, a trip later."""
        await self.go()
        decisions = self.memory.decide_now(asks)
        await self.come_back()
        return decisions

    async def look(self, asks: Sequence[Ask]) -> Sequence[Prospect]:
        """Tell what each of *asks* would meet, a trip later."""
        await self.go()
        prospects = self.memory.look_now(asks)
        await self.come_back()
        return prospects

    async def adjust(self, changes: Sequence[Change]) -> Sequence[Changed]:
        """Change what keys have spent, a trip later."""
        await self.go()
        self.changes += changes
        changed = self.memory.adjust_now(changes)
        await self.come_back()
        return changed

    async def reset(self, rule: LimitRule, key: str) -> bool:
        """Forget what a key has spent, a trip later."""
        await self.go()
        done = await self.memory.reset(rule, key)
        await self.come_back()
        return done

    def used(self, rule: LimitRule, key: str = "") -> int:
        """Look how many uses of *key* count now, at once and whatever is wrong."""
        return self.memory.adjust_now([Change(Op.CHARGE, rule, key)])[0].used

    async def go(self) -> None:
        """Take the way there."""
        self.trips += 1
        if self.there_s:
            await self.clock.sleep(self.there_s)
        if self.broken is not None:
            raise self.broken
        if self.away:
            raise StoreUnavailable("the store was taken away")

    async def come_back(self) -> None:
        """Take the way back."""
        if self.back_s:
            await self.clock.sleep(self.back_s)
        if self.loses_answers:
            raise StoreUnavailable("the answer was lost")
