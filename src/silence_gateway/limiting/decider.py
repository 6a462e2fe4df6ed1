"""
Decisions as the fleet sees them: exceptions for single keys first, then refusals remembered, then the store.

What both doors of the limiter share: the gateway's (`limiter.py`) and the library's (`rate_limiter.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from silence_gateway.clock import Clock
from silence_gateway.core.limits import NEVER, NOT_ASKED, Ask, Change, Decision, LimitRule
from silence_gateway.limiting.denials import Denials
from silence_gateway.limiting.overrides import Override, Overrides
from silence_gateway.stores.limit_contract import LimitStore


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
        self.denials = Denials()
        self.undoable: set[str] = set()

    def forgets(self, rule: LimitRule) -> None:
        """Costs of *rule* are settled afterwards, so that its refusals may end at any time."""
        self.undoable.add(rule.name)

    def at_once(self, asks: Sequence[Ask]) -> Sequence[Decision] | None:
        """Decide about one request if nobody has to be waited for; None if `decide` must be asked."""
        overrides = self.overrides
        if overrides is not None and overrides.by_limit:
            asks, refusal = self.with_overrides(asks, overrides)
            if refusal is not None:
                return refusal
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
            asks, refusal = self.with_overrides(asks, overrides)
            if refusal is not None:
                return refusal
        if not self.remembers:
            return await self.store.decide(asks)
        asked_s = self.clock.monotonic_s()
        decisions = await self.store.decide(asks)
        for decision in decisions:
            if not decision[0]:
                self.learn(asks, decisions, asked_s)
                break
        return decisions

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

    def with_overrides(
        self, asks: Sequence[Ask], overrides: Overrides
    ) -> tuple[Sequence[Ask], list[Decision] | None]:
        """Return what to ask where exceptions hold, and a refusal if one of them is a block."""
        changed: list[Ask] | None = None
        refusal: list[Decision] | None = None
        for index, ask in enumerate(asks):
            override = overrides.find(ask.rule.name, ask.key)
            if override is None:
                continue
            if override.blocked:
                if ask.cost and not ask.rule.shadow:
                    if refusal is None:
                        refusal = [Decision(True, each.rule.capacity, NOT_ASKED, 0, 0) for each in asks]
                    refusal[index] = self.blocked(ask.rule, override)
                continue
            changed = changed or list(asks)
            # Nothing is spent by an ask of no cost, and nothing refused.
            changed[index] = (
                ask._replace(cost=0)
                if override.unlimited
                else ask._replace(rule=overrides.rule_for(override, ask.rule))
            )
        return changed or asks, refusal

    def is_unlimited(self, limit: str, key: str) -> bool:
        """Whether an exception says that nothing is counted for *key*."""
        overrides = self.overrides
        if overrides is None or not overrides.by_limit:
            return False
        override = overrides.find(limit, key)
        return override is not None and override.unlimited

    def blocked(self, rule: LimitRule, override: Override) -> Decision:
        """Return the refusal of a key that somebody has blocked."""
        wait_us = NEVER
        if override.until_us:
            wait_us = max(1, override.until_us - self.clock.now_us())
        return Decision(False, rule.capacity, 0, wait_us, max(0, wait_us))

    async def undo(self, changes: Sequence[Change]) -> None:
        """
        Change what keys have spent, and let every instance forget that they were refused.

        Raises:
            StoreUnavailable: The store did not answer.
        """
        await self.store.adjust(changes)
        self.denials.forget([(change.rule, change.key) for change in changes])

    async def reset(self, rule: LimitRule, key: str) -> bool:
        """
        Forget what *key* has spent; returns whether there was anything.

        Raises:
            StoreUnavailable: The store did not answer.
        """
        done = await self.store.reset(rule, key)
        self.denials.forget([(rule, key)])
        return done
