"""
Window counters that the fleet shares, in Valkey or Redis, on the server's clock.

All that is asked in one loop tick travels as one script call, in a cluster as one per slot in one write
per server. Every counter lies in a slot of its own: nothing promises anything between two of them.
"""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from hashlib import blake2b
from importlib.resources import files
from typing import Any

from silence_gateway.core.slots import slot_of
from silence_gateway.errors import StoreFault, StoreUnavailable
from silence_gateway.stores.contracts import Script, ScriptPoster
from silence_gateway.stores.keys import key
from silence_gateway.stores.window_contract import Tally, WindowCount

MAX_BATCH = 256
"""Counters per script call; one takes the server 2 us, and nothing else runs meanwhile."""

MAX_NAMES = 50_000
"""Stored names remembered; making one costs 2.5 us, remembering one 0.2 us and 300 bytes."""

ADD = Script("windows_add", files("silence_gateway.stores").joinpath("scripts/windows_add.lua").read_text())


class Adding:
    """One call of `add`, until every part of it has been answered."""

    __slots__ = ("future", "left", "tallies")

    def __init__(self, size: int, future: asyncio.Future[Sequence[Tally]]) -> None:
        self.tallies: list[Tally | None] = [None] * size
        self.left = size
        self.future = future

    def hear(self, place: int, tally: Tally) -> None:
        """One counter has answered."""
        self.tallies[place] = tally
        self.left -= 1
        if not self.left and not self.future.done():
            self.future.set_result([told for told in self.tallies if told is not None])

    def fail(self, error: StoreFault) -> None:
        """One counter has not; what the others counted stays counted."""
        if not self.future.done():
            self.future.set_exception(error)


class ValkeyCounters:
    """
    `WindowCounters` in Valkey or Redis.

    Args:
        scripts: The hot lane.
        fleet: Whose counters they are.
        spread: Whether the store is a cluster, where a call must stay in one slot.

    Attributes:
        batches: Script calls made.
    """

    def __init__(self, scripts: ScriptPoster, fleet: str, *, spread: bool = False) -> None:
        self.scripts = scripts
        self.spread = spread
        self.prefix = key(fleet, "window")
        self.names: dict[tuple[str, int, str], bytes] = {}
        self.waiting: list[tuple[bytes, WindowCount, Adding, int]] = []
        self.batches = 0

    def add(self, counts: Sequence[WindowCount]) -> asyncio.Future[Sequence[Tally]]:
        """Add *counts* together with all that is added in this loop tick."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Sequence[Tally]] = loop.create_future()
        if not counts:
            future.set_result(())
            return future
        if not self.waiting:
            loop.call_soon(self.flush)
        adding = Adding(len(counts), future)
        self.waiting += [(self.name_of(count), count, adding, place) for place, count in enumerate(counts)]
        return future

    def flush(self) -> None:
        """Send what waits."""
        waiting, self.waiting = self.waiting, []
        waiting = [one for one in waiting if not one[2].future.done()]
        groups: dict[int, list[tuple[bytes, WindowCount, Adding, int]]] = {}
        if self.spread:
            for one in waiting:
                groups.setdefault(slot_of(one[0]), []).append(one)
        else:
            groups[0] = waiting
        for group in groups.values():
            for at in range(0, len(group), MAX_BATCH):
                self.send(group[at : at + MAX_BATCH])

    def send(self, batch: list[tuple[bytes, WindowCount, Adding, int]]) -> None:
        """Send one script call."""
        self.batches += 1
        args: list[bytes | int] = []
        for _, count, _, _ in batch:
            args += (count.window_us, count.hits)

        def on_answer(answer: Any) -> None:
            for index, (_, _, adding, place) in enumerate(batch):
                adding.hear(place, Tally(answer[2 * index], answer[2 * index + 1]))

        def on_failure(error: StoreFault) -> None:
            # Its callers know one kind of trouble: that nobody has answered.
            told = error if isinstance(error, StoreUnavailable) else StoreUnavailable(str(error), sent=False)
            for _, _, adding, _ in batch:
                adding.fail(told)

        self.scripts.post(ADD, [one[0] for one in batch], args, on_answer, on_failure)

    def name_of(self, count: WindowCount) -> bytes:
        """Return where a counter is: a hash, because its key may hold an address or a secret."""
        place = count[:3]
        name = self.names.get(place)
        if name is None:
            if len(self.names) >= MAX_NAMES:
                self.names.clear()
            digest = digest_of(len(count.name), count.name, count.window_us, count.key)
            name = self.names[place] = b"%b:{%b}" % (self.prefix, urlsafe_b64encode(digest)[:22])
        return name


def digest_of(*parts: str | int) -> bytes:
    """Return 16 bytes that stand for *parts*, of which the first says how long the second is."""
    text = "\0".join(map(str, parts))
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
