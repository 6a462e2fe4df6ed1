"""
Leases: uses of a hot key taken from the store several at a time, and spent here without asking again.

For limits with `lease: N`, which say that they can do with a little less than exact. What is taken
counts in the store from then on, and no instance ever holds more than N uses of a key that nobody has
asked for. So in any window K instances together let at most K x N more through than their limit lets
through without leases: what they held when the window began. Nothing is held for longer than HOLD_S and a
look: then the rest is given back, as it is when the gateway stops. Uses are lost, and only until they would
have been free again, with a process that is killed or a call that the store does not answer.

How many are taken at a time follows demand. It doubles while a key is asked for again and again within
GROW_S, halves when a lease runs out unused, and is never more than a fair part of what is left: towards
the end of a limit it is one, and the last uses are decided in the store, exactly.

Hot path: a use from a lease costs 0.7 us.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from silence_gateway.clock import Clock, Timer
from silence_gateway.core.limits import NOT_ASKED, Ask, Change, Changed, Decision, LimitRule, Op
from silence_gateway.core.prospect import Prospect
from silence_gateway.errors import StoreFault, StoreUnavailable
from silence_gateway.stores.limit_contract import LimitStore
from silence_gateway.stores.limits_lease import Lease, hold_s, let_go

GROW_S = 0.1
LOOK_EVERY_S = 0.1
KEPT_IDLE_S = 10.0
"""How long the demand for a key is remembered after nobody asked for it."""

MAX_LEASES = 10_000
"""Keys whose demand is remembered, about 400 bytes each; more are decided in the store, one by one."""

MAX_KEY_CHARS = 512
"""Longer keys get no lease, so that nobody fills the memory with them."""

CHANGES_PER_CALL = 100
LEFT_PER_TAKE = 2
"""A take is at most this part of what is left, divided by the instances: all may take at the same moment."""


class LeasingLimitStore:
    """
    A `LimitStore` over a shared one; limits without a lease go straight through.

    Args:
        shared: Where all is counted.
        clock: When to give back.
        instances: How many instances share the limits.
        up: Whether the store answers; while it does not, what is held is kept and not given back.

    Attributes:
        leased: Uses decided here.
        taken: Uses taken from the store.
        returned: Uses given back unspent, as far as they still counted.
        lost: Uses that the store did not confirm to have back.
        on_returned: Told which keys have got something back, for others may be remembered as refused.
    """

    def __init__(
        self,
        shared: LimitStore,
        clock: Clock,
        *,
        instances: Callable[[], int] = lambda: 1,
        up: Callable[[], bool] = lambda: True,
    ) -> None:
        self.shared = shared
        self.clock = clock
        self.instances = instances
        self.up = up
        self.leases: dict[tuple[str, str], Lease] = {}
        self.timer: Timer | None = None
        self.background: set[asyncio.Task[None]] = set()
        self.stopping = False
        self.leased = 0
        self.taken = 0
        self.returned = 0
        self.lost = 0
        self.on_returned: Callable[[Sequence[tuple[LimitRule, str]]], None] = lambda _places: None

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
        try:
            for index, ask in enumerate(asks):
                if ask.rule.lease and ask.cost and not refused:
                    decisions[index] = decision = await self.from_lease(ask)
                    refused = not (decision.allowed or ask.rule.shadow)
            rest = [index for index, ask in enumerate(asks) if not (ask.rule.lease and ask.cost)]
            if rest and not refused:
                answers = await self.shared.decide([asks[index] for index in rest])
                refused = any(
                    not (decision.allowed or asks[index].rule.shadow)
                    for index, decision in zip(rest, answers, strict=True)
                )
                decisions.update(zip(rest, answers, strict=True))
        except BaseException:
            self.undo(asks, decisions)
            raise
        if refused:
            self.undo(asks, decisions)
        return [
            decisions[index] if index in decisions else Decision(True, ask.rule.capacity, NOT_ASKED, 0, 0)
            for index, ask in enumerate(asks)
        ]

    async def look(self, asks: Sequence[Ask]) -> Sequence[Prospect]:
        """Tell what each of *asks* would meet: what is held here counts as left, for here it is."""
        prospects = list(await self.shared.look(asks))
        for index, (rule, key, cost, _) in enumerate(asks):
            lease = self.leases.get((rule.counter, key))
            if lease is None or not lease.held:
                continue
            left = prospects[index].remaining + lease.held
            prospects[index] = prospects[index]._replace(remaining=left)
            if cost <= left and cost <= rule.lease:
                prospects[index] = prospects[index]._replace(retry_after_us=0)
        return prospects

    def undo(self, asks: Sequence[Ask], decisions: dict[int, Decision]) -> None:
        """A request does not pass after all: return what its leased limits have spent on it."""
        for index, decision in decisions.items():
            rule, key, cost, _ = asks[index]
            if rule.lease and cost and decision.allowed:
                decisions[index] = decision._replace(remaining=decision.remaining + cost)
                self.put_back(rule, key, cost, decision.at_us)

    def put_back(self, rule: LimitRule, key: str, cost: int, at_us: int) -> None:
        """Hold what was spent for nothing; near the end of a limit others may have it at once."""
        lease = self.leases.get((rule.counter, key))
        if lease is None or self.stopping or lease.size == 1 or lease.held + cost > rule.lease:
            self.spawn(self.give_back([Change(Op.GIVE_BACK, rule, key, cost, at_us)]))
            return
        if not lease.held:
            lease.at_us, lease.due_s = at_us, self.clock.monotonic_s() + hold_s(rule)
        lease.held += cost
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
        """
        Spend from the lease of one key, and take more for it where there is not enough.

        Cancelling this while it waits for others' take loses nothing.
        """
        rule, key, cost, _ = ask
        lease = self.lease_of(rule, key)
        if lease is None or cost > rule.lease:
            [decision] = await self.shared.decide([ask])
            return decision
        if lease.held >= cost and not lease.waiting:
            self.leased += cost
            return lease.spend(cost)
        if not lease.taking:
            self.notice_demand(lease)
            if lease.size == 1:
                [decision] = await self.shared.decide([ask])
                self.notice_left(lease, decision.remaining)
                return decision
        future: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        lease.waiting.append((cost, future))
        if not lease.taking:
            lease.taking = True
            self.spawn(self.take(lease))
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and not future.exception():
                # It was answered in the moment in which its caller left.
                decision = future.result()
                if decision.allowed:
                    self.put_back(rule, key, cost, decision.at_us)
            raise

    def lease_of(self, rule: LimitRule, key: str) -> Lease | None:
        """Return the lease of *key*; None if it gets none."""
        if self.stopping:
            return None
        lease = self.leases.get((rule.counter, key))
        if lease is not None:
            lease.rule = rule
        elif len(self.leases) < MAX_LEASES and len(key) <= MAX_KEY_CHARS:
            lease = self.leases[rule.counter, key] = Lease(rule, key)
        return lease

    async def take(self, lease: Lease) -> None:
        """Take uses from the store until everybody who waits is answered."""
        fault: StoreFault = StoreUnavailable("nobody could say whether the limit allows it")
        try:
            while lease.waiting:
                self.leased += lease.serve()
                if not lease.waiting:
                    break
                rule = lease.rule
                wanted = max(lease.size, sum(cost for cost, _ in lease.waiting)) - lease.held
                [got] = await self.shared.adjust([Change(Op.TAKE, rule, lease.key, wanted)])
                self.taken += got.amount
                lease.held += got.amount
                lease.at_us, lease.reset_us = got.at_us, got.reset_us
                lease.due_s = self.clock.monotonic_s() + hold_s(rule)
                self.notice_left(lease, max(0, rule.capacity - got.used))
                self.leased += lease.serve()
                await self.trim(lease)
                if lease.waiting and (got.amount < wanted or lease.size == 1):
                    # The limit is near its end: what is left is decided exactly.
                    short, lease.waiting = lease.waiting, []
                    await asyncio.gather(*(self.exactly(lease, *waiter) for waiter in short))
        except StoreFault as exc:
            fault = exc
        finally:
            lease.taking = False
            failed, lease.waiting = lease.waiting, []
            for _, future in failed:
                if not future.done():
                    future.set_exception(fault)
            self.look_later()

    async def trim(self, lease: Lease) -> None:
        """Give back what nobody waits for any more: what is too much to hold, near the end all of it."""
        too_much = lease.held - (lease.rule.lease if lease.size > 1 else 0)
        if too_much > 0:
            lease.held -= too_much
            await self.give_back([Change(Op.GIVE_BACK, lease.rule, lease.key, too_much, lease.at_us)])

    async def exactly(self, lease: Lease, cost: int, future: asyncio.Future[Decision]) -> None:
        """Answer one who waits as the store decides."""
        if future.done():
            return
        try:
            [decision] = await self.shared.decide([Ask(lease.rule, lease.key, cost)])
        except StoreFault as exc:
            if not future.done():
                future.set_exception(exc)
            return
        self.notice_left(lease, decision.remaining)
        if not future.done():
            future.set_result(decision)
        elif decision.allowed:
            self.put_back(lease.rule, lease.key, cost, decision.at_us)

    # -- how much at a time ---------------------------------------------------------------------------

    def notice_demand(self, lease: Lease) -> None:
        """Somebody asks, and there is not enough: take more at a time if that comes often."""
        now_s = self.clock.monotonic_s()
        if now_s - lease.seen_s < GROW_S:
            lease.size = min(self.most(lease), lease.size * 2)
        lease.seen_s = now_s
        self.look_later()

    def notice_left(self, lease: Lease, left: int) -> None:
        """The store had *left* uses left: near the end of a limit nothing is held back from others."""
        lease.left = left
        lease.size = min(lease.size, self.most(lease))

    def most(self, lease: Lease) -> int:
        """Return how many may be taken at a time."""
        fair = lease.left // (LEFT_PER_TAKE * max(1, self.instances()))
        return max(1, min(lease.rule.lease, fair))

    # -- giving back ----------------------------------------------------------------------------------

    def look_later(self) -> None:
        """Look in a moment whether something is due."""
        if self.timer is None and not self.stopping:
            self.timer = self.clock.call_later(LOOK_EVERY_S, self.look_through)

    def look_through(self) -> None:
        """Give back what has been held for too long, and forget keys that nobody asks for."""
        self.timer = None
        now_s = self.clock.monotonic_s()
        due = []
        for place, lease in list(self.leases.items()):
            if lease.held:
                if lease.due_s <= now_s:
                    due.append(lease)
            elif not lease.taking and now_s - lease.seen_s > KEPT_IDLE_S:
                del self.leases[place]
        if due and self.up():
            for lease in due:
                lease.size = max(1, lease.size // 2)
            self.spawn(self.give_back(let_go(due)))
        if self.leases:
            self.look_later()

    async def give_back(self, changes: Sequence[Change]) -> None:
        """Return uses to the store; if it does not hear, they run out with their window."""
        for at in range(0, len(changes), CHANGES_PER_CALL):
            part = changes[at : at + CHANGES_PER_CALL]
            try:
                done = await self.shared.adjust(part)
            except StoreFault:
                self.lost += sum(change.amount for change in part)
                continue
            self.returned += sum(one.amount for one in done)
            self.on_returned(
                [(change.rule, change.key) for change, one in zip(part, done, strict=True) if one.amount]
            )

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run *work* in the background."""
        task = asyncio.get_running_loop().create_task(work)
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    async def stop(self) -> None:
        """Give back everything and end; whoever asks from now on is answered by the store."""
        self.stopping = True
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        while self.background:
            await asyncio.gather(*self.background, return_exceptions=True)
        await self.give_back(let_go([lease for lease in self.leases.values() if lease.held]))
        self.leases.clear()
