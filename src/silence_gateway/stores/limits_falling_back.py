"""
Limits that are shared while the store answers and local while it does not.

No request fails for the store's sake: what it cannot decide, each limit's `when_down` decides here, at
once. While the store is known to be away it is not asked, so nothing waits for it. What this admits
beyond the limit around an outage is stated in `core/local_share.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from silence_gateway.clock import Clock
from silence_gateway.core.limits import Ask, Decision, LimitRule, WhenDown
from silence_gateway.core.local_share import share_of
from silence_gateway.errors import StoreFault
from silence_gateway.stores.limit_contract import LimitStore
from silence_gateway.stores.limits_memory import MemoryLimitStore

DENIED_FOR_US = 1_000_000
"""How long a limit with `when_down: deny` tells callers to wait: about as long as recovery takes."""


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
    A `LimitStore` that always answers.

    Attributes:
        local_decisions: Requests decided here because the store could not.
    """

    def __init__(self, shared: LimitStore, store: Liveness, clock: Clock) -> None:
        self.shared = shared
        self.store = store
        self.local = MemoryLimitStore(clock)
        self.shares: dict[tuple[LimitRule, int], LimitRule] = {}
        self.local_decisions = 0

    async def decide(self, asks: Sequence[Ask]) -> Sequence[Decision]:
        """Decide about one request, in the store or, without waiting, here."""
        if self.store.up:
            try:
                return await self.shared.decide(asks)
            except StoreFault:
                # It may have spent the cost all the same; that errs on the side of the limit.
                pass
        return self.decide_locally(asks)

    async def reset(self, rule: LimitRule, key: str) -> bool:
        """
        Forget what *key* has spent, here and in the store.

        Raises:
            StoreUnavailable: The fleet still remembers it.
        """
        here = await self.local.reset(self.local_rule(rule), key)
        return await self.shared.reset(rule, key) or here

    def decide_locally(self, asks: Sequence[Ask]) -> list[Decision]:
        """Decide about one request as each limit's `when_down` says; all or nothing, as ever."""
        self.local_decisions += 1
        counted = [
            (index, Ask(self.local_rule(rule), key, cost))
            for index, (rule, key, cost) in enumerate(asks)
            if rule.when_down in (WhenDown.LOCAL_SHARE, WhenDown.LOCAL_FULL)
        ]
        if len(counted) == len(asks):
            return self.local.decide_now([ask for _, ask in counted])
        denied = any(rule.when_down is WhenDown.DENY and cost and not rule.shadow for rule, _, cost in asks)
        decisions = [fixed_decision(rule, cost) for rule, _, cost in asks]
        # A request that is refused anyway only looks at what the others have left.
        looked = [ask._replace(cost=0) if denied else ask for _, ask in counted]
        for (index, _), decision in zip(counted, self.local.decide_now(looked), strict=True):
            decisions[index] = decision
        return decisions

    def local_rule(self, rule: LimitRule) -> LimitRule:
        """Return the rule that this instance applies on its own."""
        if rule.when_down is not WhenDown.LOCAL_SHARE:
            return rule
        instances = self.store.live_instances
        share = self.shares.get((rule, instances))
        if share is None:
            if len(self.shares) >= 10_000:
                self.shares.clear()
            share = self.shares[rule, instances] = share_of(rule, instances)
        return share


def fixed_decision(rule: LimitRule, cost: int) -> Decision:
    """Answer without counting: ALLOW lets everything pass, DENY nothing but a look."""
    if rule.when_down is WhenDown.DENY and cost:
        return Decision(False, rule.capacity, 0, DENIED_FOR_US, DENIED_FOR_US)
    return Decision(True, rule.capacity, rule.capacity, 0, 0)
