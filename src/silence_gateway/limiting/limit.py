"""
One declared limit: what programs that use the library ask.

Hot path: one `try_acquire` costs 1.6 us in memory or from a lease, `try_acquire_now` 1.3 us.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from silence_gateway.core.limits import NEVER, Ask, Change, Decision, LimitRule, Op, new_tuple
from silence_gateway.limiting.checks import check_ask, check_change
from silence_gateway.limiting.limit_refused import refused_by
from silence_gateway.limiting.place import Place

if TYPE_CHECKING:
    from silence_gateway.limiting.rate_limiter import RateLimiter

NEGATIVE_COST = "a cost is at least 0; use give_back to undo what was spent"
NEEDS_HOLD = "a concurrency limit gives places, not uses: `async with limit.hold(key)`"
NO_PLACES = "only a concurrency limit gives places; use acquire"

WAIT_MARGIN_S = 0.001
"""Waited longer than told, so that a timer that fires early does not ask in vain."""


class Limit:
    """
    One declared limit; made by `RateLimiter.limit` and `RateLimiter.concurrency`.

    Attributes:
        rule: What it counts and how.
    """

    __slots__ = ("decider", "limiter", "rule")

    def __init__(self, limiter: RateLimiter, rule: LimitRule) -> None:
        self.limiter = limiter
        self.decider = limiter.engine.decider
        self.rule = rule

    def __repr__(self) -> str:
        return f"<Limit {self.rule.name} {self.rule.algorithm.value} {self.rule.rate or self.rule.max}>"

    async def try_acquire(self, key: str = "", cost: int = 1) -> Decision:
        """
        Spend *cost* for *key* if that is allowed; the decision says whether it was.

        Raises:
            TypeError: The key is no str, or the cost no int.
            ValueError: The cost is below 0, or this is a concurrency limit.
        """
        if key.__class__ is not str or cost.__class__ is not int:
            check_ask(key, cost)
        rule, decider = self.rule, self.decider
        here = decider.here
        if here is not None and cost > 0 and rule.kind != "c" and not decider.excepts:
            # Counted in this process, and no key has an exception: the shortest way.
            return here.decide_one(rule, key, cost)
        if cost < 0:
            raise ValueError(NEGATIVE_COST)
        if rule.kind == "c" and cost:
            raise ValueError(NEEDS_HOLD)
        asks = (new_tuple(Ask, (rule, key, cost, "")),)
        decisions = decider.at_once(asks)
        if decisions is None:
            decisions = await decider.decide(asks)
        return decisions[0]

    def try_acquire_now(self, key: str = "", cost: int = 1) -> Decision | None:
        """
        Spend *cost* for *key* if that can be decided without asking a store; None if `try_acquire` must be.

        With `memory://` it always can, from code that is not async too; with a store where *key* is under a
        lease or known to be refused, or the store is away.

        Raises:
            TypeError: As for `try_acquire`.
            ValueError: As for `try_acquire`.
        """
        if key.__class__ is not str or cost.__class__ is not int:
            check_ask(key, cost)
        rule, decider = self.rule, self.decider
        here = decider.here
        if here is not None and cost > 0 and rule.kind != "c" and not decider.excepts:
            return here.decide_one(rule, key, cost)
        if cost < 0:
            raise ValueError(NEGATIVE_COST)
        if rule.kind == "c" and cost:
            raise ValueError(NEEDS_HOLD)
        decisions = decider.at_once((Ask(rule, key, cost),))
        return None if decisions is None else decisions[0]

    async def acquire(
        self, key: str = "", cost: int = 1, *, wait: bool = False, timeout_s: float | None = None
    ) -> Decision:
        """
        Spend *cost* for *key*.

        Args:
            key: Whom to count.
            cost: How many uses.
            wait: Whether to wait until it is allowed; nothing is spent or reserved meanwhile, so whoever
                asks at the right moment is first.
            timeout_s: The longest wait; None for as long as it takes.

        Raises:
            RateLimited: It is not allowed now, or not before *timeout_s*; nothing was spent.
            TypeError: As for `try_acquire`.
            ValueError: As for `try_acquire`.
        """
        if not wait:
            [decision] = await self.limiter.acquire_all([(self, key, cost)])
            return decision
        clock = self.limiter.clock
        end_s = float("inf") if timeout_s is None else clock.monotonic_s() + timeout_s
        while True:
            decision = await self.try_acquire(key, cost)
            if decision.allowed:
                return decision
            if decision.retry_after_us == NEVER:
                raise refused_by(self.rule, decision)
            wait_s = decision.retry_after_us / 1_000_000
            if clock.monotonic_s() + wait_s > end_s:
                raise refused_by(self.rule, decision)
            await clock.sleep(wait_s + WAIT_MARGIN_S)

    async def peek(self, key: str = "") -> Decision:
        """
        Say what *key* has left; nothing is spent.

        Raises:
            TypeError: The key is no str.
        """
        return await self.try_acquire(key, 0)

    async def charge(self, key: str, cost: int, after: Decision) -> None:
        """
        Spend *cost* more than was asked for in the decision *after*, whether the limit allows it or not.

        Raises:
            TypeError: As for `try_acquire`, or *after* is no decision.
            ValueError: The cost is below 0.
            StoreUnavailable: The store did not confirm it.
        """
        await self._change(Op.CHARGE, key, cost, after)

    async def give_back(self, key: str, cost: int, after: Decision) -> None:
        """
        Undo *cost* of what was spent in the decision *after*, as far as it still counts.

        Raises:
            TypeError: As for `try_acquire`, or *after* is no decision.
            ValueError: The cost is below 0.
            StoreUnavailable: The store did not confirm it.
        """
        await self._change(Op.GIVE_BACK, key, cost, after)

    async def _change(self, op: Op, key: str, cost: int, after: Decision) -> None:
        check_change(key, cost, after)
        if cost < 0:
            raise ValueError("a cost is at least 0")
        if self.rule.kind == "c":
            raise ValueError(NEEDS_HOLD)
        await self.decider.undo([Change(op, self.rule, key, cost, after.at_us)])

    def hold(self, key: str = "", *, wait: bool = False, timeout_s: float | None = None) -> Place:
        """
        Return a context manager that holds a place of a concurrency limit.

        Entering it raises RateLimited if there is none (with *wait*: none before *timeout_s*).

        Raises:
            TypeError: The key is no str.
            ValueError: This is no concurrency limit.
        """
        check_ask(key, 1)
        if self.rule.kind != "c":
            raise ValueError(NO_PLACES)
        return Place(self.limiter, self.rule, key, wait=wait, timeout_s=timeout_s)

    async def reset(self, key: str = "") -> bool:
        """
        Forget what *key* has spent; returns whether there was anything.

        Raises:
            StoreUnavailable: The store did not confirm it.
            TypeError: The key is no str.
        """
        check_ask(key, 1)
        return await self.decider.reset(self.rule, key)
