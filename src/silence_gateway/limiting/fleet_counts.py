"""
Statistics of limits, for the whole fleet where there is a store, else for this process alone.

Nothing here is on the request path. What that has counted is looked at every few seconds, and sooner when a
page is full, in slices between which the event loop turns; then it is added to what the fleet knows. While
the store is away totals gather here and the recent past is this process's own. A flush whose answer did not
come is not sent again, so a fleet total may lack a few seconds of one instance, and never counts anything
twice.

A reset is a new generation in the store, told over the bus. Whoever did not hear of it learns when it adds
something: what was counted in an older generation is refused, so nothing from before a reset comes back.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from silence_gateway.clock import Clock
from silence_gateway.errors import StoreFault, StoreUnavailable
from silence_gateway.limiting.limit_flow import LimitFlow
from silence_gateway.limiting.statistics import LimitStatistics
from silence_gateway.stores.contracts import Bus, Subscription
from silence_gateway.stores.limit_stats_contract import LimitStats, LimitUse, NewUse, Tops

FLUSH_EVERY_S = 5.0
SHOW_EVERY_S = 60.0
REFRESH_EVERY_S = 30.0
"""How old the numbers of unique clients may be that metrics show. Reading them costs the store 0.3 ms per
limit that is full: 1 % of its time for ten instances with a hundred such limits."""

CHANNEL = "limit-stats"
RESET = re.compile(rb"reset ([0-9]{1,20}) (\S{1,200})")
READ_AT_ONCE = 16


class FleetCounts:
    """
    Keeps one limiter's statistics flowing into the fleet's, and answers questions about them.

    Attributes:
        flushes: Flushes that the store confirmed.
        lost: Flushes of which some part was sent and not confirmed.
        unique: Unique clients per limit and window when last looked, for metrics.
    """

    def __init__(
        self,
        statistics: Mapping[str, LimitStatistics],
        stats: LimitStats | None,
        clock: Clock,
        is_up: Callable[[], bool],
        *,
        bus: Bus | None = None,
        every_s: float = FLUSH_EVERY_S,
    ) -> None:
        self.statistics = statistics
        self.stats = stats
        self.clock = clock
        self.is_up = is_up
        self.bus = bus
        self.every_s = every_s
        self.flows: dict[str, LimitFlow] = {}
        self.one_at_a_time = asyncio.Lock()
        self.flushing: set[asyncio.Future[None]] = set()
        self.wake = asyncio.Event()
        self.stopping = False
        self.task: asyncio.Task[None] | None = None
        self.subscription: Subscription | None = None
        self.shown_s = self.refreshed_s = float("-inf")
        self.flushes = 0
        self.lost = 0
        self.unique: dict[str, dict[str, int]] = {}
        for name in statistics:
            self.flow(name)

    # -- its own task ---------------------------------------------------------------------------------

    def start(self) -> None:
        """Look at the counts from now on."""
        if self.task is not None:
            return
        if self.bus is not None and self.stats is not None:
            self.subscription = self.bus.subscribe(CHANNEL, self.on_message)
        self.task = asyncio.create_task(self.keep_flushing())

    async def stop(self) -> None:
        """Finish what runs, flush once more if the store is there, and end."""
        if self.task is None:
            return
        self.stopping = True
        self.wake.set()
        await self.task
        self.task = None
        if self.subscription is not None:
            self.subscription.close()
        await self.flush()

    async def keep_flushing(self) -> None:
        """Flush everything at every interval, and what has a full page at once."""
        due_s = self.clock.monotonic_s() + self.every_s
        while not self.stopping:
            await self.wait_until(due_s)
            now_s = self.clock.monotonic_s()
            if now_s < due_s:
                await self.flush([name for name, counts in self.statistics.items() if counts.pages])
                continue
            due_s = now_s + self.every_s
            if now_s - self.refreshed_s >= REFRESH_EVERY_S:
                self.refreshed_s = now_s
                await self.read({})
            else:
                await self.flush()
            await self.show(now_s)

    async def wait_until(self, due_s: float) -> None:
        """Return when it is time, or somebody has a full page."""
        timer = self.clock.call_later(due_s - self.clock.monotonic_s(), self.wake.set)
        try:
            await self.wake.wait()
        finally:
            timer.cancel()
        self.wake.clear()

    async def show(self, now_s: float) -> None:
        """Tell the fleet now and then which limits live."""
        if self.stats is None or not self.is_up() or now_s - self.shown_s < SHOW_EVERY_S:
            return
        try:
            await self.stats.show(list(self.statistics))
        except StoreFault:
            return  # the next time is soon enough: a limit is forgotten after an hour
        self.shown_s = now_s

    # -- flushing -------------------------------------------------------------------------------------

    async def flush(self, names: Sequence[str] | None = None) -> None:
        """
        Look at what is new of these limits, of all by default, and hand it over; never fails.

        Cancelling it leaves the flush to itself: what was taken from a page must get to where it belongs.
        """
        work = asyncio.ensure_future(self.flush_all(list(self.statistics) if names is None else names))
        self.flushing.add(work)
        work.add_done_callback(self.flushing.discard)
        await asyncio.shield(work)

    async def flush_all(self, names: Sequence[str]) -> None:
        """Do the work of `flush`, one at a time."""
        async with self.one_at_a_time:
            calls: list[tuple[LimitFlow, int, asyncio.Future[int]]] = []
            for name in names:
                calls += await self.flush_one(name)
            if calls:
                await self.settle(calls)

    async def flush_one(self, name: str) -> list[tuple[LimitFlow, int, asyncio.Future[int]]]:
        """Look at one limit, a slice per turn of the event loop; returns what was sent to the store."""
        flow = self.flow(name)
        generation = flow.generation
        stats = self.stats if self.is_up() else None
        calls: list[tuple[LimitFlow, int, asyncio.Future[int]]] = []

        def send(new: NewUse) -> None:
            if stats is not None:
                sent = asyncio.ensure_future(stats.add(name, new, generation))
                calls.append((flow, generation, sent))

        unsent = flow.unsent() if stats is not None else NewUse()
        for new in flow.slices(self.clock.monotonic_s()):
            send(replace(new, counts=unsent.counts))
            unsent = NewUse()
            await asyncio.sleep(0)
        if any(unsent.counts):
            send(unsent)
        return calls

    async def settle(self, calls: Sequence[tuple[LimitFlow, int, asyncio.Future[int]]]) -> None:
        """Wait for the answers, and take from them which generation it is."""
        answers = await asyncio.gather(*(sent for _, _, sent in calls), return_exceptions=True)
        failed = False
        for (flow, counted_in, _), answer in zip(calls, answers, strict=True):
            if isinstance(answer, StoreFault):
                failed = True
            elif isinstance(answer, BaseException):
                raise answer
            elif counted_in == 0:
                flow.generation = max(flow.generation, answer)
            elif answer > flow.generation:
                flow.forget(answer, self.clock.now_us())
        if failed:
            self.lost += 1
        else:
            self.flushes += 1

    # -- asking ---------------------------------------------------------------------------------------

    async def read(
        self, top: Tops, names: Sequence[str] | None = None
    ) -> tuple[Mapping[str, LimitUse], bool]:
        """
        Return how these limits are used, all by default, and whether that is by the fleet.

        Without an answer from the store it is by this process. What this process has counted is flushed
        first, so it is always included.
        """
        names = list(self.statistics) if names is None else names
        await self.flush(names)
        uses, of_fleet = await self.read_fleet(names, top), True
        if uses is None:
            uses, of_fleet = {}, False
            for name in names:
                uses[name] = self.flow(name).use(self.clock.monotonic_s(), top)
                await asyncio.sleep(0)
        for name, use in uses.items():
            self.unique[name] = {window: each.unique_clients for window, each in use.windows.items()}
        return uses, of_fleet

    async def read_fleet(self, names: Sequence[str], top: Tops) -> dict[str, LimitUse] | None:
        """Ask the store; None if there is none, or it does not answer."""
        if self.stats is None or not self.is_up():
            return None
        uses: dict[str, LimitUse] = {}
        try:
            for start in range(0, len(names), READ_AT_ONCE):
                some = names[start : start + READ_AT_ONCE]
                found = await asyncio.gather(*(self.stats.read(name, top) for name in some))
                uses.update(zip(some, found, strict=True))
        except StoreFault:
            return None
        return uses

    # -- resetting ------------------------------------------------------------------------------------

    async def reset(self, names: Sequence[str] | None = None) -> None:
        """
        Begin the statistics of these limits anew, of all by default, wherever they are kept.

        What limits is untouched, and so are the counters that metrics show.

        Raises:
            StoreUnavailable: The store did not answer. Limits that it did reset are reset everywhere.
        """
        names = list(self.statistics) if names is None else names
        if self.stats is None:
            for name in names:
                self.flow(name).forget(0, self.clock.now_us())
            return
        if not self.is_up():
            raise StoreUnavailable("nothing was reset: the store, which holds the fleet's counts, is away")
        for name in names:
            generation = await self.stats.reset(name)
            self.adopt(name, generation)
            if self.bus is not None:
                try:
                    await self.bus.publish(CHANNEL, b"reset %d %b" % (generation, name.encode()))
                except StoreFault:
                    continue  # done in the store; the others learn of it when they add something

    def on_message(self, payload: bytes) -> None:
        """Another instance has reset something, or this one has."""
        found = RESET.fullmatch(payload)
        if found is not None:
            self.adopt(found[2].decode(errors="replace"), int(found[1]))

    def adopt(self, name: str, generation: int) -> None:
        """Forget what was counted before *generation*, unless that was done already."""
        if name in self.statistics and generation > self.flow(name).generation:
            self.flow(name).forget(generation, self.clock.now_us())

    def flow(self, name: str) -> LimitFlow:
        """Return what became of the counts of one limit."""
        flow = self.flows.get(name)
        if flow is None:
            counts = self.statistics[name]
            counts.on_full = self.wake.set
            flow = self.flows[name] = LimitFlow(counts, self.clock.now_us())
        return flow
