"""Places under concurrency limits: renewed in time, released once, free after a crash."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.core.limits import Algorithm, Ask, Change, Changed, LimitRule, Op
from silence_gateway.core.rates import parse_rate
from silence_gateway.limiting.holds import CHANGES_PER_CALL, Holds
from silence_gateway.testing import settle
from silence_gateway.testing.clock import FakeClock
from silence_gateway.testing.distant_limits import DistantLimitStore

RATE = LimitRule(name="rate", algorithm=Algorithm.SLIDING_WINDOW, rate=parse_rate("5/minute"))


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 20))


def rule_of(most: int = 2, ttl_s: float = 30, name: str = "places") -> LimitRule:
    return LimitRule(name=name, algorithm=Algorithm.CONCURRENCY, max=most, ttl_us=round(ttl_s * 1_000_000))


class World:
    """One process and its store; `crash` makes it another one."""

    def __init__(self, rule: LimitRule | None = None) -> None:
        self.clock = FakeClock()
        self.store = DistantLimitStore(self.clock)
        self.holds = Holds(self.store, self.clock, "one")
        self.rule = rule or rule_of()

    async def enter(self, key: str = "k", rule: LimitRule | None = None) -> str:
        """Take a place and hold it; returns the holder's name, or nothing if there is none."""
        holder = self.holds.name()
        asks = [Ask(rule or self.rule, key, 1, holder)]
        [decision] = await self.store.decide(asks)
        if not decision.allowed:
            return ""
        self.holds.hold(holder, asks)
        return holder

    def of(self, op: Op) -> list[Change]:
        return [change for change in self.store.changes if change.op is op]

    def taken(self, key: str = "k") -> int:
        return self.store.used(self.rule, key)


def test_a_place_is_kept_for_as_long_as_its_work_goes_on_and_released_once() -> None:
    async def scenario() -> None:
        world = World()
        holder = await world.enter()
        await world.clock.advance(300)
        assert world.taken() == 1
        world.holds.release(holder)
        world.holds.release(holder)
        await settle()

        assert world.taken() == 0
        assert len(world.of(Op.RELEASE)) == 1
        await world.clock.advance(300)
        assert len(world.of(Op.RENEW)) == pytest.approx(300 / 7.5, abs=1)
        assert world.holds.timer is None

    run(scenario)


class Noting(DistantLimitStore):
    """Notes the longest time for which each holder was not heard of."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.last_s: dict[str, float] = {}
        self.longest_s: dict[str, float] = {}

    async def adjust(self, changes: Sequence[Change]) -> Sequence[Changed]:
        now_s = self.clock.monotonic_s()
        for _, _, _, _, _, holder in changes:
            silent_s = now_s - self.last_s.get(holder, now_s)
            self.longest_s[holder] = max(self.longest_s.get(holder, 0.0), silent_s)
            self.last_s[holder] = now_s
        return await super().adjust(changes)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 3), st.sampled_from([1.0, 2.0, 7.0, 60.0])), min_size=1, max_size=10))
def test_a_place_is_renewed_before_a_third_of_its_time_is_over(entering: list[tuple[float, float]]) -> None:
    async def scenario() -> None:
        world = World()
        world.store = world.holds.store = noting = Noting(world.clock)
        thirds: dict[str, float] = {}
        for number, (gap_s, ttl_s) in enumerate(entering):
            await world.clock.advance(gap_s)
            holder = await world.enter(rule=rule_of(100, ttl_s, f"r{number}"))
            thirds[holder] = ttl_s / 3
            noting.last_s[holder] = world.clock.monotonic_s()
        await world.clock.advance(40)

        assert all(noting.longest_s[holder] <= third_s for holder, third_s in thirds.items())

    run(scenario)


def test_renewals_and_releases_of_one_moment_travel_together_in_calls_of_bearable_size() -> None:
    async def scenario() -> None:
        world = World(rule_of(1000))
        holders = [await world.enter(f"k{number}") for number in range(CHANGES_PER_CALL + 20)]
        trips = world.store.trips
        await world.clock.advance(8)
        assert len(world.of(Op.RENEW)) == len(holders)
        assert world.store.trips == trips + 2

        for holder in holders:
            world.holds.release(holder)
        await settle()
        assert len(world.of(Op.RELEASE)) == len(holders)
        assert world.store.trips == trips + 4

    run(scenario)


def test_the_place_of_a_process_that_was_killed_is_free_after_its_time() -> None:
    async def scenario() -> None:
        world = World(rule_of(1))
        assert await world.enter()
        assert world.holds.timer is not None
        world.holds.timer.cancel()  # killed: nothing of it goes on
        world.holds = Holds(world.store, world.clock, "two")
        await world.clock.advance(29.9)
        assert not await world.enter()
        await world.clock.advance(0.2)

        assert await world.enter()

    run(scenario)


def test_renewing_puts_a_place_back_that_the_store_has_lost() -> None:
    async def scenario() -> None:
        world = World(rule_of(1))
        assert await world.enter()
        await world.store.memory.reset(world.rule, "k")
        assert world.taken() == 0
        await world.clock.advance(8)

        assert world.taken() == 1
        assert not await world.enter()

    run(scenario)


def test_a_store_that_does_not_hear_is_told_again_and_what_it_never_hears_is_counted() -> None:
    async def scenario() -> None:
        world = World()
        holder = await world.enter()
        world.store.away = True
        await world.clock.advance(16)
        assert world.holds.lost == 2
        world.store.away = False
        await world.clock.advance(13)
        assert world.taken() == 1, "two renewals were lost, and the third came in time"
        world.store.away = True
        world.holds.release(holder)
        await settle()

        assert world.holds.lost == 3
        await world.clock.advance(31)
        assert world.taken() == 0, "time mends what the store did not hear"

    run(scenario)


def test_who_does_not_wait_for_the_answer_gives_back_what_it_may_have_got() -> None:
    async def scenario() -> None:
        world = World(rule_of(1))
        world.store.there_s = 0.002
        holder = world.holds.name()
        asks = [Ask(RATE, "k"), Ask(world.rule, "k", 1, holder)]
        asking = asyncio.ensure_future(world.store.decide(asks))
        await world.clock.advance(0.001)
        asking.cancel()
        world.holds.abandon(asks)
        world.holds.abandon([Ask(RATE, "k"), Ask(world.rule, "k", 0)])
        await world.clock.advance(0.01)

        assert [(change.rule, change.holder) for change in world.store.changes] == [(world.rule, holder)]
        assert world.taken() == 0

    run(scenario)


def test_only_places_are_held() -> None:
    async def scenario() -> None:
        world = World()
        world.holds.hold("x", [Ask(RATE, "k"), Ask(world.rule, "k", 0)])

        assert (world.holds.held, world.holds.timer) == ({}, None)

    run(scenario)


def test_a_request_with_several_places_renews_and_releases_all_of_them() -> None:
    async def scenario() -> None:
        world = World()
        holder = world.holds.name()
        slow, fast = rule_of(2, 60, "slow"), rule_of(2, 2, "fast")
        asks = [Ask(slow, "k", 1, holder), Ask(RATE, "k"), Ask(fast, "k", 1, holder)]
        await world.store.decide(asks)
        world.holds.hold(holder, asks)
        await world.clock.advance(10)
        assert (world.store.used(slow, "k"), world.store.used(fast, "k")) == (1, 1)
        world.holds.release(holder)
        await settle()

        assert (world.store.used(slow, "k"), world.store.used(fast, "k")) == (0, 0)

    run(scenario)


def test_no_two_holders_of_a_process_have_one_name() -> None:
    clock = FakeClock()
    both = [Holds(DistantLimitStore(clock), clock, "same store") for _ in range(2)]

    assert len({holds.name() for _ in range(100) for holds in both}) == 200


def test_stopping_releases_everything_and_waits_until_the_store_has_heard() -> None:
    async def scenario() -> None:
        world = World(rule_of(300))
        for _ in range(250):
            await world.enter()
        world.store.there_s = 0.005
        stopping = asyncio.ensure_future(world.holds.stop())
        await world.clock.advance(0.004)
        assert not stopping.done()
        await world.clock.advance(0.002)
        await stopping

        assert world.taken() == 0
        assert (world.holds.held, world.holds.timer, world.holds.background) == ({}, None, set())
        await world.holds.stop()

    run(scenario)
