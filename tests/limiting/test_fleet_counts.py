"""Statistics on their way from one process to the fleet, and back to those who ask."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from silence_gateway.core.hyperloglog import STANDARD_ERROR
from silence_gateway.errors import StoreUnavailable
from silence_gateway.limiting.fleet_counts import CHANNEL, REFRESH_EVERY_S, SHOW_EVERY_S, FleetCounts
from silence_gateway.limiting.limit_flow import SENT_TOP, SLICE_KEYS
from silence_gateway.limiting.statistics import MAX_PAGES, PAGE_KEYS, LimitStatistics
from silence_gateway.stores.limit_stats_contract import (
    SLOT_S,
    LimitCounts,
    LimitUse,
    NewUse,
    Tops,
    WindowUse,
)
from silence_gateway.stores.memory import MemoryHub, MemoryStore
from silence_gateway.testing.clock import FakeClock, settle

TOPS: Tops = {("1h", "requests"): 50, ("1h", "refused"): 50}


@dataclass
class Kept:
    """What the fake keeps of one limit; its windows never end."""

    generation: int
    counts: LimitCounts = LimitCounts()  # noqa: RUF009 - a tuple, never changed
    requests: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    clients: set[bytes] = field(default_factory=set)


@dataclass
class Fleet:
    """
    A `LimitStats` in dicts, that a test may break.

    Attributes:
        away: Nothing is done, and every call fails.
        loses_replies: Every call is done, and fails.
    """

    kept: dict[str, Kept] = field(default_factory=dict)
    adds: list[NewUse] = field(default_factory=list)
    shown: list[list[str]] = field(default_factory=list)
    reads: int = 0
    generations: int = 0
    away: bool = False
    loses_replies: bool = False

    def next_generation(self) -> int:
        self.generations += 1
        return self.generations

    def check(self, *, before: bool) -> None:
        if self.away or (self.loses_replies and not before):
            raise StoreUnavailable("late")

    async def add(self, name: str, new: NewUse, generation: int) -> int:
        self.check(before=True)
        kept = self.kept.get(name)
        if kept is None:
            kept = self.kept[name] = Kept(generation or self.next_generation())
        if generation in (0, kept.generation):
            self.adds.append(new)
            kept.counts = kept.counts.plus(new.counts)
            kept.requests.update(new.requests)
            kept.refused.update(new.refused)
            kept.clients.update(new.clients)
        self.check(before=False)
        return kept.generation

    async def read(self, name: str, top: Tops) -> LimitUse:
        self.check(before=False)
        self.reads += 1
        kept = self.kept.get(name, Kept(0))
        window = WindowUse(
            counts=kept.counts,
            unique_clients=len(kept.clients),
            requests=dict(kept.requests.most_common(top.get(("1h", "requests"), 0))),
            refused=dict(kept.refused.most_common(top.get(("1h", "refused"), 0))),
        )
        return LimitUse(counts=kept.counts, since_us=kept.generation, windows=dict.fromkeys(SLOT_S, window))

    async def reset(self, name: str) -> int:
        self.check(before=True)
        self.kept[name] = Kept(self.next_generation())
        self.check(before=False)
        return self.kept[name].generation

    async def show(self, names: Sequence[str]) -> None:
        self.check(before=True)
        self.shown.append(list(names))

    async def sweep(self, unseen_s: float, at_most: int) -> Sequence[str]:
        raise NotImplementedError


class Process:
    """One gateway process with one limit, `a`."""

    def __init__(
        self, fleet: Fleet | None, clock: FakeClock | None = None, store: MemoryStore | None = None
    ) -> None:
        self.clock = clock or FakeClock()
        self.own = LimitStatistics()
        self.up = True
        bus = store.bus if store is not None else None
        self.counts = FleetCounts({"a": self.own}, fleet, self.clock, lambda: self.up, bus=bus, every_s=5)

    def allow(self, *keys: str) -> None:
        for key in keys:
            self.own.allowed += 1
            self.own.hit(key)

    def deny(self, *keys: str) -> None:
        for key in keys:
            self.own.denied += 1
            self.own.refuse(key)

    async def use(self) -> tuple[LimitUse, bool]:
        uses, of_fleet = await self.counts.read(TOPS)
        return uses["a"], of_fleet


def test_counts_reach_the_fleet_at_every_interval_and_once_more_at_the_end() -> None:
    async def scenario() -> None:
        fleet = Fleet()
        one = Process(fleet)
        one.counts.start()
        one.counts.start()  # harmless
        one.allow("k", "k")
        await one.clock.advance(5)
        assert fleet.kept["a"].counts == LimitCounts(allowed=2)
        one.deny("k")
        await one.counts.stop()
        await one.counts.stop()  # harmless

        kept = fleet.kept["a"]
        assert kept.counts == LimitCounts(allowed=2, denied=1)
        assert (kept.requests, kept.refused, len(kept.clients)) == ({"k": 3}, {"k": 1}, 1)
        assert one.counts.lost == 0

    asyncio.run(scenario())


def test_who_asks_is_told_of_what_this_process_has_just_counted() -> None:
    async def scenario() -> None:
        fleet = Fleet()
        one, other = Process(fleet), Process(fleet)
        one.allow("x", "y")
        await one.counts.flush()
        other.allow("y")

        use, of_fleet = await other.use()

        assert of_fleet
        assert use.counts.allowed == 3
        assert use.windows["1h"].requests == {"y": 2, "x": 1}
        assert use.windows["1h"].unique_clients == 2

    asyncio.run(scenario())


def test_while_the_store_is_away_totals_gather_and_answers_are_of_this_process() -> None:
    async def scenario() -> None:
        fleet = Fleet()
        one = Process(fleet)
        one.allow("a")
        await one.counts.flush()
        one.up = False
        one.allow("b", "b")
        one.deny("b")
        use, of_fleet = await one.use()
        assert not of_fleet
        assert use.counts == LimitCounts(3, 1)
        assert use.windows["1h"].counts == LimitCounts(3, 1)
        assert use.windows["1m"].unique_clients == 2
        assert use.windows["1h"].requests == {"b": 3, "a": 1}
        assert use.windows["1h"].refused == {"b": 1}
        assert use.windows["1m"].requests == {}  # not asked for
        one.up = True
        await one.counts.flush()

        assert fleet.kept["a"].counts == LimitCounts(3, 1)

    asyncio.run(scenario())


def test_a_flush_whose_answer_did_not_come_is_not_sent_again() -> None:
    async def scenario() -> None:
        fleet = Fleet()
        one = Process(fleet)
        await one.counts.flush()
        one.allow("k", "k")
        fleet.loses_replies = True
        await one.counts.flush()
        use, of_fleet = await one.use()
        assert (use.counts.allowed, of_fleet) == (2, False)
        fleet.loses_replies = False
        one.allow("k")
        await one.counts.flush()

        assert fleet.kept["a"].counts == LimitCounts(allowed=3)  # each request once
        assert fleet.kept["a"].requests == {"k": 3}
        assert one.counts.lost == 1

    asyncio.run(scenario())


def test_a_mistake_of_ours_is_not_taken_for_a_store_that_is_away() -> None:
    async def scenario() -> None:
        fleet = Fleet()
        one = Process(fleet)
        one.allow("k")
        fleet.kept["a"] = Kept(1)
        fleet.kept["a"].clients = None  # type: ignore[assignment]

        with pytest.raises(AttributeError):
            await one.counts.flush()

    asyncio.run(scenario())


def test_without_a_store_there_is_only_this_process_and_its_last_hour() -> None:
    async def scenario() -> None:
        one = Process(None)
        one.counts.start()
        one.deny("x")
        await one.clock.advance(5)
        one.allow("y")
        await one.clock.advance(4000)
        one.allow("z")
        use, of_fleet = await one.use()

        assert not of_fleet
        assert use.counts == LimitCounts(2, 1)
        assert use.windows["1h"].counts == LimitCounts(2, 1)  # a slot is ten minutes
        assert use.windows["1m"].counts == LimitCounts(1, 0)
        await one.clock.advance(300)
        assert (await one.use())[0].windows["1h"].counts == LimitCounts(1, 0)
        await one.counts.stop()

    asyncio.run(scenario())


# -- resetting ----------------------------------------------------------------------------------------


def test_a_reset_is_the_fleets_and_takes_what_was_not_flushed_with_it() -> None:
    """Both instances, over the bus; the counters that metrics show go on."""

    async def scenario() -> None:
        clock, hub, fleet = FakeClock(), MemoryHub(), Fleet()
        one, other = (Process(fleet, clock, MemoryStore(hub)) for _ in range(2))
        for each in (one, other):
            each.counts.start()
            each.allow("k")
            await each.counts.flush()
            each.allow("late")
        await one.counts.reset(["a"])
        await settle()
        for each in (one, other):
            assert (await each.use())[0].counts == LimitCounts()
            assert each.own.allowed == 2
        other.allow("new")
        use, of_fleet = await one.use()
        assert use.counts == LimitCounts()  # not flushed by the other yet
        await other.counts.flush()
        use, of_fleet = await one.use()

        assert of_fleet
        assert use.counts == LimitCounts(1)
        assert use.windows["1h"].requests == {"new": 1}
        for each in (one, other):
            await each.counts.stop()

    asyncio.run(scenario())


def test_a_reset_that_was_not_heard_of_is_noticed_at_the_next_flush() -> None:
    """What was counted before it is refused; what comes after counts."""

    async def scenario() -> None:
        fleet = Fleet()
        deaf, other = Process(fleet), Process(fleet)
        deaf.allow("old")
        await deaf.counts.flush()
        deaf.allow("older than the reset")
        await other.counts.reset()
        await deaf.counts.flush()
        assert (await other.use())[0].counts == LimitCounts()
        deaf.up = False
        assert (await deaf.use())[0].counts == LimitCounts()  # its own view begins anew, too
        deaf.up = True
        deaf.allow("new")
        await deaf.counts.flush()

        assert (await other.use())[0].windows["1h"].requests == {"new": 1}

    asyncio.run(scenario())


def test_a_reset_in_the_middle_of_a_flush_lets_nothing_older_in() -> None:
    async def scenario() -> None:
        clock, hub, fleet = FakeClock(), MemoryHub(), Fleet()
        one, other = (Process(fleet, clock, MemoryStore(hub)) for _ in range(2))
        one.counts.start()
        await one.counts.flush()
        one.allow("first")
        await one.counts.flush()
        one.allow(*(f"k{number}" for number in range(3 * SLICE_KEYS)))
        flushing = asyncio.ensure_future(one.counts.flush())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await other.counts.reset()
        await flushing
        use = (await one.use())[0]
        one.up = False
        alone = (await one.use())[0]

        assert use.counts == alone.counts == LimitCounts()
        assert use.windows["1h"].unique_clients == alone.windows["1h"].unique_clients == 0
        await one.counts.stop()

    asyncio.run(scenario())


def test_without_a_store_a_reset_is_this_processs() -> None:
    async def scenario() -> None:
        one = Process(None)
        one.allow("k")
        await one.counts.flush()
        one.allow("k")
        await one.clock.advance(7)
        await one.counts.reset()
        use = (await one.use())[0]

        assert use.counts == use.windows["1h"].counts == LimitCounts()
        assert use.since_us == one.clock.now_us()
        assert one.own.allowed == 2

    asyncio.run(scenario())


def test_a_reset_without_the_store_changes_nothing_and_says_so() -> None:
    async def scenario() -> None:
        one = Process(Fleet())
        one.allow("k")
        one.up = False
        with pytest.raises(StoreUnavailable, match="nothing was reset"):
            await one.counts.reset()
        assert (await one.use())[0].counts.allowed == 1

    asyncio.run(scenario())


def test_a_reset_holds_where_the_bus_fails() -> None:
    async def scenario() -> None:
        hub, fleet = MemoryHub(), Fleet()
        one = Process(fleet, None, MemoryStore(hub))
        one.allow("k")
        await one.counts.flush()
        hub.go_away()
        await one.counts.reset()

        assert (await one.use())[0].counts == LimitCounts()

    asyncio.run(scenario())


def test_what_is_said_on_the_bus_and_makes_no_sense_is_left_alone() -> None:
    async def scenario() -> None:
        store = MemoryStore(MemoryHub())
        one = Process(Fleet(), None, store)
        one.counts.start()
        one.allow("k")
        await one.counts.flush()
        for payload in (b"", b"reset a", b"reset 99 other", b"reset x a", b"\xff\xfe", b"reset 0 a"):
            await store.bus.publish(CHANNEL, payload)
        await settle()

        assert (await one.use())[0].counts.allowed == 1
        await one.counts.stop()

    asyncio.run(scenario())


# -- bounds -------------------------------------------------------------------------------------------


def test_the_event_loop_turns_after_every_slice() -> None:
    """Between two turns at most SLICE_KEYS keys are looked at, however many wait."""

    async def scenario() -> None:
        fleet = Fleet()
        one = Process(fleet)
        await one.counts.flush()
        one.allow(*(f"k{number}" for number in range(3 * PAGE_KEYS)))
        seen: list[int] = []
        flushing = asyncio.ensure_future(one.counts.flush())
        while not flushing.done():
            await asyncio.sleep(0)
            seen.append(sum(len(new.clients) for new in fleet.adds))

        assert max(after - before for before, after in zip([0, *seen], seen, strict=False)) <= SLICE_KEYS
        assert seen[-1] == 3 * PAGE_KEYS
        assert max(len(new.clients) for new in fleet.adds) == SLICE_KEYS

    asyncio.run(scenario())


def test_a_full_page_is_looked_at_before_the_interval_is_over() -> None:
    """So a flood of new keys finds room again, and every one of them is counted."""

    async def scenario() -> None:
        fleet = Fleet()
        one = Process(fleet)
        one.counts.start()
        await settle()
        clients = 3 * MAX_PAGES * PAGE_KEYS
        for start in range(0, clients, PAGE_KEYS):
            one.allow(*(f"k{number}" for number in range(start, start + PAGE_KEYS)))
            await settle()
        use = (await one.use())[0]

        assert one.own.missed == 0
        assert use.windows["1h"].unique_clients == clients
        assert use.counts.allowed == clients
        one.up = False
        alone = (await one.use())[0]
        assert alone.windows["1m"].unique_clients == pytest.approx(clients, rel=3 * STANDARD_ERROR)
        await one.counts.stop()

    asyncio.run(scenario())


def test_a_flood_that_outruns_the_looking_loses_keys_and_no_decisions() -> None:
    async def scenario() -> None:
        fleet = Fleet()
        one = Process(fleet)
        room = (MAX_PAGES + 1) * PAGE_KEYS
        one.allow(*(f"k{number}" for number in range(room + 1000)))
        use = (await one.use())[0]

        assert one.own.missed == 1000
        assert use.counts.allowed == room + 1000
        assert use.windows["1h"].unique_clients == room

    asyncio.run(scenario())


def test_a_busy_key_is_on_top_however_many_others_there_are() -> None:
    """One that makes a twentieth of the requests is counted exactly; the list stays short."""

    async def scenario() -> None:
        fleet = Fleet()
        one = Process(fleet)
        for number in range(5 * PAGE_KEYS):
            one.allow(f"flood-{number}")
            if number % 19 == 0:
                one.deny("busy")
        busy = -(-5 * PAGE_KEYS // 19)
        use = (await one.use())[0]

        assert next(iter(use.windows["1h"].requests.items())) == ("busy", busy)
        assert use.windows["1h"].refused == {"busy": busy}
        assert max(len(new.requests) for new in fleet.adds) == SENT_TOP

    asyncio.run(scenario())


def test_who_leaves_while_asking_loses_nothing() -> None:
    async def scenario() -> None:
        fleet = Fleet()
        one = Process(fleet)
        await one.counts.flush()
        one.allow(*(f"k{number}" for number in range(2 * SLICE_KEYS)))
        asking = asyncio.ensure_future(one.use())
        for _ in range(3):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await one.counts.flush()

        assert fleet.kept["a"].counts.allowed == len(fleet.kept["a"].clients) == 2 * SLICE_KEYS

    asyncio.run(scenario())


def test_keys_that_may_be_secrets_leave_the_process_as_hashes() -> None:
    async def scenario() -> None:
        fleet = Fleet()
        own = LimitStatistics(hides_keys=True)
        counts = FleetCounts({"a": own}, fleet, FakeClock(), lambda: True)
        own.refuse("Bearer hunter2")
        await counts.flush()

        kept = fleet.kept["a"]
        assert "hunter2" not in repr(fleet)
        assert list(kept.requests) == list(kept.refused) == [own.shown("Bearer hunter2")]

    asyncio.run(scenario())


# -- in the background --------------------------------------------------------------------------------


def test_metrics_have_numbers_that_were_read_in_the_background() -> None:
    async def scenario() -> None:
        fleet = Fleet()
        one = Process(fleet)
        one.counts.start()
        one.allow("a", "b")
        assert one.counts.unique == {}
        await one.clock.advance(5)
        assert one.counts.unique == {"a": {"1m": 2, "1h": 2}}
        await one.clock.advance(REFRESH_EVERY_S * 10)

        assert fleet.reads == 11
        await one.counts.stop()

    asyncio.run(scenario())


def test_an_instance_shows_its_limits_once_a_minute_and_tries_again_if_that_fails() -> None:
    async def scenario() -> None:
        fleet = Fleet()
        one = Process(fleet)
        fleet.away = True
        one.counts.start()
        await one.clock.advance(12)
        assert fleet.shown == []
        fleet.away = False
        await one.clock.advance(5 + SHOW_EVERY_S * 3)

        assert fleet.shown == [["a"]] * 4
        await one.counts.stop()

    asyncio.run(scenario())
