"""
Limits that are shared while the store answers and local while it does not.

No request fails for the store's sake: what it cannot decide, each limit's `when_down` decides here, at
once. While the store is known to be away it is not asked, so nothing waits for it. What this admits
beyond the limit around an outage is stated in `core/local_share.py`.

When the store is back it is charged what was let through here meanwhile, as far as that still counts:
once per key, and only what it was certainly never asked about. A call whose answer was lost may have
been counted there, so it is not counted again. The same goes for the charge: a dead store is known to be
away after a few failures only, and a charge that certainly never left until then is tried again.

Of a cluster a part may be away. A limit whose server answers is decided there all the same, the others
here; a request that meets both kinds passes if both let it, and spends nothing if one does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from typing import Protocol

from silence_gateway.clock import Clock
from silence_gateway.core.limits import Ask, Change, Changed, Decision, LimitRule, Op, WhenDown
from silence_gateway.core.local_share import share_of
from silence_gateway.core.prospect import Prospect
from silence_gateway.errors import StoreFault, StoreUnavailable
from silence_gateway.stores.limit_contract import LimitStore
from silence_gateway.stores.limits_memory import MemoryLimitStore

DENIED_FOR_US = 1_000_000
"""How long a limit with `when_down: deny` tells callers to wait: about as long as recovery takes."""

MAX_OWED = 10_000
"""Keys whose local uses are charged to the store on its return; 10,000 take it about 60 ms, in parts."""

OWED_PER_CALL = 100

LOOK_AGAIN_S = 0.25
"""How often it is looked whether another part of a cluster is back, to be charged."""

COUNTED = frozenset((WhenDown.LOCAL_SHARE, WhenDown.LOCAL_FULL))
ABOUT_HOLDERS = frozenset((Op.RENEW, Op.RELEASE))


class Liveness(Protocol):
    """What this file wants to know of a `Store`."""

    @property
    def up(self) -> bool:
        """Whether the store answers, as far as is known."""

    @property
    def partly_away(self) -> str:
        """Which parts do not answer, while others do."""

    @property
    def live_instances(self) -> int:
        """How many instances were alive when the store last answered."""


class FallingBackLimitStore:
    """
    A `LimitStore` that always answers. The `at_us` of what it decided alone is below zero.

    Args:
        shared: Where limits are counted while it answers.
        store: Whether it does.
        clock: The clock that this instance counts by.
        spread: Whether parts of the store can be away.

    Attributes:
        local_decisions: Requests decided here because the store could not.
        owed: Uses let through here that the store does not know of, by limit and key.
        charged: Uses charged to the store after it came back.
        uncharged: Uses that it never heard of: there were too many keys, or the answer was lost when it was
            charged, so that it may know them and is not charged again.
    """

    def __init__(self, shared: LimitStore, store: Liveness, clock: Clock, *, spread: bool = False) -> None:
        self.shared = shared
        self.store = store
        self.clock = clock
        self.spread = spread
        self.local = MemoryLimitStore(clock)
        self.shares: dict[tuple[int, int], tuple[LimitRule, LimitRule]] = {}
        self.owed: dict[tuple[str, str], tuple[LimitRule, int]] = {}
        self.charging: asyncio.Task[None] | None = None
        self.look_again_s = 0.0
        # None if all who are owed have to be looked at.
        self.away_when_charged: str | None = None
        self.local_decisions = 0
        self.charged = 0
        self.uncharged = 0

    def reaches(self, rule: LimitRule, key: str) -> bool:
        """Whether the fleet counts *key* now."""
        return self.store.up and self.shared.reaches(rule, key)

    def at_once(self, asks: Sequence[Ask]) -> Sequence[Decision] | None:
        """Decide here if the store is known to be away, or has nothing to ask anybody."""
        if not self.owed:
            decisions = self.shared.at_once(asks)
            if decisions is not None:
                # From a lease, say: what is held here counts there already, whether it answers or not.
                return decisions
        if not self.store.up:
            return self.decide_locally(asks, owed=True)
        if self.spread:
            away = [not self.shared.reaches(ask.rule, ask.key) for ask in asks]
            if any(away):
                return self.decide_locally(asks, owed=True) if all(away) else None
        if not self.owed:
            return None
        self.charge_if_due()
        return self.shared.at_once(asks)

    async def decide(self, asks: Sequence[Ask]) -> Sequence[Decision]:
        """Decide about one request, in the store or, without waiting, here."""
        if not self.store.up:
            return self.decide_locally(asks, owed=True)
        if self.owed:
            self.charge_if_due()
        if self.spread:
            away = [index for index, ask in enumerate(asks) if not self.shared.reaches(ask.rule, ask.key)]
            if away:
                return await self.decide_in_parts(asks, away)
        try:
            decisions = await self.shared.decide(asks)
        except StoreFault as exc:
            # If it was sent it may have spent the cost all the same; that errs on the side of the limit.
            return self.decide_locally(asks, owed=never_sent(exc))
        for index, ask in enumerate(asks):
            if ask[0].kind == "c" and ask.cost and decisions[index].allowed:
                # Should the store go away, this instance knows who holds a place here.
                self.local.adjust_now([Change(Op.RENEW, ask.rule, ask.key, holder=ask.holder)])
        return decisions

    async def look(self, asks: Sequence[Ask]) -> Sequence[Prospect]:
        """Tell what each of *asks* would meet, in the store or here."""
        there = [index for index, ask in enumerate(asks) if self.reaches(ask.rule, ask.key)]
        told: dict[int, Prospect] = {}
        if there:
            with suppress(StoreFault):  # and so it would be decided here
                told.update(zip(there, await self.shared.look([asks[i] for i in there]), strict=True))
        return [told[index] if index in told else self.look_here(ask) for index, ask in enumerate(asks)]

    def look_here(self, ask: Ask) -> Prospect:
        """Tell what one ask would meet if it were decided here, as its `when_down` says."""
        rule, key, cost, _ = ask
        if rule.when_down in COUNTED:
            [prospect] = self.local.look_now([Ask(self.local_rule(rule), key, cost)])
            return prospect._replace(at_us=~prospect.at_us)
        fixed = fixed_decision(rule, cost)
        return Prospect(fixed.limit, fixed.remaining, fixed.retry_after_us, fixed.reset_us, at_us=fixed.at_us)

    async def decide_in_parts(self, asks: Sequence[Ask], away: Sequence[int]) -> Sequence[Decision]:
        """Decide about one request of which some limits, at the places *away*, cannot be asked about."""
        here = [asks[index] for index in away]
        local = self.decide_locally(here, owed=False)
        decisions = dict(zip(away, local, strict=True))
        passes = let_through(here, local)
        rest = [index for index in range(len(asks)) if index not in decisions]
        if rest:
            # A request that is refused anyway only looks at what the others have left.
            there = [asks[index] if passes else asks[index]._replace(cost=0) for index in rest]
            decided = await self.decide(there)
            decisions.update(zip(rest, decided, strict=True))
            if passes and not let_through(there, decided):
                passes = False
                decisions.update(zip(away, self.take_back(here, local), strict=True))
        if passes:
            self.owe_for(here, local)
        return [decisions[index] for index in range(len(asks))]

    def take_back(self, asks: Sequence[Ask], decisions: Sequence[Decision]) -> list[Decision]:
        """Undo what *decisions* made here have spent; returns them as if nothing had been."""
        undone = []
        for ask, told in zip(asks, decisions, strict=True):
            if not ask.cost or not told.allowed or ask.rule.when_down not in COUNTED:
                undone.append(told)
                continue
            op = Op.RELEASE if ask.rule.kind == "c" else Op.GIVE_BACK
            rule = self.local_rule(ask.rule)
            self.local.adjust_now([Change(op, rule, ask.key, ask.cost, ~told.at_us, ask.holder)])
            undone.append(told._replace(remaining=min(told.limit, told.remaining + ask.cost)))
        return undone

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
        if owed and not denied and let_through(asks, decisions):
            self.owe_for(asks, decisions)
        return decisions

    def owe_for(self, asks: Sequence[Ask], decisions: Sequence[Decision]) -> None:
        """Remember what a request that passed here has spent without the store's knowledge."""
        for (rule, key, cost, _), decision in zip(asks, decisions, strict=True):
            if cost and decision.allowed and rule.kind != "c" and rule.when_down in COUNTED:
                self.owe(rule, key, cost)

    def owe(self, rule: LimitRule, key: str, cost: int) -> None:
        """Remember that the store does not know of *cost* uses."""
        place = (rule.counter, key)
        known = self.owed.get(place)
        if known is not None:
            self.owed[place] = (rule, known[1] + cost)
        elif len(self.owed) < MAX_OWED:
            if not self.owed:
                self.away_when_charged = None
            self.owed[place] = (rule, cost)
        else:
            self.uncharged += cost

    def charge_if_due(self) -> None:
        """Begin to charge the store, unless all who are owed are still away."""
        if self.charging is not None:
            return
        if self.spread:
            now_s = self.clock.monotonic_s()
            if now_s < self.look_again_s:
                return
            self.look_again_s = now_s + LOOK_AGAIN_S
            if self.store.partly_away == self.away_when_charged:
                return
        self.charging = asyncio.get_running_loop().create_task(self.charge_owed())

    def next_owed(self) -> list[tuple[tuple[str, str], tuple[LimitRule, int]]]:
        """Take out the next part of what is owed to those who answer."""
        owed = self.owed
        if not self.spread:
            return [owed.popitem() for _ in range(min(OWED_PER_CALL, len(owed)))]
        there = (place for place, (rule, _) in owed.items() if self.shared.reaches(rule, place[1]))
        return [(place, owed.pop(place)) for place in list(islice(there, OWED_PER_CALL))]

    async def charge_owed(self) -> None:
        """
        Charge the store what it does not know of, a part at a time.

        A charge whose answer is lost is not tried again. One that certainly never left is owed as before, and
        this ends: a request that comes later begins it anew.
        """
        try:
            self.away_when_charged = self.store.partly_away
            while self.store.up and (part := self.next_owed()):
                changes = []
                for (_, key), (rule, cost) in part:
                    look = Change(Op.CHARGE, self.local_rule(rule), key)
                    [counts] = self.local.adjust_now([look])
                    amount = min(cost, counts.used)
                    if amount:
                        changes.append(Change(Op.CHARGE, rule, key, amount))
                # In a cluster each by itself, so that each is known to have left or not.
                groups = [[change] for change in changes] if self.spread else [changes] if changes else []
                told = await asyncio.gather(
                    *(self.shared.adjust(group) for group in groups), return_exceptions=True
                )
                left = [self.settle(group, answer) for group, answer in zip(groups, told, strict=True)]
                if not all(left):
                    self.away_when_charged = None
                    return
        finally:
            self.charging = None

    def settle(self, changes: Sequence[Change], answer: Sequence[Changed] | BaseException) -> bool:
        """Count what has become of charges; returns whether they may have been made."""
        amount = sum(change.amount for change in changes)
        if not isinstance(answer, BaseException):
            self.charged += amount
        elif not isinstance(answer, StoreFault):
            raise answer
        elif never_sent(answer):
            for change in changes:
                self.owe(change.rule, change.key, change.amount)
            return False
        else:
            self.uncharged += amount
        return True

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


def let_through(asks: Sequence[Ask], decisions: Sequence[Decision]) -> bool:
    """Whether a request with these answers passes: shadow limits have no vote."""
    return all(decision[0] or ask[0].shadow for ask, decision in zip(asks, decisions, strict=True))


def never_sent(fault: StoreFault) -> bool:
    """Whether what failed has certainly not happened."""
    return isinstance(fault, StoreUnavailable) and not fault.sent
