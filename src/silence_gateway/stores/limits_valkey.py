"""
Limits that the fleet shares, in Valkey or Redis: decisions of one loop tick travel as one script call.

The decisions themselves are made by the scripts in `scripts/limits/`, on the server's clock. For one
server; in a cluster, where a script call must stay in one slot, see `limits_cluster.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from silence_gateway.core.limits import Ask, Change, Changed, Decision, LimitRule
from silence_gateway.core.prospect import Prospect
from silence_gateway.errors import StoreFault
from silence_gateway.stores.contracts import Script, ScriptPoster
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

MAX_BATCH = 128
"""Asks per script call at most; a call then takes the server about 1 ms, and nothing else runs meanwhile."""

IN_FLIGHT = 2
MIN_PART = 4
"""A batch leaves in parts, one per round of the loop, until so many are on their way: the server decides
one while we pack the next and hear of the last, and neither ever waits for the other. But no part is
smaller than this, because every one costs both sides a system call or two (20 us)."""


def read_script(name: str) -> Script:
    """Return a script of this package."""
    return Script(name, files("silence_gateway.stores").joinpath(f"scripts/{name}.lua").read_text())


RESET = read_script("limit_reset")


class ValkeyLimitStore:
    """
    A `LimitStore` in Valkey or Redis.

    Attributes:
        batches: Script calls made.
        decisions: Requests decided by them; over `batches`, how well batching works.
    """

    def __init__(self, scripts: ScriptPoster, fleet: str, *, max_batch: int = MAX_BATCH) -> None:
        self.scripts = scripts
        self.names = LimitNames(fleet)
        self.max_batch = max_batch
        self.waiting: list[Waiting] = []
        self.in_flight = 0
        self.batches = 0
        self.decisions = 0

    def reaches(self, _rule: LimitRule, _key: str) -> bool:
        """There is one server: whether it answers, the store knows."""
        return True

    def at_once(self, _asks: Sequence[Ask]) -> None:
        """Nothing can be decided without asking the server."""

    def decide(self, asks: Sequence[Ask]) -> asyncio.Future[Sequence[Decision]]:
        """Decide about one request, together with all that ask in this loop tick."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Sequence[Decision]] = loop.create_future()
        if not self.waiting:
            loop.call_soon(self.flush)
        self.waiting.append((asks, future))
        return future

    async def look(self, asks: Sequence[Ask]) -> Sequence[Prospect]:
        """Tell what each of *asks* would meet: one trip."""
        return read_looks(asks, await self.scripts.run(*pack_looks(asks, self.names.name_of)))

    async def adjust(self, changes: Sequence[Change]) -> Sequence[Changed]:
        """Change what keys have spent."""
        return read_changes(await self.scripts.run(*pack_changes(changes, self.names.name_of)))

    async def reset(self, rule: LimitRule, key: str) -> bool:
        """Forget what *key* has spent, and that it is blocked."""
        name = self.names.name_of(rule, key)
        return bool(await self.scripts.run(RESET, [name, name + BLOCK], []))

    def flush(self) -> None:
        """Send what waits, or a part of it if that is much; the rest goes in the next rounds of the loop."""
        # Who has left before anything was sent has spent nothing, and holds no place.
        waiting = [one for one in self.waiting if not one[1].done()]
        self.waiting = []
        if not waiting:
            return
        room = IN_FLIGHT - self.in_flight
        part = min(self.max_batch, max(MIN_PART, -(-len(waiting) // max(1, room))))
        size = at = 0
        for asks, _ in waiting:
            size += len(asks)
            if at and size > part:
                break
            at += 1
        if at < len(waiting):
            self.waiting = waiting[at:]
            asyncio.get_running_loop().call_soon(self.flush)
        self.send(waiting[:at])

    def send(self, batch: list[Waiting]) -> None:
        """Send one batch as one script call."""
        self.batches += 1
        self.decisions += len(batch)
        script, keys, args = pack_requests(batch, self.names.name_of)
        self.in_flight += 1

        def on_answer(answer: Any) -> None:
            self.in_flight -= 1
            deliver(batch, answer)

        def on_failure(error: StoreFault) -> None:
            self.in_flight -= 1
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)

        self.scripts.post(script, keys, args, on_answer, on_failure)
