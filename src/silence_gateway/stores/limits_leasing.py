"""
Leases: uses of a hot key taken from the store several at a time, and spent here without asking again.

For limits with `lease: N`, which say that they can do with a little less than exact. What is taken
counts in the store from then on, so no instance ever holds more than N uses per key that others may
miss, and none for longer than HOLD_S: then the rest is given back, as it is when the gateway stops. In
any window, K instances together let at most K x N more through than the limit.

How many are taken at a time follows demand. It doubles while a key is asked for again and again within
GROW_S, halves when a lease runs out unused, and near the end of a limit it is one: the last uses are
decided in the store, exactly.

Hot path: a use from a lease costs 1 us.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from silence_gateway.clock import Clock, Timer
from silence_gateway.core.limits import NOT_ASKED, Ask, Change, Changed, Decision, LimitRule, Op
from silence_gateway.errors import StoreFault
from silence_gateway.stores.limit_contract import LimitStore

HOLD_S = 1.0
"""How long uses may be held; of a short window never more than a tenth."""

GROW_S = 0.1
LOOK_EVERY_S = 0.1
KEPT_IDLE_S = 10.0
"""How long the demand for a key is remembered after nobody asked for it."""


class Lease:
    """What this instance holds of one key, and who waits for more."""

    __slots__ = (
        "at_us",
        "due_s",
        "held",
        "key",
        "left",
        "reset_us",
        "rule",
        "seen_s",
        "size",
        "taking",
        "waiting",
    )

    def __init__(self, rule: LimitRule, key: str) -> None:
        self.rule = rule
        self.key = key
        self.size = 1
        self.held = 0
        self.at_us = 0
        self.due_s = 0.0  # when what is held must be given back
        self.seen_s = 0.0  # when the store was asked last
        self.left = 0  # what the store had left then
        self.reset_us = 0
        self.taking = False
        self.waiting: list[tuple[int, asyncio.Future[Decision]]] = []

    def spend(self, cost: int) -> Decision:
        """Spend from what is held, which is enough."""
        self.held -= cost
        return Decision(True, self.rule.capacity, self.left + self.held, 0, self.reset_us, self.at_us)


class LeasingLimitStore:
    """
    A `LimitStore` over a shared one; limits without a lease go straight through.

    Attributes:
        leased: Uses decided here.
        taken: Uses taken from the store.
        returned: Uses given back unspent.
    """

    def __init__(self, shared: LimitStore, clock: Clock, instances: Callable[[], int] = lambda: 1) -> None:
        self.shared = shared
        self.clock = clock
        self.instances = instances
        self.leases: dict[tuple[str, str], Lease] = {}
        self.timer: Timer | None = None
        self.background: set[asyncio.Task[None]] = set()
        self.stopping = False
        self.leased = 0
        self.taken = 0
        self.returned = 0

    def reaches(self, rule: LimitRule, key: str) -> bool:
        """Whether whoever counts *key* answers."""
        return self.shared.reaches(rule, key)

    def at_once(self, asks: Sequence[Ask]) -> Sequence[Decision] | None:
        """Decide from what is held here, if that is enough for all that is asked."""
        if len(asks) != 1:
            return None
        rule, key, cost, _ = asks[0]
        if not rule.lease:
            return None
        lease = self.leases.get((rule.counter, key))
        if lease is None or lease.held < cost or not cost:
            return None
        self.leased += cost
        return (lease.spend(cost),)

    def decide(self, asks: Sequence[Ask]) -> Awaitable[Sequence[Decision]]:
        """Decide about one request, from leases where limits have them and in the store else."""
        for ask in asks:
            if ask[0].lease and ask[2]:
                return self.decide_leased(asks)
        return self.shared.decide(asks)

    async def decide_leased(self, asks: Sequence[Ask]) -> Sequence[Decision]:
        """Spend from leases first, then ask the store for the rest; all or nothing as ever."""
        decisions: dict[int, Decision] = {}
        refused = False
        for index, ask in enumerate(asks):
            if not ask.rule.lease or not ask.cost:
                continue
            decision = await self.from_lease(ask)
            decisions[index] = decision
            refused = refused or not (decision.allowed or ask.rule.shadow)
        rest = [(index, ask) for index, ask in enumerate(asks) if index not in decisions]
        if refused:
            for index, ask in rest:
                decisions[index] = Decision(True, ask.rule.capacity, NOT_ASKED, 0, 0)
        elif rest:
            try:
                answers = await self.shared.decide([ask for _, ask in rest])
            except BaseException:
                self.put_back(asks, decisions)
                raise
            for (index, ask), decision in zip(rest, answers, strict=True):
                decisions[index] = decision
                refused = refused or not (decision.allowed or ask.rule.shadow)
        if refused:
            self.put_back(asks, decisions)
        return [decisions[index] for index in range(len(asks))]

    def put_back(self, asks: Sequence[Ask], decisions: dict[int, Decision]) -> None:
        """A request that others refused returns what it took, and to the store what is too much."""
        too_much = []
        for index, (rule, key, cost, _) in enumerate(asks):
            decision = decisions.get(index)
            if not rule.lease or not cost or decision is None or not decision.allowed:
                continue
            lease = self.leases[rule.counter, key]
            if not lease.held:
                lease.at_us, lease.due_s = decision.at_us, self.clock.monotonic_s() + hold_s(rule)
            lease.held += cost
            if lease.held > rule.lease:
                too_much.append(lease)
        if too_much:
            self.spawn(self.give_back(too_much))
        self.look_later()

    async def adjust(self, changes: Sequence[Change]) -> Sequence[Changed]:
        """Change what keys have spent; what is given back goes to the store, where others may have it."""
        return await self.shared.adjust(changes)

    async def reset(self, rule: LimitRule, key: str) -> bool:
        """Forget what *key* has spent, and what is held of it."""
        lease = self.leases.get((rule.counter, key))
        held = 0
        if lease is not None:
            held, lease.held = lease.held, 0
        return await self.shared.reset(rule, key) or held > 0

    # -- taking ---------------------------------------------------------------------------------------

    async def from_lease(self, ask: Ask) -> Decision:
        """Spend from the lease of one key, and take more for it where there is not enough."""
        rule, key, cost, _ = ask
        lease = self.leases.get((rule.counter, key))
        if lease is None:
            lease = self.leases[rule.counter, key] = Lease(rule, key)
        lease.rule = rule
        if lease.held >= cost and not lease.waiting:
            self.leased += cost
            return lease.spend(cost)
        if not lease.taking:
            self.notice_demand(lease)
            if lease.size == 1:
                [decision] = await self.shared.decide([ask])
                self.notice(lease, decision.remaining)
                return decision
        future: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        lease.waiting.append((cost, future))
        if not lease.taking:
            lease.taking = True
            self.spawn(self.take(lease))
        return await future

    async def take(self, lease: Lease) -> None:
        """Take uses from the store until everybody who waits is answered."""
        try:
            while lease.waiting:
                wanted = max(lease.size, sum(cost for cost, future in lease.waiting if not future.done()))
                [got] = await self.shared.adjust([Change(Op.TAKE, lease.rule, lease.key, wanted)])
                self.taken += got.amount
                lease.held += got.amount
                lease.at_us, lease.reset_us = got.at_us, got.reset_us
                lease.due_s = self.clock.monotonic_s() + hold_s(lease.rule)
                self.notice(lease, max(0, lease.rule.capacity - got.used))
                served, lease.waiting = lease.waiting, []
                short = [waiter for waiter in served if not self.serve(lease, *waiter)]
                if short:
                    # The limit is near its end: what is left is decided exactly.
                    await asyncio.gather(*(self.exactly(lease, *waiter) for waiter in short))
            self.look_later()
        except StoreFault as exc:
            for _, future in lease.waiting:
                if not future.done():
                    future.set_exception(exc)
            lease.waiting.clear()
        finally:
            lease.taking = False

    def serve(self, lease: Lease, cost: int, future: asyncio.Future[Decision]) -> bool:
        """Answer one who waits from what is held; False if that is not enough."""
        if future.done():
            return True
        if lease.held < cost:
            return False
        self.leased += cost
        future.set_result(lease.spend(cost))
        return True

    async def exactly(self, lease: Lease, cost: int, future: asyncio.Future[Decision]) -> None:
        """Answer one who waits as the store decides."""
        try:
            [decision] = await self.shared.decide([Ask(lease.rule, lease.key, cost)])
        except StoreFault as exc:
            if not future.done():
                future.set_exception(exc)
            return
        self.notice(lease, decision.remaining)
        if not future.done():
            future.set_result(decision)

    # -- how much at a time ---------------------------------------------------------------------------

    def notice_demand(self, lease: Lease) -> None:
        """Somebody asks, and there is nothing left: take more at a time if that comes often."""
        now_s = self.clock.monotonic_s()
        if now_s - lease.seen_s < GROW_S:
            lease.size = min(lease.rule.lease, lease.size * 2)
        lease.seen_s = now_s
        self.look_later()

    def notice(self, lease: Lease, left: int) -> None:
        """The store had *left* uses left: near the end of a limit nothing is held back from others."""
        lease.left = left
        if left < 2 * lease.rule.lease * max(1, self.instances()):
            lease.size = 1

    # -- giving back ----------------------------------------------------------------------------------

    def look_later(self) -> None:
        """Look in a moment whether something is due."""
        if self.timer is None and not self.stopping:
            self.timer = self.clock.call_later(LOOK_EVERY_S, self.look)

    def look(self) -> None:
        """Give back what has been held for too long, and forget keys that nobody asks for."""
        self.timer = None
        now_s = self.clock.monotonic_s()
        due = [lease for lease in self.leases.values() if lease.held and lease.due_s <= now_s]
        for lease in due:
            lease.size = max(1, lease.size // 2)
        for place, lease in list(self.leases.items()):
            if not lease.held and not lease.taking and now_s - lease.seen_s > KEPT_IDLE_S:
                del self.leases[place]
        if due:
            self.spawn(self.give_back(due))
        if self.leases:
            self.look_later()

    async def give_back(self, leases: Sequence[Lease]) -> None:
        """Return what is held to the store; if it does not hear, that runs out with its window."""
        changes = []
        for lease in leases:
            held, lease.held = lease.held, 0
            changes.append(Change(Op.GIVE_BACK, lease.rule, lease.key, held, lease.at_us))
        try:
            done = await self.shared.adjust(changes)
        except StoreFault:
            return
        self.returned += sum(one.amount for one in done)

    def spawn(self, work: Awaitable[None]) -> None:
        """Run *work* in the background."""
        task = asyncio.ensure_future(work)
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    async def stop(self) -> None:
        """Give back everything and end."""
        self.stopping = True
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        await asyncio.gather(*self.background, return_exceptions=True)
        held = [lease for lease in self.leases.values() if lease.held]
        if held:
            await self.give_back(held)
        self.leases.clear()


def hold_s(rule: LimitRule) -> float:
    """Return how long uses of a limit may be held, in seconds."""
    return min(HOLD_S, rule.window_us / 10_000_000)
