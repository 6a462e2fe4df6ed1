"""One fault under steady load, measured."""

from __future__ import annotations

import asyncio
import os
import statistics
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from tests.stores.faults.steady import FOCUSED_KEYS, RATE, Sent, Steady, keys_in, percentile_in_windows
from tests.stores.faults.table import Fault, Ground, nothing

from silence_gateway.events import Event, StoreFound, StoreLost
from silence_gateway.limiting.rate_limiter import RateLimiter
from silence_gateway.stores.client import Wire
from silence_gateway.stores.settings import StoreSettings
from silence_gateway.stores.url import Node
from silence_gateway.stores.valkey import ValkeyStore
from silence_gateway.testing.valkey import fresh_fleet

WARM_S = 0.5
OPENS_WITHIN_S = 5.0
RECOVERS_WITHIN_S = 15.0
SETTLE_S = 0.5
WINDOW_S = 0.25
LOOK_S = 0.01
# Between a turn that was given and the connection that is begun then.
LATE_S = 0.2


@dataclass
class Figures:
    """
    What one fault cost.

    Attributes:
        requests: Made while it lasted, before and after.
        failed: Of them, refused or ended with an error.
        errors: Those.
        worst_before_s: The longest decision begun before the breaker opened, or while the fault lasted.
        opened_s: From the fault to the open breaker; None if it stayed shut.
        after_s: The 99th percentile of decisions while it was open; the median of that over windows.
        recovered_s: From health to the first decision of the store.
        gap_s: From the fault to that.
        twice: Increments in the store beyond one per request.
        reconnects: The most connections begun to one server within one second.
        elsewhere: Decisions about keys of other shards while the fault lasted.
        elsewhere_local: Of them, decided without the store.
        elsewhere_worst_s: The longest of them.
        decided_locally: Decisions without the store, over all.
        lost_said: Why the store was given up, as the log says.
    """

    requests: int = 0
    failed: int = 0
    errors: list[str] = field(default_factory=list)
    worst_before_s: float = 0.0
    opened_s: float | None = None
    after_s: float | None = None
    recovered_s: float = 0.0
    gap_s: float = 0.0
    twice: int = 0
    reconnects: int = 0
    elsewhere: int = 0
    elsewhere_local: int = 0
    elsewhere_worst_s: float = 0.0
    decided_locally: int = 0
    lost_said: list[str] = field(default_factory=list)


@dataclass
class Dialled:
    """Every connection that a store begins."""

    store: ValkeyStore
    begun: list[tuple[float, Node]] = field(default_factory=list)

    def __post_init__(self) -> None:
        real = self.store.dialer.open

        async def counted(node: Node, lane: str, *, primary: bool = False) -> Wire:
            self.begun.append((time.monotonic(), node))
            return await real(node, lane, primary=primary)

        self.store.dialer.open = counted  # type: ignore[method-assign] # counts, and does what it did

    def most_in_a_second(self, since_s: float) -> int:
        """
        Return the most that were begun to one server within any second.

        Less what a busy loop may be late with one and not with the next.
        """
        most = 0
        for node in {node for _, node in self.begun}:
            times = sorted(at_s for at_s, other in self.begun if other == node and at_s >= since_s)
            for index, at_s in enumerate(times):
                most = max(most, sum(1 for later_s in times[index:] if later_s < at_s + 1.0 - LATE_S))
        return most


class Stalls:
    """
    When the loop stood still because the machine did not let this process run.

    Found by a sleep that lasts longer than it was asked for. No more of that is left out than the kernel says
    that a thread was ready and had no CPU: the loop's, or one of the fault's that had the GIL then. So a call
    that blocks on the loop is not left out, nor is one that computes for long.
    """

    def __init__(self) -> None:
        self.found: list[tuple[float, float, float]] = []

    async def watch(self) -> None:
        """Look for them for ever."""
        while True:
            began_s, before = time.monotonic(), Waited.now()
            await asyncio.sleep(LOOK_S)
            ended_s = time.monotonic()
            late_s = ended_s - began_s - LOOK_S
            if late_s > LOOK_S:
                lost_s = min(late_s, Waited.now().since_s(before))
                self.found.append((began_s, ended_s, lost_s))

    def without(self, one: Sent) -> float:
        """Return how long *one* took but for them."""
        ended_s = one.begun_s + one.took_s
        lost_s = sum(lost for began, ended, lost in self.found if began < ended_s and one.begun_s < ended)
        return max(0.0, one.took_s - lost_s)


@dataclass
class Waited:
    """
    How long this process had to wait for a CPU, ever. Where the kernel does not say so, it never had to.

    Attributes:
        threads: By thread, in seconds.
        stolen_s: How long the machine itself had none, because it is a guest of another.
    """

    threads: dict[int, float]
    stolen_s: float

    @classmethod
    def now(cls) -> Self:
        """Ask the kernel."""
        threads: dict[int, float] = {}
        stolen_s = 0.0
        with suppress(OSError):
            for task in Path("/proc/self/task").iterdir():
                with suppress(OSError):  # a thread that has just ended
                    threads[int(task.name)] = int((task / "schedstat").read_bytes().split()[1]) / 1e9
            with Path("/proc/stat").open("rb") as file:
                stolen_s = int(file.readline().split()[8]) / os.sysconf("SC_CLK_TCK")
        return cls(threads, stolen_s)

    def since_s(self, before: Self) -> float:
        """Return how long the calling thread waited since *before*, at most: for a CPU, or for the GIL."""
        more = {task: all_s - before.threads.get(task, 0.0) for task, all_s in self.threads.items()}
        own_s = more.pop(threading.get_native_id(), 0.0)
        return own_s + max(more.values(), default=0.0) + self.stolen_s - before.stolen_s


async def run_fault(fault: Fault[Any], *, deadline_s: float, hold_s: float, rate: int) -> Figures:
    """
    Run one fault on ground of its own.

    Args:
        fault: The row.
        deadline_s: `store.deadline`.
        hold_s: How long the fault lasts once the breaker is open, or in all where it does not open.
        rate: Requests per second.

    Raises:
        AssertionError: The breaker did not open, or the store was not used again.
    """
    ground = await asyncio.to_thread(fault.ground)
    try:
        return await Run(fault, ground, deadline_s=deadline_s, hold_s=hold_s, rate=rate).measure()
    finally:
        await asyncio.to_thread(ground.close)


class Run:
    """One fault, from a healthy store to a healthy store."""

    def __init__(
        self, fault: Fault[Any], ground: Ground, *, deadline_s: float, hold_s: float, rate: int
    ) -> None:
        self.fault = fault
        self.ground = ground
        self.hold_s = hold_s
        self.rate = rate
        self.fleet = fresh_fleet()
        self.settings = ground.settings(deadline_s)
        self.lost: list[tuple[float, str]] = []
        self.found: list[float] = []
        self.begun_s = self.ended_s = self.healthy_s = 0.0
        self.figures = Figures()
        self.stalls = Stalls()

    def heard(self, event: Event) -> None:
        """Note when the breaker opened, and closed."""
        if isinstance(event, StoreLost):
            self.lost.append((time.monotonic(), event.reason))
        elif isinstance(event, StoreFound):
            self.found.append(time.monotonic())

    async def measure(self) -> Figures:
        """Do it."""
        store = ValkeyStore(self.settings, self.fleet, clock=self.ground.clock, observer=self.heard)
        dialled = Dialled(store)
        await store.start()
        try:
            async with RateLimiter(store, fleet=self.fleet, clock=self.ground.clock) as limiter:
                limit = limiter.limit("steady", RATE)
                focus = self.fault.focus
                focused = (
                    await asyncio.to_thread(keys_in, limit, self.fleet, *focus, FOCUSED_KEYS) if focus else []
                )
                steady = Steady(limit, self.fleet, self.rate, focused)
                loading = asyncio.create_task(steady.run())
                watching = asyncio.create_task(self.stalls.watch())
                try:
                    await self.break_and_mend(store, steady)
                finally:
                    watching.cancel()
                    steady.over.set()
                    await loading
            self.read_off(steady, dialled)
        finally:
            await store.stop()
        self.figures.twice = await self.counted_twice(self.settings, steady.sent)
        return self.figures

    async def break_and_mend(self, store: ValkeyStore, steady: Steady) -> None:
        """Let the fault happen, and wait until the store is used again."""
        fault, ground = self.fault, self.ground
        await until(lambda: all(shard.up for shard in store.shards) and store.up, 5.0, "the store is up")
        await asyncio.sleep(WARM_S)
        slots = await asyncio.to_thread(fault.slots, ground)
        self.slots = slots
        over = threading.Event()
        self.lost.clear()
        self.begun_s = time.monotonic()
        meanwhile: asyncio.Task[None] | None = None
        if fault.meanwhile is not None:
            meanwhile = asyncio.create_task(asyncio.to_thread(fault.meanwhile, ground, over))
        try:
            await asyncio.to_thread(fault.begin, ground)
            if fault.opens:
                await until(lambda: bool(self.lost), OPENS_WITHIN_S, "the breaker opens")
            if fault.end is not nothing or fault.healthy is nothing:
                await asyncio.sleep(self.hold_s)
        finally:
            over.set()
            if meanwhile is not None:
                await meanwhile
        self.ended_s = time.monotonic()
        await asyncio.to_thread(fault.end, ground)
        await asyncio.to_thread(fault.healthy, ground)
        self.healthy_s = time.monotonic()
        await until(
            lambda: any(
                one.shared and one.begun_s >= self.healthy_s and self.hit(one) for one in steady.sent
            ),
            RECOVERS_WITHIN_S,
            "the store is used again",
        )
        await until(lambda: all(shard.up for shard in store.shards), RECOVERS_WITHIN_S, "all of it")
        await asyncio.sleep(SETTLE_S)

    def hit(self, one: Sent) -> bool:
        """Whether a request was for what is broken."""
        return not self.slots or any(first <= one.slot <= last for first, last in self.slots)

    def open_at(self, at_s: float) -> bool:
        """Whether the breaker was open then."""
        opened_s = max((lost_s for lost_s, _ in self.lost if lost_s <= at_s), default=None)
        return opened_s is not None and not any(opened_s < found_s <= at_s for found_s in self.found)

    def read_off(self, steady: Steady, dialled: Dialled) -> None:
        """Work out the figures."""
        figures, sent = self.figures, steady.sent
        figures.requests = len(sent)
        figures.failed = sum(one.failed for one in sent)
        figures.errors = [repr(error) for error in steady.errors]
        figures.decided_locally = sum(not one.shared for one in sent)
        figures.lost_said = [reason for _, reason in self.lost]
        opened_s = self.lost[0][0] if self.lost else None
        hit = [one for one in sent if self.hit(one)]
        took_s = self.stalls.without
        before = [took_s(one) for one in hit if self.begun_s <= one.begun_s < (opened_s or self.ended_s)]
        figures.worst_before_s = max(before, default=0.0)
        if opened_s is not None:
            figures.opened_s = opened_s - self.begun_s
            # Of a cluster only a part may be away, and what the rest decides is not the breaker's doing.
            away = [one for one in hit if not one.shared and one.begun_s < self.healthy_s]
            after = [one for one in away if self.open_at(one.begun_s)]
            figures.after_s = percentile_in_windows(after, 99, WINDOW_S, statistics.median)
        back_s = min(one.begun_s + one.took_s for one in hit if one.shared and one.begun_s >= self.healthy_s)
        figures.recovered_s = back_s - self.healthy_s
        figures.gap_s = back_s - self.begun_s
        figures.reconnects = dialled.most_in_a_second(self.begun_s)
        others = [one for one in sent if not self.hit(one) and self.begun_s <= one.begun_s < self.healthy_s]
        figures.elsewhere = len(others)
        figures.elsewhere_local = sum(not one.shared for one in others)
        figures.elsewhere_worst_s = max(map(took_s, others), default=0.0)

    async def counted_twice(self, settings: StoreSettings, sent: Sequence[Sent]) -> int:
        """Return how many increments the store has beyond one per request; nobody disturbs it now."""
        patient = StoreSettings(url=settings.url, password_file=settings.password_file, deadline_s=5.0)
        store = ValkeyStore(patient, self.fleet)
        await store.start()
        beyond = 0
        try:
            await until(lambda: all(shard.up for shard in store.shards), 10.0, "the store is up")
            async with RateLimiter(store, fleet=self.fleet) as limiter:
                limit = limiter.limit("steady", RATE)
                for at in range(0, len(sent), 200):
                    looks = await asyncio.gather(*(limit.peek(one.key) for one in sent[at : at + 200]))
                    assert all(look.at_us >= 0 for look in looks), "the store itself has answered"
                    beyond += sum(max(0, look.limit - look.remaining - 1) for look in looks)
        finally:
            await store.stop()
        return beyond


async def until(holds: Any, within_s: float, promise: str) -> None:
    """
    Wait until *holds* returns true.

    Raises:
        AssertionError: It did not within *within_s*; the message is *promise*.
    """
    end_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end_s, f"not within {within_s:g} s: {promise}"
        await asyncio.sleep(LOOK_S)
