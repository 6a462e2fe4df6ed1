"""A steady load of limit decisions, each for a key of its own, and what became of every one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import NamedTuple

from silence_gateway.core.slots import slot_of
from silence_gateway.limiting.limit import Limit
from silence_gateway.stores.limit_names import LimitNames

BEAT_S = 0.02
# Uses per key: one request spends one, so that a second one, which nobody asked for, shows.
RATE = "10/hour"
FOCUSED_KEYS = 400


class Sent(NamedTuple):
    """
    One request.

    Attributes:
        begun_s: When, on the monotonic clock.
        took_s: How long its decision took.
        key: Whom it was for.
        slot: Where that is counted.
        failed: Whether it was refused or an error came out: nothing but the store can have been the reason.
        shared: Whether the store decided, and not this instance alone.
    """

    begun_s: float
    took_s: float
    key: str
    slot: int
    failed: bool
    shared: bool


class Steady:
    """
    Asks *rate* times a second, whatever comes of it, until stopped.

    Attributes:
        sent: Every request that has been decided.
        errors: What came out that should not.
    """

    def __init__(self, limit: Limit, fleet: str, rate: int, focus: Sequence[tuple[str, int]]) -> None:
        self.limit = limit
        self.names = LimitNames(fleet)
        self.rate = rate
        self.focus: Iterator[tuple[str, int]] = iter(focus)
        self.numbers = count()
        self.sent: list[Sent] = []
        self.errors: list[Exception] = []
        self.over = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Ask until `over`; returns when everybody has an answer."""
        loop = asyncio.get_running_loop()
        begin_s, asked = loop.time(), 0
        while not self.over.is_set():
            while asked < (loop.time() - begin_s) * self.rate:
                asked += 1
                task = loop.create_task(self.ask())
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)
            await asyncio.sleep(BEAT_S)
        await asyncio.gather(*self.tasks)

    def next_key(self) -> tuple[str, int]:
        """Return the next key and its slot; every second one is in focus, as long as there are any."""
        number = next(self.numbers)
        if number % 2 and (focused := next(self.focus, None)) is not None:
            return focused
        return slotted(self.names, self.limit, f"request-{number}")

    async def ask(self) -> None:
        """Make one request."""
        key, slot = self.next_key()
        failed = shared = False
        begun_s = time.monotonic()
        try:
            decision = await self.limit.try_acquire(key)
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is what this is about
            self.errors.append(exc)
            failed = True
        else:
            failed = not decision.allowed
            shared = decision.at_us >= 0
        self.sent.append(Sent(begun_s, time.monotonic() - begun_s, key, slot, failed, shared))


def slotted(names: LimitNames, limit: Limit, key: str) -> tuple[str, int]:
    """Return *key* and the slot in which *limit* counts it."""
    return key, slot_of(names.name_of(limit.rule, key))


def keys_in(limit: Limit, fleet: str, first: int, last: int, wanted: int) -> list[tuple[str, int]]:
    """Return keys whose slots are *first* to *last*; takes about 1 ms each for a hundred slots."""
    names = LimitNames(fleet)
    found: list[tuple[str, int]] = []
    for number in count():
        if len(found) == wanted:
            break
        key, slot = slotted(names, limit, f"focused-{number}")
        if first <= slot <= last:
            found.append((key, slot))
    return found


def percentile_in_windows(
    sent: Sequence[Sent], percent: float, window_s: float, middle: Callable[[list[float]], float]
) -> float:
    """Return *middle* of a percentile per window of time; one hiccup of the machine is one window."""
    windows: dict[int, list[float]] = {}
    for one in sent:
        windows.setdefault(int(one.begun_s / window_s), []).append(one.took_s)
    figures = []
    for took in windows.values():
        took.sort()
        figures.append(took[min(len(took) - 1, int(len(took) * percent / 100))])
    return middle(figures) if figures else 0.0
