"""
The limiter as a library: shared rate limits for any asyncio program.

    async with RateLimiter("valkey://127.0.0.1:6379/0") as limiter:
        login = limiter.limit("login", "5/minute")
        await login.acquire("alice")            # raises RateLimited
        if not (await login.try_acquire("bob")).allowed:
            ...

Limits are declared once and are fixed from then on. All decisions of one round of the event loop travel
to the store in one trip, so make them concurrently. While the store is away each limit decides as its
`when_down` says, at once. Nothing here is specific to HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from silence_gateway.clock import Clock, SystemClock
from silence_gateway.core.limits import NEVER, Algorithm, Ask, Decision, LimitRule, WhenDown, refusal_of
from silence_gateway.core.rates import Rate, parse_rate
from silence_gateway.errors import RateLimited
from silence_gateway.stores.contracts import Store
from silence_gateway.stores.limit_contract import LimitStore
from silence_gateway.stores.limits_falling_back import FallingBackLimitStore
from silence_gateway.stores.limits_memory import MemoryLimitStore
from silence_gateway.stores.limits_valkey import ValkeyLimitStore
from silence_gateway.stores.open import open_store, scripts_of
from silence_gateway.stores.settings import StoreSettings

NEGATIVE_COST = "a cost is at least 0; use reset to give back what was spent"


class Limit:
    """
    One declared limit; made by `RateLimiter.limit`.

    Attributes:
        rule: What it counts and how.
    """

    __slots__ = ("limiter", "rule")

    def __init__(self, limiter: RateLimiter, rule: LimitRule) -> None:
        self.limiter = limiter
        self.rule = rule

    def __repr__(self) -> str:
        return f"<Limit {self.rule.name} {self.rule.algorithm.value} {self.rule.rate}>"

    async def try_acquire(self, key: str = "", cost: int = 1) -> Decision:
        """Spend *cost* for *key* if that is allowed; the decision says whether it was."""
        if cost < 0:
            raise ValueError(NEGATIVE_COST)
        return (await self.limiter.limits_store.decide((Ask(self.rule, key, cost),)))[0]

    async def acquire(self, key: str = "", cost: int = 1) -> Decision:
        """
        Spend *cost* for *key*.

        Raises:
            RateLimited: It is not allowed now; nothing was spent.
        """
        [decision] = await self.limiter.acquire_all([(self, key, cost)])
        return decision

    async def peek(self, key: str = "") -> Decision:
        """Say what *key* has left; nothing is spent."""
        return await self.try_acquire(key, 0)

    async def reset(self, key: str = "") -> bool:
        """
        Forget what *key* has spent; returns whether there was anything.

        Raises:
            StoreUnavailable: The store did not confirm it.
        """
        return await self.limiter.limits_store.reset(self.rule, key)


class RateLimiter:
    """
    Rate limits of this process, or of all that use the same store and fleet name.

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
        scripts = scripts_of(self.store)
        shared: LimitStore = (
            MemoryLimitStore(self.clock) if scripts is None else ValkeyLimitStore(scripts, fleet)
        )
        self.limits_store = FallingBackLimitStore(shared, self.store, self.clock)
        self.limits: dict[str, Limit] = {}

    async def start(self) -> None:
        """Connect; returns at once and never fails, also when the store is away."""
        if self.owns_store:
            await self.store.start()

    async def stop(self) -> None:
        """Disconnect."""
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
        when_down: str = WhenDown.LOCAL_SHARE,
    ) -> Limit:
        """
        Declare a limit, or return the one declared with the same values.

        Args:
            name: Part of every stored key; letters, digits, `_`, `.`, `-`.
            rate: As in `100/minute`, `5000/s`, `10/30s`.
            algorithm: `sliding_window` (exact) or `token_bucket` (smooth, with a burst).
            burst: Most at once, for `token_bucket`; the rate's count when None.
            when_down: `local_share`, `local_full`, `allow` or `deny`.

        Raises:
            ValueError: A value is wrong, or the name is declared with other values.
        """
        rule = LimitRule(
            name=name,
            algorithm=Algorithm(algorithm),
            rate=parse_rate(rate) if isinstance(rate, str) else rate,
            burst=burst,
            when_down=WhenDown(when_down),
        )
        known = self.limits.get(name)
        if known is None:
            known = self.limits[name] = Limit(self, rule)
        elif known.rule != rule:
            raise ValueError(f"limit {name} is declared already, as {known!r}")
        return known

    async def try_acquire(self, name: str, key: str = "", cost: int = 1) -> Decision:
        """Spend from a declared limit by its name, if that is allowed."""
        return await self.named(name).try_acquire(key, cost)

    async def acquire(self, name: str, key: str = "", cost: int = 1) -> Decision:
        """
        Spend from a declared limit by its name.

        Raises:
            RateLimited: It is not allowed now; nothing was spent.
        """
        return await self.named(name).acquire(key, cost)

    async def try_acquire_all(self, wanted: Sequence[tuple[Limit, str, int]]) -> Sequence[Decision]:
        """
        Spend from several limits, all or nothing: each as limit, key and cost.

        Raises:
            ValueError: A limit is named twice with the same key, or a cost is negative.
        """
        asks = [Ask(limit.rule, key, cost) for limit, key, cost in wanted]
        if min((ask.cost for ask in asks), default=0) < 0:
            raise ValueError(NEGATIVE_COST)
        if len({(ask.rule.name, ask.key) for ask in asks}) != len(asks):
            raise ValueError("one limit with one key may be asked once per decision; add the costs up")
        return await self.limits_store.decide(asks) if asks else []

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
