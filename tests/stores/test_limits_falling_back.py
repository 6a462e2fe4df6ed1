"""Limits while the store comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.core.limits import (
    Algorithm,
    Ask,
    Change,
    Changed,
    Decision,
    LimitRule,
    Mode,
    Op,
    WhenDown,
)
from silence_gateway.core.prospect import Prospect
from silence_gateway.core.rates import Rate
from silence_gateway.errors import StoreMisconfigured, StoreUnavailable
from silence_gateway.stores import limits_falling_back
from silence_gateway.stores.limits_falling_back import DENIED_FOR_US, FallingBackLimitStore
from silence_gateway.stores.limits_leasing import LeasingLimitStore
from silence_gateway.stores.limits_memory import MemoryLimitStore
from silence_gateway.testing import settle
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
        self.adjusted: list[Change] = []
        self.away: set[str] = set()

    @property
    def partly_away(self) -> str:
        return ", ".join(sorted(self.away))

    def reaches(self, _rule: LimitRule, key: str) -> bool:
        return key not in self.away

    def at_once(self, _asks: Sequence[Ask]) -> None:
        """A server has to be asked."""

    async def decide(self, asks: Sequence[Ask]) -> Sequence[Decision]:
        self.asked += 1
        if self.fault:
            raise self.fault
        assert not any(ask.key in self.away for ask in asks), "who is known to be away is not asked"
        return self.shared.decide_now(asks)

    async def look(self, asks: Sequence[Ask]) -> Sequence[Prospect]:
        self.asked += 1
        if self.fault:
            raise self.fault
        assert not any(ask.key in self.away for ask in asks), "who is known to be away is not asked"
        return self.shared.look_now(asks)

    async def adjust(self, changes: Sequence[Change]) -> Sequence[Changed]:
        self.adjusted += changes
        if self.fault:
            raise self.fault
        return self.shared.adjust_now(changes)

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


def test_what_a_lease_holds_is_spent_whether_the_store_answers_or_not() -> None:
    """It counts in the store already; what an outage lets through does not grow by it."""

    async def scenario() -> None:
        clock = FakeClock()
        fleet = Fleet(clock)
        leasing = LeasingLimitStore(fleet, clock, up=lambda: fleet.up)
        store = FallingBackLimitStore(leasing, fleet, clock)
        rule = replace(rule_of(1000), lease=8)
        while not leasing.leases or not leasing.leases[rule.counter, "k"].held:
            await store.decide([Ask(rule, "k")])
        held = leasing.leases[rule.counter, "k"].held
        fleet.up = False
        for _ in range(held):
            assert store.at_once([Ask(rule, "k")])

        assert store.local_decisions == 0
        assert store.at_once([Ask(rule, "k")])
        assert store.local_decisions == 1
        await leasing.stop()

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
            Decision(False, 5, 0, DENIED_FOR_US, DENIED_FOR_US, -1),
            Decision(True, 5, 5, 0, 0, answers[1].at_us),
            Decision(True, 5, 5, 0, 0, -1),
        ]
        assert answers[1].at_us < 0
        assert (await store.decide([Ask(local, "k")]))[0].remaining == 4

    asyncio.run(scenario())


def test_a_store_that_comes_back_is_charged_what_was_let_through_meanwhile() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        fleet = Fleet(clock, instances=2)
        store = FallingBackLimitStore(fleet, fleet, clock)
        rule = rule_of()
        await store.decide([Ask(rule, "k", 2)])
        fleet.up = False
        assert await count_passes(store, rule) == 5

        fleet.up = True
        assert store.at_once([Ask(rule, "other")]) is None
        await store.decide([Ask(rule, "other")])
        await settle()

        assert fleet.adjusted == [Change(Op.CHARGE, rule, "k", 5)]
        assert (store.charged, store.uncharged, store.owed) == (5, 0, {})
        assert await count_passes(store, rule) == 3
        await store.stop()

    asyncio.run(scenario())


def test_what_counts_no_more_is_not_charged() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        fleet = Fleet(clock)
        store = FallingBackLimitStore(fleet, fleet, clock)
        fleet.up = False
        await store.decide([Ask(rule_of(), "k", 4)])
        await clock.advance(1.0)
        fleet.up = True
        await store.decide([Ask(rule_of(), "other")])
        await settle()

        assert fleet.adjusted == []
        assert store.owed == {}

    asyncio.run(scenario())


def test_a_use_whose_answer_was_lost_is_not_counted_twice() -> None:
    """The store may have counted it, so it is never charged for it."""

    async def scenario() -> None:
        clock = FakeClock()
        fleet = Fleet(clock)
        store = FallingBackLimitStore(fleet, fleet, clock)
        fleet.fault = StoreUnavailable("lost")
        assert (await store.decide([Ask(rule_of(), "k")]))[0].allowed
        fleet.fault = None
        await store.decide([Ask(rule_of(), "k")])
        await settle()

        assert fleet.adjusted == []

    asyncio.run(scenario())


def test_what_cannot_be_charged_is_counted_and_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        fleet = Fleet(clock)
        store = FallingBackLimitStore(fleet, fleet, clock)
        fleet.up = False
        for key in "abc":
            await store.decide([Ask(rule_of(), key, 2)])
        fleet.up, fleet.fault = True, StoreUnavailable("gone again")
        await store.decide([Ask(rule_of(), "d")])
        await settle()

        assert store.owed == {}
        assert (store.charged, store.uncharged) == (0, 6)

    monkeypatch.setattr(limits_falling_back, "MAX_OWED", 2)
    asyncio.run(scenario())


@pytest.mark.parametrize("spread", [False, True])
def test_a_charge_that_certainly_never_left_is_tried_again(spread: bool) -> None:
    """Several requests meet a server that was killed: its first refusals do not make it known to be away."""

    async def scenario() -> None:
        clock = FakeClock()
        fleet = Fleet(clock)
        store = FallingBackLimitStore(fleet, fleet, clock, spread=spread)
        rule = replace(rule_of(), rate=Rate(10, 60_000_000))
        fleet.fault = StoreUnavailable("connection refused", sent=False)
        for key in "abc":
            await store.decide([Ask(rule, key)])
            await clock.advance(1)
        assert (store.local_decisions, store.charged, store.uncharged) == (3, 0, 0)

        fleet.fault = None
        await store.decide([Ask(rule, "other")])
        await settle()

        assert (store.charged, store.uncharged, store.owed) == (3, 0, {})
        used = [told.remaining for told in fleet.shared.decide_now([Ask(rule, key, 0) for key in "abc"])]
        assert used == [9, 9, 9]

    asyncio.run(scenario())


def test_what_was_spent_here_is_given_back_here() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        fleet = Fleet(clock)
        store = FallingBackLimitStore(fleet, fleet, clock)
        rule = rule_of()
        fleet.up = False
        [spent] = await store.decide([Ask(rule, "k", 6)])

        [changed] = await store.adjust([Change(Op.GIVE_BACK, rule, "k", 4, spent.at_us)])

        assert (changed.amount, changed.used) == (4, 2)
        assert fleet.adjusted == []

    asyncio.run(scenario())


def test_what_the_store_spent_is_given_back_there() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        fleet = Fleet(clock)
        store = FallingBackLimitStore(fleet, fleet, clock)
        rule = rule_of()
        [spent] = await store.decide([Ask(rule, "k", 6)])

        [changed] = await store.adjust([Change(Op.GIVE_BACK, rule, "k", 4, spent.at_us)])

        assert (changed.amount, changed.used) == (4, 2)

    asyncio.run(scenario())


def test_who_holds_a_place_is_known_here_when_the_store_goes_away() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        fleet = Fleet(clock, instances=2)
        store = FallingBackLimitStore(fleet, fleet, clock)
        rule = LimitRule(name="c", algorithm=Algorithm.CONCURRENCY, max=4)
        assert (await store.decide([Ask(rule, "k", 1, "a")]))[0].allowed
        fleet.up = False

        assert (await store.decide([Ask(rule, "k", 1, "b")]))[0].allowed
        assert not (await store.decide([Ask(rule, "k", 1, "c")]))[0].allowed
        await store.adjust([Change(Op.RELEASE, rule, "k", holder="a")])
        assert (await store.decide([Ask(rule, "k", 1, "c")]))[0].allowed

    asyncio.run(scenario())


def test_changes_here_and_there_are_answered_in_their_order() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        fleet = Fleet(clock)
        store = FallingBackLimitStore(fleet, fleet, clock)
        rule = rule_of()
        places = LimitRule(name="c", algorithm=Algorithm.CONCURRENCY, max=4)
        [there] = await store.decide([Ask(rule, "there", 6)])
        fleet.up = False
        [here] = await store.decide([Ask(rule, "here", 5)])
        fleet.up = True

        done = await store.adjust(
            [
                Change(Op.GIVE_BACK, rule, "there", 1, there.at_us),
                Change(Op.GIVE_BACK, rule, "here", 2, here.at_us),
                Change(Op.RENEW, places, "c", holder="a"),
                Change(Op.CHARGE, rule, "there", 3, there.at_us),
            ]
        )

        assert [(one.amount, one.used) for one in done] == [(1, 5), (2, 3), (1, 1), (3, 8)]

    asyncio.run(scenario())


def test_what_was_spent_there_cannot_be_changed_while_the_store_is_away_but_holders_can() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        fleet = Fleet(clock)
        store = FallingBackLimitStore(fleet, fleet, clock)
        rule = rule_of()
        renew = Change(Op.RENEW, LimitRule(name="c", algorithm=Algorithm.CONCURRENCY, max=4), "c", holder="a")
        fleet.up, fleet.fault = False, StoreUnavailable("away")

        [renewed] = await store.adjust([renew])
        assert (renewed.amount, fleet.adjusted) == (1, [])
        with pytest.raises(StoreUnavailable):
            await store.adjust([renew, Change(Op.CHARGE, rule, "k", 1, 7)])

    asyncio.run(scenario())


def test_what_an_answer_told_while_the_store_was_away_is_charged_on_its_return_too() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        fleet = Fleet(clock)
        store = FallingBackLimitStore(fleet, fleet, clock)
        rule = rule_of()
        fleet.up = False
        [reserved] = await store.decide([Ask(rule, "k", 1)])
        await store.adjust([Change(Op.CHARGE, rule, "k", 4, reserved.at_us)])
        fleet.up = True
        await store.decide([Ask(rule, "other")])
        await settle()

        assert fleet.adjusted == [Change(Op.CHARGE, rule, "k", 5)]

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


@pytest.mark.parametrize(
    ("when_down", "told"),
    [
        (WhenDown.LOCAL_SHARE, (5, 5, True)),
        (WhenDown.LOCAL_FULL, (10, 10, True)),
        (WhenDown.ALLOW, (10, 10, True)),
        (WhenDown.DENY, (10, 0, False)),
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_while_the_store_is_away_it_is_told_what_is_met_here(
    when_down: WhenDown, told: tuple[int, int, bool], known: bool
) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        fleet = Fleet(clock, instances=2)
        store = FallingBackLimitStore(fleet, fleet, clock)
        ask = Ask(rule_of(when_down=when_down), "k")
        [before] = await store.look([ask])
        assert (before.remaining, before.at_us >= 0) == (10, True)

        fleet.up = not known
        fleet.fault = StoreUnavailable("away")
        [prospect] = await store.look([ask])
        assert (prospect.limit, prospect.remaining, prospect.passes) == told
        assert prospect.at_us < 0, "it says that the fleet was not asked"
        assert store.owed == {}, "looking owes nothing"
        [decision] = await store.decide([ask])
        assert decision.allowed is prospect.passes
        assert decision.retry_after_us == prospect.retry_after_us

    asyncio.run(scenario())


def test_of_limits_on_several_servers_each_is_told_by_whoever_would_decide_it() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        fleet = Fleet(clock, instances=2)
        store = spread_store(fleet, clock)
        fleet.away = {"b"}
        rule = rule_of()
        prospects = await store.look([Ask(rule, "a"), Ask(rule, "b"), Ask(rule, "c")])
        assert [one.remaining for one in prospects] == [10, 5, 10]
        assert [one.at_us < 0 for one in prospects] == [False, True, False]

    asyncio.run(scenario())


def spread_store(fleet: Fleet, clock: FakeClock) -> FallingBackLimitStore:
    return FallingBackLimitStore(fleet, fleet, clock, spread=True)


def test_limits_whose_server_answers_are_decided_there_while_others_are_away() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        fleet = Fleet(clock, instances=2)
        store = spread_store(fleet, clock)
        fleet.away = {"away"}
        rule = rule_of()

        assert not store.reaches(rule, "away")
        for _ in range(4):
            there, here = await store.decide([Ask(rule, "there", 2), Ask(rule, "away")])
            assert (there.allowed, here.allowed) == (True, True)
            assert there.at_us >= 0 > here.at_us
        there, here = await store.decide([Ask(rule, "there", 3), Ask(rule, "away")])
        assert (there.allowed, there.remaining) == (False, 2)
        assert (here.allowed, here.remaining) == (True, 1), "what the local one took is given back"
        assert store.at_once([Ask(rule, "away")]) is not None, "nobody has to be waited for"
        assert store.at_once([Ask(rule, "away"), Ask(rule, "there")]) is None

        there, here = await store.decide([Ask(rule, "there"), Ask(rule, "away")])
        assert (there.allowed, there.remaining) == (True, 2), (
            "nothing is spent there when the local one refuses"
        )
        assert not here.allowed

    asyncio.run(scenario())


def test_places_that_a_refused_request_took_here_are_free_again() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        fleet = Fleet(clock)
        store = spread_store(fleet, clock)
        fleet.away = {"away"}
        places = LimitRule(name="c", algorithm=Algorithm.CONCURRENCY, max=1)
        denied, shadow = rule_of(1), replace(rule_of(1, name="s"), mode=Mode.SHADOW)
        await store.decide([Ask(denied, "there"), Ask(shadow, "away")])

        for holder in ("a", "b"):
            told = await store.decide(
                [Ask(places, "away", 1, holder), Ask(denied, "there"), Ask(shadow, "away")]
            )
            assert [one.allowed for one in told] == [True, False, False]

    asyncio.run(scenario())


def test_a_part_that_comes_back_is_charged_and_the_others_are_not_asked_for_it() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        fleet = Fleet(clock)
        store = spread_store(fleet, clock)
        rule = rule_of()
        fleet.away = {"one", "two"}
        for key in ("one", "two", "two"):
            assert (await store.decide([Ask(rule, key)]))[0].allowed
        clock.passed_us += 300_000
        await store.decide([Ask(rule, "there")])
        await settle()
        assert fleet.adjusted == []

        fleet.away = {"one"}
        clock.passed_us += 300_000
        await store.decide([Ask(rule, "there")])
        await settle()
        assert [(change.op, change.key, change.amount) for change in fleet.adjusted] == [
            (Op.CHARGE, "two", 2)
        ]
        assert len(store.owed) == 1
        await store.decide([Ask(rule, "there")])
        await settle()
        assert len(fleet.adjusted) == 1, "nobody else has come back"

    asyncio.run(scenario())


def test_a_cluster_that_was_away_as_a_whole_is_charged_too() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        fleet = Fleet(clock)
        store = spread_store(fleet, clock)
        fleet.up = False
        await store.decide([Ask(rule_of(), "k", 3)])
        fleet.up = True
        await store.decide([Ask(rule_of(), "other")])
        await settle()

        assert (store.charged, store.owed) == (3, {})

    asyncio.run(scenario())


@pytest.mark.parametrize(("sent", "charged"), [(False, 1), (True, 0)])
def test_a_call_that_was_never_sent_is_charged_later_and_one_that_may_have_run_is_not(
    sent: bool, charged: int
) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        fleet = Fleet(clock)
        store = FallingBackLimitStore(fleet, fleet, clock)
        fleet.fault = StoreUnavailable("cut", sent=sent)
        await store.decide([Ask(rule_of(), "k")])
        fleet.fault = None

        await store.decide([Ask(rule_of(), "k", 0)])
        await settle()

        assert store.charged == charged

    asyncio.run(scenario())
