"""One place of a concurrency limit, held while a block of somebody's program runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from silence_gateway.core.limits import NEVER, Ask, Decision
from silence_gateway.limiting.limit_refused import refused_by

if TYPE_CHECKING:
    from silence_gateway.core.limits import LimitRule
    from silence_gateway.limiting.rate_limiter import RateLimiter

FIRST_PAUSE_S = 0.01
"""Who waits asks again after this, and then after twice as long each time: nobody is told when a place is
free, and the store's own answer is a guess of a second."""


class Place:
    """
    A place of a concurrency limit, held while its block runs.

    It is renewed meanwhile; should the process die, it is free after the limit's time to live. Each is
    entered once.
    """

    __slots__ = ("entered", "holder", "key", "limiter", "rule", "timeout_s", "wait")

    def __init__(
        self, limiter: RateLimiter, rule: LimitRule, key: str, *, wait: bool, timeout_s: float | None
    ) -> None:
        self.limiter = limiter
        self.rule = rule
        self.key = key
        self.wait = wait
        self.timeout_s = timeout_s
        self.holder = ""
        self.entered = False

    async def __aenter__(self) -> Decision:
        """
        Take a place; cancelling this takes none.

        Raises:
            RateLimited: There is none, or none in time.
            ValueError: It was entered before.
        """
        if self.entered:
            raise ValueError("a place is entered once; call limit.hold(key) for each")
        self.entered = True
        clock, rule = self.limiter.clock, self.rule
        end_s = clock.monotonic_s() + (self.timeout_s or 0.0)
        pause_s = FIRST_PAUSE_S
        while True:
            decision = await self.ask()
            if decision.allowed:
                return decision
            if decision.retry_after_us == NEVER:
                raise refused_by(rule, decision)
            wait_s = min(pause_s, decision.retry_after_us / 1_000_000)
            if self.timeout_s is not None:
                wait_s = min(wait_s, end_s - clock.monotonic_s())
            if not self.wait or wait_s <= 0:
                raise refused_by(rule, decision)
            await clock.sleep(wait_s)
            pause_s *= 2

    async def ask(self) -> Decision:
        """Ask for the place once, and hold it if there is one."""
        holds, decider = self.limiter.engine.holds, self.limiter.engine.decider
        holder = holds.name()
        asks = (Ask(self.rule, self.key, 1, holder),)
        [counts] = decider.counts(asks)
        decisions = decider.at_once(asks)
        if decisions is None:
            try:
                decisions = await decider.decide(asks)
            except BaseException:
                holds.abandon(asks)
                raise
        if decisions[0].allowed and counts:
            self.holder = holder
            holds.hold(holder, asks)
        return decisions[0]

    async def __aexit__(self, *_exc: object) -> None:
        """Release the place."""
        self.limiter.engine.holds.release(self.holder)
