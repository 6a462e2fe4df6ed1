"""
Limits that are shared while the store answers and local while it does not.

No request fails for the store's sake: what it cannot decide, each limit's `when_down` decides here, at
once. While the store is known to be away it is not asked, so nothing waits for it. What this admits
beyond the limit around an outage is stated in `core/local_share.py`.

When the store is back it is charged what was let through here meanwhile, as far as that still counts:
once per key, and only what it was certainly never asked about. A call whose answer was lost may have
been counted there, so it is not counted again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from silence_gateway.clock import Clock
from silence_gateway.core.limits import Ask, Change, Changed, Decision, LimitRule, Op, WhenDown
from silence_gateway.core.local_share import share_of
from silence_gateway.errors import StoreFault
from silence_gateway.stores.limit_contract import LimitStore
from silence_gateway.stores.limits_memory import MemoryLimitStore

DENIED_FOR_US = 1_000_000
"""How long a limit with `when_down: deny` tells callers to wait: about as long as recovery takes."""

MAX_OWED = 10_000
"""Keys whose local uses are charged to the store on its return; 10,000 take it about 60 ms, in parts."""

OWED_PER_CALL = 100

COUNTED = frozenset((WhenDown.LOCAL_SHARE, WhenDown.LOCAL_FULL))
ABOUT_HOLDERS = frozenset((Op.RENEW, Op.RELEASE))


class Liveness(Protocol):
    """The two things that this file wants to know of a `Store`."""

    @property
    def up(self) -> bool:
        """Whether the store answers, as far as is known."""

    @property
    def live_instances(self) -> int:
        """How many instances were alive when the store last answered."""


class FallingBackLimitStore:
    """
    A `LimitStore` that always answers. The `at_us` of what it decided alone is below zero.

    Attributes:
        local_decisions: Requests decided here because the store could not.
        owed: Uses let through here that the store does not know of, by limit and key.
        charged: Uses charged to the store after it came back.
        uncharged: Uses that it never heard of: there were too many keys, or it went away again.
    """

    def __init__(self, shared: LimitStore, store: Liveness, clock: Clock) -> None:
        self.shared = shared
        self.store = store
        self.local = MemoryLimitStore(clock)
        self.shares: dict[tuple[int, int], tuple[LimitRule, LimitRule]] = {}
        self.owed: dict[tuple[str, str], tuple[LimitRule, int]] = {}
        self.charging: asyncio.Task[None] | None = None
        self.local_decisions = 0
        self.charged = 0
        self.uncharged = 0

    def at_once(self, asks: Sequence[Ask]) -> Sequence[Decision] | None:
        """Decide here if the store is known to be away, or has nothing to ask anybody."""
        if self.store.up:
            return None if self.owed else self.shared.at_once(asks)
        return self.decide_locally(asks, owed=True)

    async def decide(self, asks: Sequence[Ask]) -> Sequence[Decision]:
        """Decide about one request, in the store or, without waiting, here."""
        if not self.store.up:
            return self.decide_locally(asks, owed=True)
        if self.owed and self.charging is None:
            self.charging = asyncio.get_running_loop().create_task(self.charge_owed())
        try:
            decisions = await self.shared.decide(asks)
        except StoreFault:
            # It may have spent the cost all the same; that errs on the side of the limit.
            return self.decide_locally(asks, owed=False)
        for index, ask in enumerate(asks):
            if ask[0].kind == "c" and ask.cost and decisions[index].allowed:
                # Should the store go away, this instance knows who holds a place here.
                self.local.adjust_now([Change(Op.RENEW, ask.rule, ask.key, holder=ask.holder)])
        return decisions

    async def adjust(self, changes: Sequence[Change]) -> Sequence[Changed]:
        """
        Change what keys have spent, where it was spent; holders are changed here as well as there.

        Raises:
            StoreUnavailable: What is about the shared store may not have been changed.
        """
        if not any(change.at_us < 0 or change.op in ABOUT_HOLDERS for change in changes):
            return await self.shared.adjust(changes)
        done: dict[int, Changed] = {}
        there = []
        for index, change in enumerate(changes):
            is_here = change.at_us < 0
            if is_here or change.op in ABOUT_HOLDERS:
                rule, at_us = self.local_rule(change.rule), ~change.at_us if is_here else 0
                [done[index]] = self.local.adjust_now([change._replace(rule=rule, at_us=at_us)])
            if not is_here:
                there.append(index)
            elif change.op is Op.CHARGE and change.amount:
                self.owe(change.rule, change.key, change.amount)
        # While the store is away holders are known here; everything else has to fail.
        if not self.store.up and all(changes[index].op in ABOUT_HOLDERS for index in there):
            there = []
        if there:
            answers = await self.shared.adjust([changes[index] for index in there])
            done.update(zip(there, answers, strict=True))
        return [done[index] for index in range(len(changes))]

    async def reset(self, rule: LimitRule, key: str) -> bool:
        """
        Forget what *key* has spent, here and in the store.

        Raises:
            StoreUnavailable: The fleet still remembers it.
        """
        self.owed.pop((rule.counter, key), None)
        here = await self.local.reset(self.local_rule(rule), key)
        return await self.shared.reset(rule, key) or here

    async def stop(self) -> None:
        """End what runs in the background."""
        if self.charging is not None:
            self.charging.cancel()
            await asyncio.gather(self.charging, return_exceptions=True)

    # -- alone ----------------------------------------------------------------------------------------

    def decide_locally(self, asks: Sequence[Ask], *, owed: bool) -> list[Decision]:
        """
        Decide about one request as each limit's `when_down` says; all or nothing, as ever.

        With *owed*, the store is charged on its return what this lets through.
        """
        self.local_decisions += 1
        counted = [
            (index, Ask(self.local_rule(rule), key, cost, holder))
            for index, (rule, key, cost, holder) in enumerate(asks)
            if rule.when_down in COUNTED
        ]
        denied = any(
            rule.when_down is WhenDown.DENY and cost and not rule.shadow for rule, _, cost, _ in asks
        )
        # A request that is refused anyway only looks at what the others have left.
        looked = [ask._replace(cost=0) if denied else ask for _, ask in counted]
        decisions = [fixed_decision(rule, cost) for rule, _, cost, _ in asks]
        for (index, _), decision in zip(counted, self.local.decide_now(looked), strict=True):
            decisions[index] = decision._replace(at_us=~decision.at_us)
        if owed and not denied:
            passes = all(decision[0] or ask[0].shadow for ask, decision in zip(asks, decisions, strict=True))
            for index, _ in counted if passes else ():
                rule, key, cost, _ = asks[index]
                if cost and decisions[index].allowed and rule.kind != "c":
                    self.owe(rule, key, cost)
        return decisions

    def owe(self, rule: LimitRule, key: str, cost: int) -> None:
        """Remember that the store does not know of *cost* uses."""
        place = (rule.counter, key)
        known = self.owed.get(place)
        if known is not None:
            self.owed[place] = (rule, known[1] + cost)
        elif len(self.owed) < MAX_OWED:
            self.owed[place] = (rule, cost)
        else:
            self.uncharged += cost

    async def charge_owed(self) -> None:
        """Charge the store what it does not know of, a part at a time; what fails is not tried again."""
        try:
            while self.owed and self.store.up:
                part = [self.owed.popitem() for _ in range(min(OWED_PER_CALL, len(self.owed)))]
                changes = []
                for (_, key), (rule, cost) in part:
                    look = Change(Op.CHARGE, self.local_rule(rule), key)
                    [counts] = self.local.adjust_now([look])
                    amount = min(cost, counts.used)
                    if amount:
                        changes.append(Change(Op.CHARGE, rule, key, amount))
                amount = sum(change.amount for change in changes)
                try:
                    if changes:
                        await self.shared.adjust(changes)
                    self.charged += amount
                except StoreFault:
                    self.uncharged += amount
        finally:
            self.charging = None

    def local_rule(self, rule: LimitRule) -> LimitRule:
        """Return the rule that this instance applies on its own."""
        if rule.when_down is not WhenDown.LOCAL_SHARE:
            return rule
        instances = self.store.live_instances
        if instances <= 1:
            return rule
        # By identity: hashing a rule takes 2 us. The rule is kept, so that its identity stays its own.
        known = self.shares.get((id(rule), instances))
        if known is None:
            if len(self.shares) >= 10_000:
                self.shares.clear()
            known = self.shares[id(rule), instances] = (rule, share_of(rule, instances))
        return known[1]


def fixed_decision(rule: LimitRule, cost: int) -> Decision:
    """Answer without counting: ALLOW lets everything pass, DENY nothing but a look."""
    if rule.when_down is WhenDown.DENY and cost:
        return Decision(False, rule.capacity, 0, DENIED_FOR_US, DENIED_FOR_US, -1)
    return Decision(True, rule.capacity, rule.capacity, 0, 0, -1)
