"""
Decisions as the fleet sees them: exceptions for single keys first, then refusals remembered, then the store.

What both doors of the limiter share: the gateway's (`limiter.py`) and the library's (`rate_limiter.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from silence_gateway.clock import Clock
from silence_gateway.core.limits import NEVER, NOT_ASKED, Ask, Change, Changed, Decision, LimitRule, Op
from silence_gateway.core.prospect import Prospect
from silence_gateway.limiting.denials import Denials
from silence_gateway.limiting.override_entry import Override
from silence_gateway.limiting.overrides import Overrides
from silence_gateway.stores.limit_contract import LimitStore
from silence_gateway.stores.limits_memory import MemoryLimitStore

NO_EXCEPTIONS: Mapping[str, Mapping[str, Override]] = {}


class Decider:
    """
    Asks one store about limits, and spares it what need not be asked.

    Args:
        store: Where limits are counted.
        clock: The clock that remembered refusals end by.
        overrides: Exceptions for single keys, if there can be any.
        remembers: Whether refusals are worth remembering: not for a store that answers at once anyway.
    """

    def __init__(
        self, store: LimitStore, clock: Clock, *, overrides: Overrides | None = None, remembers: bool = True
    ) -> None:
        self.store = store
        self.clock = clock
        self.overrides = overrides
        self.remembers = remembers
        self.denials = Denials(clock)
        self.undoable: set[str] = set()
        # A store that is this process, and so decides at once whatever happens; and the exceptions there are.
        self.here = store if isinstance(store, MemoryLimitStore) else None
        self.excepts = overrides.by_limit if overrides is not None else NO_EXCEPTIONS

    def forgets(self, rule: LimitRule) -> None:
        """Costs of *rule* are settled afterwards, so that its refusals may end at any time."""
        self.undoable.add(rule.name)

    def at_once(self, asks: Sequence[Ask]) -> Sequence[Decision] | None:
        """Decide about one request if nobody has to be waited for; None if `decide` must be asked."""
        overrides = self.overrides
        if overrides is not None and overrides.by_limit:
            asks, known = self.with_overrides(asks, overrides)
            if known is not None:
                return known
        denials = self.denials
        if denials.by_place:
            refusal = denials.look(asks, self.clock.monotonic_s())
            if refusal is not None:
                return refusal
        return self.store.at_once(asks)

    async def decide(self, asks: Sequence[Ask]) -> Sequence[Decision]:
        """
        Decide about one request; ask `at_once` first.

        Raises:
            StoreUnavailable: The store did not answer, and is not one that falls back.
        """
        overrides = self.overrides
        if overrides is not None and overrides.by_limit:
            asks, known = self.with_overrides(asks, overrides)
            if known is not None:
                return known
        if not self.remembers:
            return await self.store.decide(asks)
        asked_s = self.clock.monotonic_s()
        decisions = await self.store.decide(asks)
        for decision in decisions:
            if not decision[0]:
                self.learn(asks, decisions, asked_s)
                break
        return decisions

    async def look(self, asks: Sequence[Ask]) -> Sequence[Prospect]:
        """
        Tell what each of *asks* would meet at this instance, each by itself; nothing is spent.

        Raises:
            StoreUnavailable: The store did not answer, and is not one that falls back.
        """
        asks = [ask._replace(rule=self.rule_of(ask.rule, ask.key)) for ask in asks]
        prospects = await self.store.look(asks)
        now_s = self.clock.monotonic_s()
        return [
            self.excepted(ask, self.denials.over(ask, prospect, now_s))
            for ask, prospect in zip(asks, prospects, strict=True)
        ]

    def excepted(self, ask: Ask, prospect: Prospect) -> Prospect:
        """Lay over *prospect* an exception that is no other number: a key that is free, or blocked."""
        rule, key, cost, _ = ask
        override = self.overrides.find(rule.name, key) if self.overrides is not None else None
        if override is None or not (override.unlimited or override.blocked):
            return prospect
        if override.unlimited:
            return Prospect(rule.capacity, rule.capacity, 0, 0, at_us=prospect.at_us)
        wait_us = self.blocked(rule, override, 1).retry_after_us
        return Prospect(rule.capacity, 0, wait_us if cost else 0, wait_us, at_us=prospect.at_us)

    def learn(self, asks: Sequence[Ask], decisions: Sequence[Decision], asked_s: float) -> None:
        """Remember refusals that nothing but time ends."""
        undoable = self.undoable
        if not undoable:
            self.denials.learn(asks, decisions, asked_s)
            return
        pairs = [
            (ask, decision)
            for ask, decision in zip(asks, decisions, strict=True)
            if ask.rule.name not in undoable
        ]
        self.denials.learn([ask for ask, _ in pairs], [decision for _, decision in pairs], asked_s)

    # -- exceptions for single keys -------------------------------------------------------------------

    def with_overrides(
        self, asks: Sequence[Ask], overrides: Overrides
    ) -> tuple[Sequence[Ask], list[Decision] | None]:
        """Return what to ask where exceptions hold, and the decisions if nobody need be asked."""
        changed: list[Ask] | None = None
        refusal: list[Decision] | None = None
        free = 0
        for index, ask in enumerate(asks):
            rule = ask.rule
            override = overrides.find(rule.name, ask.key)
            if override is None:
                continue
            if override.blocked:
                if not rule.shadow and (ask.cost or len(asks) == 1):
                    if refusal is None:
                        refusal = [Decision(True, each.rule.capacity, NOT_ASKED, 0, 0) for each in asks]
                    refusal[index] = self.blocked(rule, override, ask.cost)
                continue
            changed = changed or list(asks)
            if override.unlimited:
                # Nothing is spent by an ask of no cost, and nothing refused.
                changed[index] = ask._replace(cost=0)
                free += 1
            else:
                changed[index] = ask._replace(rule=overrides.rule_for(override, rule))
        if refusal is None and free and free == len(asks):
            return asks, [Decision(True, ask.rule.capacity, ask.rule.capacity, 0, 0) for ask in asks]
        return changed or asks, refusal

    def counts(self, asks: Sequence[Ask]) -> list[bool]:
        """Say which of *asks* count at all: not those of keys that an exception frees from their limit."""
        overrides = self.overrides
        if overrides is None or not overrides.by_limit:
            return [True] * len(asks)
        found = (overrides.find(ask.rule.name, ask.key) for ask in asks)
        return [override is None or not override.unlimited for override in found]

    def blocked(self, rule: LimitRule, override: Override, cost: int) -> Decision:
        """Return what a blocked key meets; looking passes as ever, and sees nothing left."""
        wait_us = NEVER
        if override.until_us:
            wait_us = max(1, override.until_us - self.clock.now_us())
        return Decision(not cost, rule.capacity, 0, wait_us if cost else 0, max(0, wait_us))

    def rules_in_force(self, asks: Sequence[Ask]) -> list[LimitRule] | None:
        """Return the rules that hold for the keys of *asks*; None if no exception makes them others."""
        if not self.excepts:
            return None
        rules = [self.rule_of(ask.rule, ask.key) for ask in asks]
        return rules if any(rule is not ask.rule for rule, ask in zip(rules, asks, strict=True)) else None

    def rule_of(self, rule: LimitRule, key: str) -> LimitRule:
        """Return the rule that holds for *key*: where it counts, too."""
        overrides = self.overrides
        if overrides is None or not overrides.by_limit:
            return rule
        override = overrides.find(rule.name, key)
        return rule if override is None else overrides.rule_for(override, rule)

    # -- changes --------------------------------------------------------------------------------------

    async def adjust(self, changes: Sequence[Change]) -> Sequence[Changed]:
        """
        Change what keys have spent, of limits whose refusals are not remembered.

        Raises:
            StoreUnavailable: The store did not answer; some changes may have been made.
        """
        overrides = self.overrides
        if overrides is not None and overrides.by_limit:
            changes = [change._replace(rule=self.rule_of(change.rule, change.key)) for change in changes]
        return await self.store.adjust(changes)

    async def undo(self, changes: Sequence[Change]) -> Sequence[Changed]:
        """
        Change what keys have spent, and let every instance forget that they were refused.

        Raises:
            StoreUnavailable: The store did not answer; some changes may have been made.
        """
        try:
            return await self.adjust(changes)
        finally:
            self.denials.forget(
                [
                    (self.rule_of(change.rule, change.key), change.key)
                    for change in changes
                    if change.op is Op.GIVE_BACK
                ]
            )

    async def reset(self, rule: LimitRule, key: str) -> bool:
        """
        Forget what *key* has spent; returns whether there was anything.

        Raises:
            StoreUnavailable: The store did not answer; it may be forgotten.
        """
        # Where it counts now, and where it counts without the exception it may have.
        rules = {one.counter: one for one in (rule, self.rule_of(rule, key))}.values()
        try:
            return any([await self.store.reset(one, key) for one in rules])
        finally:
            self.denials.forget([(one, key) for one in rules])
