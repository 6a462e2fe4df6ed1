"""
The limiter as a library: shared limits for any asyncio program.

    async with RateLimiter("valkey://127.0.0.1:6379/0") as limiter:
        login = limiter.limit("login", "5/minute")
        await login.acquire("alice")                          # raises RateLimited
        await login.acquire("bob", wait=True, timeout_s=10)   # waits until it is allowed
        if not (await login.try_acquire("carol")).allowed:
            ...
        reports = limiter.concurrency("reports", 3)
        async with reports.hold("alice"):                     # at most three at once
            ...

Limits are declared once and are fixed from then on. All decisions of one round of the event loop travel
to the store in one trip, so make them concurrently. While the store is away each limit decides as its
`when_down` says, at once. Nothing here is specific to HTTP.

Hot path of leases: one `try_acquire` costs 2 us.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from silence_gateway.clock import Clock, SystemClock
from silence_gateway.core.limits import (
    NEVER,
    Algorithm,
    Alignment,
    Ask,
    Change,
    Decision,
    LimitRule,
    Op,
    WhenDown,
    refusal_of,
)
from silence_gateway.core.rates import Rate, parse_rate
from silence_gateway.errors import RateLimited
from silence_gateway.limiting.assembly import limit_engine
from silence_gateway.stores.contracts import Store
from silence_gateway.stores.open import open_store
from silence_gateway.stores.settings import StoreSettings

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

    __slots__ = ("limiter", "rule")

    def __init__(self, limiter: RateLimiter, rule: LimitRule) -> None:
        self.limiter = limiter
        self.rule = rule

    def __repr__(self) -> str:
        return f"<Limit {self.rule.name} {self.rule.algorithm.value} {self.rule.rate or self.rule.max}>"

    async def try_acquire(self, key: str = "", cost: int = 1) -> Decision:
        """
        Spend *cost* for *key* if that is allowed; the decision says whether it was.

        Raises:
            ValueError: The cost is below 0, or this is a concurrency limit.
        """
        if cost < 0:
            raise ValueError(NEGATIVE_COST)
        if self.rule.kind == "c" and cost:
            raise ValueError(NEEDS_HOLD)
        decider = self.limiter.engine.decider
        asks = (Ask(self.rule, key, cost),)
        decisions = decider.at_once(asks)
        if decisions is None:
            decisions = await decider.decide(asks)
        return decisions[0]

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
                raise RateLimited((self.rule.name,), None)
            wait_s = decision.retry_after_us / 1_000_000
            if clock.monotonic_s() + wait_s > end_s:
                raise RateLimited((self.rule.name,), wait_s)
            await clock.sleep(wait_s + WAIT_MARGIN_S)

    async def peek(self, key: str = "") -> Decision:
        """Say what *key* has left; nothing is spent."""
        return await self.try_acquire(key, 0)

    async def charge(self, key: str, cost: int, after: Decision) -> None:
        """
        Spend *cost* more than was asked for in the decision *after*, whether the limit allows it or not.

        Raises:
            ValueError: The cost is below 0.
            StoreUnavailable: The store did not confirm it.
        """
        await self._change(Op.CHARGE, key, cost, after)

    async def give_back(self, key: str, cost: int, after: Decision) -> None:
        """
        Undo *cost* of what was spent in the decision *after*, as far as it still counts.

        Raises:
            ValueError: The cost is below 0.
            StoreUnavailable: The store did not confirm it.
        """
        await self._change(Op.GIVE_BACK, key, cost, after)

    async def _change(self, op: Op, key: str, cost: int, after: Decision) -> None:
        if cost < 0:
            raise ValueError("a cost is at least 0")
        if self.rule.kind == "c":
            raise ValueError(NEEDS_HOLD)
        await self.limiter.engine.decider.undo([Change(op, self.rule, key, cost, after.at_us)])

    def hold(self, key: str = "", *, wait: bool = False, timeout_s: float | None = None) -> Place:
        """
        Return a context manager that holds a place of a concurrency limit.

        Entering it raises RateLimited if there is none (with *wait*: none before *timeout_s*).

        Raises:
            ValueError: This is no concurrency limit.
        """
        if self.rule.kind != "c":
            raise ValueError(NO_PLACES)
        return Place(self, key, wait=wait, timeout_s=timeout_s)

    async def reset(self, key: str = "") -> bool:
        """
        Forget what *key* has spent; returns whether there was anything.

        Raises:
            StoreUnavailable: The store did not confirm it.
        """
        return await self.limiter.engine.decider.reset(self.rule, key)


class Place:
    """
    A place of a concurrency limit, held while its block runs.

    It is renewed meanwhile; should the process die, it is free after the limit's time to live.
    """

    __slots__ = ("holder", "key", "limit", "timeout_s", "wait")

    def __init__(self, limit: Limit, key: str, *, wait: bool, timeout_s: float | None) -> None:
        self.limit = limit
        self.key = key
        self.wait = wait
        self.timeout_s = timeout_s
        self.holder = ""

    async def __aenter__(self) -> Decision:
        """
        Take a place.

        Raises:
            RateLimited: There is none, or none in time.
        """
        limiter = self.limit.limiter
        rule, clock, holds = self.limit.rule, limiter.clock, limiter.engine.holds
        end_s = float("inf") if self.timeout_s is None else clock.monotonic_s() + self.timeout_s
        holder = holds.name()
        while True:
            asks = (Ask(rule, self.key, 1, holder),)
            decider = limiter.engine.decider
            decisions = decider.at_once(asks)
            if decisions is None:
                decisions = await decider.decide(asks)
            decision = decisions[0]
            if decision.allowed:
                self.holder = holder
                holds.hold(holder, asks)
                return decision
            wait_s = decision.retry_after_us / 1_000_000
            never = decision.retry_after_us == NEVER
            if never or not self.wait or clock.monotonic_s() + wait_s > end_s:
                raise RateLimited((rule.name,), None if never else wait_s)
            await clock.sleep(wait_s)

    async def __aexit__(self, *_exc: object) -> None:
        """Release the place."""
        self.limit.limiter.engine.holds.release(self.holder)


class RateLimiter:
    """
    Limits of this process, or of all that use the same store and fleet name.

    Use it as a context manager, or call `start` and `stop`. It may be cancelled at any time: a cancelled
    `acquire` may have spent its cost.

    Args:
        store: An address (`memory://`, `valkey://host:6379/0`, `embedded://` ...), or a store of your own
            that you start and stop yourself.
        fleet: Programs with the same fleet name on the same store share their limits.
        clock: Only for tests.

    Raises:
        ConfigError: The address cannot be read.
    """

    def __init__(
        self, store: str | Store = "memory://", *, fleet: str = "limits", clock: Clock | None = None
    ) -> None:
        self.clock = clock or SystemClock()
        self.owns_store = isinstance(store, str)
        self.store = (
            open_store(StoreSettings(url=store), fleet, clock=self.clock) if isinstance(store, str) else store
        )
        self.engine = limit_engine(self.store, fleet, self.clock)
        self.limits: dict[str, Limit] = {}

    async def start(self) -> None:
        """Connect; returns at once and never fails, also when the store is away."""
        if self.owns_store:
            await self.store.start()
        self.engine.start()

    async def stop(self) -> None:
        """Give back what is held, and disconnect."""
        await self.engine.stop()
        if self.owns_store:
            await self.store.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.stop()

    def limit(
        self,
        name: str,
        rate: str | Rate,
        *,
        algorithm: str = Algorithm.SLIDING_WINDOW,
        burst: int | None = None,
        align: str = Alignment.CALENDAR,
        block_for_s: float = 0,
        lease: int = 0,
        when_down: str = WhenDown.LOCAL_SHARE,
    ) -> Limit:
        """
        Declare a limit, or return the one declared with the same values.

        Args:
            name: Part of every stored key; letters, digits, `_`, `.`, `-`.
            rate: As in `100/minute`, `5000/s`, `10/30s`; with a fixed window also `10000/month`.
            algorithm: `sliding_window` (exact), `sliding_counter` (two numbers per key), `token_bucket`
                (smooth, with a burst) or `fixed_window` (quotas).
            burst: Most at once, for `token_bucket`; the rate's count when None.
            align: Where a `fixed_window` begins: `calendar` (UTC) or `first_hit`.
            block_for_s: For how long a key that was refused stays refused.
            lease: How many uses may be taken from the store at a time and spent here; 0 decides each
                one in the store, exactly.
            when_down: `local_share`, `local_full`, `allow` or `deny`.

        Raises:
            ValueError: A value is wrong, or the name is declared with other values.
        """
        return self.declare(
            LimitRule(
                name=name,
                algorithm=Algorithm(algorithm),
                rate=parse_rate(rate) if isinstance(rate, str) else rate,
                burst=burst,
                align=Alignment(align),
                block_us=round(block_for_s * 1_000_000),
                lease=lease,
                when_down=WhenDown(when_down),
            )
        )

    def concurrency(
        self, name: str, most: int, *, ttl_s: float = 30, when_down: str = WhenDown.LOCAL_SHARE
    ) -> Limit:
        """
        Declare a limit on how many run at once.

        Args:
            name: As for `limit`.
            most: How many may hold a place, per key.
            ttl_s: After how many seconds the place of a process that died is free.
            when_down: As for `limit`.

        Raises:
            ValueError: As for `limit`.
        """
        return self.declare(
            LimitRule(
                name=name,
                algorithm=Algorithm.CONCURRENCY,
                max=most,
                ttl_us=round(ttl_s * 1_000_000),
                when_down=WhenDown(when_down),
            )
        )

    def declare(self, rule: LimitRule) -> Limit:
        """
        Declare a limit by its rule, or return the one declared with the same values.

        Raises:
            ValueError: The name is declared with other values.
        """
        known = self.limits.get(rule.name)
        if known is None:
            known = self.limits[rule.name] = Limit(self, rule)
        elif known.rule != rule:
            raise ValueError(f"limit {rule.name} is declared already, as {known!r}")
        return known

    async def try_acquire(self, name: str, key: str = "", cost: int = 1) -> Decision:
        """Spend from a declared limit by its name, if that is allowed."""
        return await self.named(name).try_acquire(key, cost)

    async def acquire(
        self, name: str, key: str = "", cost: int = 1, *, wait: bool = False, timeout_s: float | None = None
    ) -> Decision:
        """
        Spend from a declared limit by its name; see `Limit.acquire`.

        Raises:
            RateLimited: It is not allowed now, or not in time; nothing was spent.
        """
        return await self.named(name).acquire(key, cost, wait=wait, timeout_s=timeout_s)

    async def try_acquire_all(self, wanted: Sequence[tuple[Limit, str, int]]) -> Sequence[Decision]:
        """
        Spend from several limits, all or nothing: each as limit, key and cost.

        Raises:
            ValueError: A limit is named twice with the same key, a cost is negative, or a limit gives places.
        """
        asks = [Ask(limit.rule, key, cost) for limit, key, cost in wanted]
        if min((ask.cost for ask in asks), default=0) < 0:
            raise ValueError(NEGATIVE_COST)
        if any(ask.rule.kind == "c" and ask.cost for ask in asks):
            raise ValueError(NEEDS_HOLD)
        if len({(ask.rule.name, ask.key) for ask in asks}) != len(asks):
            raise ValueError("one limit with one key may be asked once per decision; add the costs up")
        if not asks:
            return []
        decisions = self.engine.decider.at_once(asks)
        return await self.engine.decider.decide(asks) if decisions is None else decisions

    async def acquire_all(self, wanted: Sequence[tuple[Limit, str, int]]) -> Sequence[Decision]:
        """
        Spend from several limits, all or nothing.

        Raises:
            RateLimited: At least one does not allow it; nothing was spent.
        """
        decisions = await self.try_acquire_all(wanted)
        refusal = refusal_of([Ask(limit.rule, key, cost) for limit, key, cost in wanted], decisions)
        if refusal is not None:
            wait_us = refusal.retry_after_us
            raise RateLimited(refusal.limits, None if wait_us == NEVER else wait_us / 1_000_000)
        return decisions

    def named(self, name: str) -> Limit:
        """
        Return a declared limit.

        Raises:
            ValueError: It was not declared.
        """
        limit = self.limits.get(name)
        if limit is None:
            raise ValueError(
                f"limit {name!r} is not declared; call limiter.limit({name!r}, '100/minute') once"
            )
        return limit
