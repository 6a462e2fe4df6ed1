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
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import NoneType
from typing import Self

from silence_gateway.clock import Clock, SystemClock
from silence_gateway.core.limits import (
    Algorithm,
    Alignment,
    Ask,
    Decision,
    LimitRule,
    WhenDown,
    refusal_of,
)
from silence_gateway.core.rates import Rate, parse_rate
from silence_gateway.limiting.assembly import limit_engine
from silence_gateway.limiting.checks import check_ask, check_type
from silence_gateway.limiting.limit import NEEDS_HOLD, NEGATIVE_COST, Limit
from silence_gateway.limiting.limit_refused import LimitRefused
from silence_gateway.stores.contracts import Store
from silence_gateway.stores.memory import MemoryStore
from silence_gateway.stores.open import open_store
from silence_gateway.stores.settings import StoreSettings

OTHER_LOOP = (
    "this RateLimiter was started in another event loop, and its connections belong there; give each loop a "
    "limiter of its own (in tests: let the app's lifespan start and stop it, `with TestClient(app)`)"
)


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
        self.fleet = fleet
        self.owns_store = isinstance(store, str)
        self.settings = StoreSettings(url=store) if isinstance(store, str) else None
        self.store: Store = (
            open_store(StoreSettings(url=store), fleet, clock=self.clock) if isinstance(store, str) else store
        )
        self.engine = limit_engine(self.store, fleet, self.clock)
        self.limits: dict[str, Limit] = {}
        self.loop: asyncio.AbstractEventLoop | None = None
        self.starts = 0
        self.used = False

    async def start(self) -> None:
        """
        Connect; returns at once and never fails, also when the store is away.

        Started again while it runs, it goes on until it was stopped as often.
        """
        self.starts += 1
        if self.starts > 1:
            return
        self.loop = asyncio.get_running_loop()
        if self.used and self.settings is not None and not isinstance(self.store, MemoryStore):
            self.renew(self.settings)
        self.used = True
        if self.owns_store:
            await self.store.start()
        self.engine.start()

    async def stop(self) -> None:
        """Give back what is held, and disconnect; harmless when it does not run."""
        if self.starts != 1:
            self.starts = max(0, self.starts - 1)
            return
        self.starts = 0
        self.loop = None
        await self.engine.stop()
        if self.owns_store:
            await self.store.stop()

    def renew(self, settings: StoreSettings) -> None:
        """Make new connections, because closed ones stay closed; what was declared stays."""
        settled_later = self.engine.decider.undoable
        self.store = open_store(settings, self.fleet, clock=self.clock)
        self.engine = limit_engine(self.store, self.fleet, self.clock)
        self.engine.decider.undoable |= settled_later
        for limit in self.limits.values():
            limit.decider = self.engine.decider

    async def be_started(self) -> None:
        """
        Start unless it runs: for those whom nobody tells when their program begins.

        A limiter that counts in this process follows them into another event loop when its own is closed,
        as happens in tests.

        Raises:
            RuntimeError: It belongs to another event loop.
        """
        loop = asyncio.get_running_loop()
        if self.loop is None:
            await self.start()
        elif self.loop is not loop:
            if not self.loop.is_closed() or not isinstance(self.store, MemoryStore):
                raise RuntimeError(OTHER_LOOP)
            self.engine.holds.timer = None
            self.loop = loop

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
            TypeError: A value is of another type; the text says which.
            ValueError: A value is wrong, or the name is declared with other values.
        """
        check_type("a name", name, str, "a str")
        check_type("a rate", rate, (str, Rate), "a str, as in '100/minute'")
        check_type("a burst", burst, (int, NoneType), "an int or None")
        check_type("block_for_s", block_for_s, (int, float), "a number of seconds")
        check_type("a lease", lease, int, "an int")
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
            TypeError: As for `limit`.
            ValueError: As for `limit`.
        """
        check_type("a name", name, str, "a str")
        check_type("most", most, int, "an int")
        check_type("ttl_s", ttl_s, (int, float), "a number of seconds")
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
            TypeError: What is named is no limit, a key no str, or a cost no int.
            ValueError: A limit is named twice with the same key, a cost is negative, or a limit gives places.
        """
        for limit, key, cost in wanted:
            check_type("a limit", limit, Limit, "what limiter.limit(...) returned")
            check_ask(key, cost)
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
            TypeError: As for `try_acquire_all`.
            ValueError: As for `try_acquire_all`.
        """
        decisions = await self.try_acquire_all(wanted)
        refusal = refusal_of([Ask(limit.rule, key, cost) for limit, key, cost in wanted], decisions)
        if refusal is not None:
            decided = [(limit.rule, told) for (limit, _, _), told in zip(wanted, decisions, strict=True)]
            raise LimitRefused(refusal.limits, refusal.retry_after_us, decided)
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
