"""Limits while the store comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.core.limits import Algorithm, Ask, Decision, LimitRule, WhenDown
from silence_gateway.core.rates import Rate
from silence_gateway.errors import StoreMisconfigured, StoreUnavailable
from silence_gateway.stores.limits_falling_back import DENIED_FOR_US, FallingBackLimitStore
from silence_gateway.stores.limits_memory import MemoryLimitStore
from silence_gateway.testing.clock import FakeClock
from silence_gateway.testing.limit_checks import check_limit_store


class Fleet:
    """A shared store that a test takes away, and how many instances there are."""

    def __init__(self, clock: FakeClock, instances: int = 1) -> None:
        self.shared = MemoryLimitStore(clock)
        self.up = True
        self.live_instances = instances
        self.fault: Exception | None = None
        self.asked = 0

    async def decide(self, asks: Sequence[Ask]) -> Sequence[Decision]:
        self.asked += 1
        if self.fault:
            raise self.fault
        return self.shared.decide_now(asks)

    async def reset(self, rule: LimitRule, key: str) -> bool:
        return await self.shared.reset(rule, key)


def rule_of(count: int = 10, when_down: WhenDown = WhenDown.LOCAL_SHARE, name: str = "r") -> LimitRule:
    return LimitRule(
        name=name, algorithm=Algorithm.SLIDING_WINDOW, rate=Rate(count, 1_000_000), when_down=when_down
    )


async def count_passes(store: FallingBackLimitStore, rule: LimitRule, tries: int = 30) -> int:
    return sum([(await store.decide([Ask(rule, "k")]))[0].allowed for _ in range(tries)])


@pytest.mark.parametrize("up", [True, False])
def test_it_keeps_every_promise_with_and_without_the_store(up: bool) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        fleet = Fleet(clock)
        fleet.up = up
        await check_limit_store(FallingBackLimitStore(fleet, fleet, clock), clock.advance)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("when_down", "passes"),
    [(WhenDown.LOCAL_SHARE, 3), (WhenDown.LOCAL_FULL, 10), (WhenDown.ALLOW, 30), (WhenDown.DENY, 0)],
)
def test_each_limit_says_what_decides_while_the_store_is_away(when_down: WhenDown, passes: int) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        fleet = Fleet(clock, instances=3)
        fleet.up = False
        store = FallingBackLimitStore(fleet, fleet, clock)

        assert await count_passes(store, rule_of(when_down=when_down)) == passes
        assert fleet.asked == 0, "a store known to be away is not asked"
        assert store.local_decisions == 30

    asyncio.run(scenario())


@pytest.mark.parametrize("fault", [StoreUnavailable("late"), StoreMisconfigured("NOPERM")])
def test_a_fault_of_the_store_is_no_fault_of_the_request(fault: Exception) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        fleet = Fleet(clock, instances=2)
        fleet.fault = fault

        assert await count_passes(FallingBackLimitStore(fleet, fleet, clock), rule_of()) == 5

    asyncio.run(scenario())


def test_deny_keeps_the_other_limits_from_spending() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        fleet = Fleet(clock)
        fleet.up = False
        store = FallingBackLimitStore(fleet, fleet, clock)
        deny, local, allow = rule_of(5, WhenDown.DENY, "d"), rule_of(5), rule_of(5, WhenDown.ALLOW, "a")

        answers = await store.decide([Ask(deny, "k"), Ask(local, "k"), Ask(allow, "k")])

        assert answers == [
            Decision(False, 5, 0, DENIED_FOR_US, DENIED_FOR_US),
            Decision(True, 5, 5, 0, 0),
            Decision(True, 5, 5, 0, 0),
        ]
        assert (await store.decide([Ask(local, "k")]))[0].remaining == 4

    asyncio.run(scenario())


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 6),
    st.integers(1, 8),
    st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 400_000)), max_size=80),
)
def test_together_they_admit_at_most_the_stated_bound_in_any_window(
    count: int, instances: int, trace: list[tuple[bool, int, int]]
) -> None:
    """At most limit + max(limit, K) in any window, however often the store comes and goes."""

    async def scenario() -> None:
        clock = FakeClock()
        fleet = Fleet(clock, instances)
        stores = [FallingBackLimitStore(fleet, fleet, clock) for _ in range(instances)]
        rule = rule_of(count)
        granted: list[int] = []
        for up, who, gap_us in trace:
            clock.passed_us += gap_us
            fleet.up = up
            for store in (stores[who % instances], stores[0], stores[-1]):
                granted += [clock.passed_us for said in await store.decide([Ask(rule, "k")]) if said.allowed]

        for end_us in granted:
            assert sum(end_us - 1_000_000 < at_us <= end_us for at_us in granted) <= count + max(
                count, instances
            )

    asyncio.run(scenario())
