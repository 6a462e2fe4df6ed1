"""
Limits that the fleet shares, in a cluster: a script call stays in one slot, a request may need several.

All limits of one client share a slot, so most requests are one call; calls of one loop tick leave in one
write per server. A request whose limits lie in several slots (one per client and one for everybody, say)
is decided in each of them at once, and each spends what it allows: that reserves. If one refuses, what
the others have spent is given back on the same connections, so before anything that is asked here later.

What that costs: for one round trip others may be refused for what is then given back; nobody is ever let
through for it. An instance that dies in between leaves at most the cost of each of its unfinished
requests spent, until their windows are over, and their places under concurrency limits taken, until
their `ttl` is. A server that does not answer leaves it spent likewise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from silence_gateway.core.limits import Ask, Change, Changed, Decision, LimitRule, Op
from silence_gateway.core.prospect import Prospect
from silence_gateway.core.slots import slot_of
from silence_gateway.errors import StoreFault
from silence_gateway.stores.contracts import ScriptPoster
from silence_gateway.stores.limit_batch import (
    Waiting,
    deliver,
    pack_changes,
    pack_looks,
    pack_requests,
    read_changes,
    read_looks,
)
from silence_gateway.stores.limit_names import BLOCK, LimitNames
from silence_gateway.stores.limits_valkey import MAX_BATCH, RESET


class Reaching(ScriptPoster, Protocol):
    """A `ScriptPoster` over several servers."""

    def reaches(self, key: bytes) -> bool:
        """Whether whoever has *key* answers, as far as is known."""


class ClusterLimitStore:
    """
    A `LimitStore` in a cluster.

    Attributes:
        batches: Script calls made.
        decisions: Requests decided.
        spread: Those that needed more than one slot.
        given_back: Reservations given back because another limit of the request refused.
        lost: Those that could not be given back.
        on_returned: Told which keys have got something back, for others may be remembered as refused.
    """

    def __init__(self, scripts: Reaching, fleet: str, *, max_batch: int = MAX_BATCH) -> None:
        self.scripts = scripts
        self.names = LimitNames(fleet)
        self.max_batch = max_batch
        self.waiting: dict[int, list[Waiting]] = {}
        self.batches = self.decisions = self.spread = self.given_back = self.lost = 0
        self.on_returned: Callable[[Sequence[tuple[LimitRule, str]]], None] = ignore

    def reaches(self, rule: LimitRule, key: str) -> bool:
        """Whether the server that counts *key* answers, as far as is known."""
        return self.scripts.reaches(self.names.name_of(rule, key))

    def at_once(self, _asks: Sequence[Ask]) -> None:
        """Nothing can be decided without asking a server."""

    def decide(self, asks: Sequence[Ask]) -> asyncio.Future[Sequence[Decision]]:
        """Decide about one request, together with all that ask in this loop tick."""
        future: asyncio.Future[Sequence[Decision]] = asyncio.get_running_loop().create_future()
        self.decisions += 1
        slot = self.slot_of(asks[0].rule, asks[0].key)
        for ask in asks[1:]:
            if self.slot_of(ask.rule, ask.key) != slot:
                self.spread += 1
                Reservation(self, asks, future)
                return future
        self.enter(slot, asks, future)
        return future

    def enter(self, slot: int, asks: Sequence[Ask], future: asyncio.Future[Sequence[Decision]]) -> None:
        """Ask one slot at the end of this loop tick."""
        if not self.waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self.waiting.setdefault(slot, []).append((asks, future))

    def flush(self) -> None:
        """Send what waits: one call per slot, and more where that is much."""
        waiting, self.waiting = self.waiting, {}
        for asked in waiting.values():
            at = 0
            while at < len(asked):
                size, first = 0, at
                while at < len(asked) and (at == first or size + len(asked[at][0]) <= self.max_batch):
                    size += len(asked[at][0])
                    at += 1
                self.send(asked[first:at])

    def send(self, batch: list[Waiting]) -> None:
        """Send one batch as one script call."""
        self.batches += 1

        def on_answer(answer: Any) -> None:
            deliver(batch, answer)

        def on_failure(error: StoreFault) -> None:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)

        self.scripts.post(*pack_requests(batch, self.names.name_of), on_answer, on_failure)

    async def look(self, asks: Sequence[Ask]) -> Sequence[Prospect]:
        """Tell what each of *asks* would meet: one call for each, because all may lie in different slots."""
        answers = await asyncio.gather(
            *(self.scripts.run(*pack_looks([ask], self.names.name_of)) for ask in asks),
            return_exceptions=True,
        )
        prospects: list[Prospect] = []
        for ask, answer in zip(asks, answers, strict=True):
            if isinstance(answer, BaseException):
                raise answer
            prospects += read_looks([ask], answer)
        return prospects

    async def adjust(self, changes: Sequence[Change]) -> Sequence[Changed]:
        """Change what keys have spent: one call per slot."""
        by_slot: dict[int, list[int]] = {}
        for index, change in enumerate(changes):
            by_slot.setdefault(self.slot_of(change.rule, change.key), []).append(index)
        groups = list(by_slot.values())
        answers = await asyncio.gather(
            *(
                self.scripts.run(*pack_changes([changes[index] for index in group], self.names.name_of))
                for group in groups
            ),
            return_exceptions=True,
        )
        changed: dict[int, Changed] = {}
        for group, answer in zip(groups, answers, strict=True):
            if isinstance(answer, BaseException):
                raise answer
            changed.update(zip(group, read_changes(answer), strict=True))
        return [changed[index] for index in range(len(changes))]

    def give_back(self, changes: Sequence[Change]) -> None:
        """Give back reservations of one slot, now; nobody waits for it."""
        self.given_back += len(changes)

        def on_answer(_answer: Any) -> None:
            self.on_returned([(change.rule, change.key) for change in changes if change.op is Op.GIVE_BACK])

        def on_failure(_error: StoreFault) -> None:
            self.lost += len(changes)

        self.scripts.post(*pack_changes(changes, self.names.name_of), on_answer, on_failure)

    async def reset(self, rule: LimitRule, key: str) -> bool:
        """Forget what *key* has spent, and that it is blocked."""
        name = self.names.name_of(rule, key)
        return bool(await self.scripts.run(RESET, [name, name + BLOCK], []))

    def slot_of(self, rule: LimitRule, key: str) -> int:
        """Return the slot of a counter."""
        return slot_of(self.names.name_of(rule, key))


class Reservation:
    """
    One request in several slots, until all of them have answered.

    It goes on when its caller has left: what was reserved has to be given back.
    """

    __slots__ = ("answers", "asks", "future", "groups", "store", "trouble")

    def __init__(
        self, store: ClusterLimitStore, asks: Sequence[Ask], future: asyncio.Future[Sequence[Decision]]
    ) -> None:
        self.store = store
        self.asks = asks
        self.future = future
        self.groups: dict[int, list[int]] = {}
        for index, ask in enumerate(asks):
            self.groups.setdefault(store.slot_of(ask.rule, ask.key), []).append(index)
        self.answers: dict[int, Sequence[Decision]] = {}
        self.trouble: BaseException | None = None
        loop = asyncio.get_running_loop()
        for slot, indexes in self.groups.items():
            answer: asyncio.Future[Sequence[Decision]] = loop.create_future()
            answer.add_done_callback(self.listener(slot))
            store.enter(slot, [asks[index] for index in indexes], answer)

    def listener(self, slot: int) -> Callable[[asyncio.Future[Sequence[Decision]]], None]:
        """Return what hears the answer of one slot."""

        def on_done(answer: asyncio.Future[Sequence[Decision]]) -> None:
            self.trouble = answer.exception() or self.trouble
            self.answers[slot] = () if answer.exception() else answer.result()
            if len(self.answers) == len(self.groups):
                self.settle()

        return on_done

    def settle(self) -> None:
        """Everybody has answered: say so, and give back what was reserved in vain."""
        if self.trouble is not None:
            # It is decided without the store now; if it passes, what is spent is spent rightly.
            if not self.future.done():
                self.future.set_exception(self.trouble)
            return
        decisions: dict[int, Decision] = {}
        for slot, indexes in self.groups.items():
            decisions.update(zip(indexes, self.answers[slot], strict=True))
        refused = any(
            not decisions[index].allowed and not ask.rule.shadow for index, ask in enumerate(self.asks)
        )
        if refused:
            for indexes in self.groups.values():
                self.undo(indexes, decisions)
        if not self.future.done():
            self.future.set_result([decisions[index] for index in range(len(self.asks))])

    def undo(self, indexes: Sequence[int], decisions: dict[int, Decision]) -> None:
        """Give back what one slot has spent, and tell its limits as if nothing had been."""
        asks, own = [self.asks[index] for index in indexes], [decisions[index] for index in indexes]
        if any(not told.allowed and not ask.rule.shadow for ask, told in zip(asks, own, strict=True)):
            return  # it has spent nothing, because one of its own limits refused
        changes = []
        for index, (rule, key, cost, holder), told in zip(indexes, asks, own, strict=True):
            if not cost or not told.allowed:
                continue
            if rule.kind == "c":
                changes.append(Change(Op.RELEASE, rule, key, holder=holder))
            else:
                changes.append(Change(Op.GIVE_BACK, rule, key, cost, told.at_us))
            decisions[index] = told._replace(remaining=min(told.limit, told.remaining + cost))
        if changes:
            self.store.give_back(changes)


def ignore(_places: Sequence[tuple[LimitRule, str]]) -> None:
    """Nobody remembers whom it refused."""
