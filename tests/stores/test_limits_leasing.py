"""Leases of hot keys: what they may let through too much, and that nothing gets lost in them."""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.core.limits import (
    NEVER,
    NOT_ASKED,
    Algorithm,
    Ask,
    Change,
    Decision,
    LimitRule,
    Mode,
    Op,
)
from silence_gateway.core.rates import Rate
from silence_gateway.errors import StoreUnavailable
from silence_gateway.stores import limits_leasing
from silence_gateway.stores.limits_lease import HOLD_S
from silence_gateway.stores.limits_leasing import KEPT_IDLE_S, LOOK_EVERY_S, LeasingLimitStore
from silence_gateway.testing import settle
from silence_gateway.testing.clock import FakeClock
from silence_gateway.testing.distant_limits import DistantLimitStore
from silence_gateway.testing.limit_checks import check_limit_store

LONG_S = 3600.0


def rule_of(
    count: int = 10_000,
    lease: int = 50,
    *,
    window_s: float = LONG_S,
    algorithm: Algorithm = Algorithm.SLIDING_WINDOW,
    name: str = "r",
    mode: Mode = Mode.ENFORCE,
) -> LimitRule:
    rate = Rate(count, round(window_s * 1_000_000))
    return LimitRule(name=name, algorithm=algorithm, rate=rate, lease=lease, mode=mode)


async def spend(store: LeasingLimitStore, rule: LimitRule, cost: int = 1, key: str = "k") -> bool:
    """Ask as the limiter does: without waiting if that is enough."""
    asks = [Ask(rule, key, cost)]
    decisions = store.at_once(asks) or await store.decide(asks)
    return decisions[0].allowed


def held(store: LeasingLimitStore) -> int:
    return sum(lease.held for lease in store.leases.values())


async def warm(store: LeasingLimitStore, rule: LimitRule) -> None:
    """Ask for a key until the store is asked for a whole lease at a time."""
    for _ in range(10 * rule.lease):
        await spend(store, rule)
    assert store.leases[rule.counter, "k"].size == rule.lease


async def warm_up_to(store: LeasingLimitStore, rule: LimitRule, uses: int) -> None:
    """Spend at least so many, and all that is held then."""
    for _ in range(uses):
        await spend(store, rule)
    while held(store):
        await spend(store, rule)


# -- what it promises ---------------------------------------------------------------------------------


def test_it_keeps_every_promise_of_a_limit_store() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        await check_limit_store(LeasingLimitStore(DistantLimitStore(clock), clock), clock.advance)

    asyncio.run(scenario())


def test_what_is_held_here_is_told_as_left_and_is_not_spent_by_telling() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        store = LeasingLimitStore(DistantLimitStore(clock), clock)
        rule = rule_of(1000, 20)
        await warm(store, rule)
        await spend(store, rule)
        mine = held(store)
        assert mine > 0
        # Somebody else takes all that the store has left.
        left = 1000 - store.shared.used(rule, "k")  # type: ignore[attr-defined]
        await store.shared.adjust([Change(Op.CHARGE, rule, "k", left)])

        told = await store.look([Ask(rule, "k", cost) for cost in (1, mine, mine + 1)])
        assert [one.remaining for one in told] == [mine] * 3
        assert [one.passes for one in told] == [True, True, False]
        assert held(store) == mine
        assert [await spend(store, rule) for _ in range(mine + 1)] == [True] * mine + [False]

    asyncio.run(scenario())


class Fleet:
    """Some instances over one store, whatever happens to them, and when what they let through passed."""

    def __init__(self, rule: LimitRule, instances: int) -> None:
        self.rule = rule
        self.clock = FakeClock()
        self.server = DistantLimitStore(self.clock)
        self.stores = [self.new() for _ in range(instances)]
        self.running: list[asyncio.Task[None]] = []
        self.stopping: list[asyncio.Task[None]] = []
        self.passed: list[tuple[int, int]] = []  # when, and how much
        self.abandoned = 0

    def new(self) -> LeasingLimitStore:
        return LeasingLimitStore(
            self.server,
            self.clock,
            instances=lambda: len(self.stores),
            up=lambda: not self.server.away,
        )

    async def caller(self, store: LeasingLimitStore, cost: int) -> None:
        try:
            allowed = await spend(store, self.rule, cost)
        except StoreUnavailable:
            return
        except asyncio.CancelledError:
            self.abandoned += cost
            raise
        assert all(lease.held <= self.rule.lease for lease in store.leases.values())
        if allowed:
            self.passed.append((self.clock.passed_us, cost))

    async def step(self, kind: str, who: int, amount: int) -> None:
        """Do one thing to the fleet."""
        match kind:
            case "ask":
                for turn in range(amount):
                    work = self.caller(self.stores[who], 1 + turn % 2)
                    self.running.append(asyncio.get_running_loop().create_task(work))
                await settle(1)
            case "leave":
                for task in self.running[-amount:]:
                    task.cancel()
            case "restart":
                stopped, self.stores[who] = self.stores[who], self.new()
                self.stopping.append(asyncio.get_running_loop().create_task(stopped.stop()))
            case "crash":
                self.stores[who] = self.new()
            case "slow":
                self.server.there_s = amount / 1_000
            case "fault":
                self.server.away, self.server.loses_answers = amount % 3 == 1, amount % 3 == 2
        self.running = [task for task in self.running if not task.done()]

    async def end(self) -> None:
        """Let everything end as it should, with the store there."""
        self.server.away = self.server.loses_answers = False
        await self.clock.advance(1.0)
        await asyncio.gather(*self.running, return_exceptions=True)
        self.stopping += [asyncio.get_running_loop().create_task(store.stop()) for store in self.stores]
        await self.clock.advance(1.0)
        await asyncio.gather(*self.stopping)

    def most_in_any_window(self) -> int:
        window_us = self.rule.window_us
        return max(
            (
                sum(cost for at_us, cost in self.passed if end_us - window_us < at_us <= end_us)
                for end_us, _ in self.passed
            ),
            default=0,
        )


TROUBLE = ("slow", "leave", "restart", "crash", "fault")


async def live(fleet: Fleet, seed: int, *trouble: str, steps: int = 60) -> None:
    """Let a fleet live under heavy demand that comes and goes, with *trouble* in one step of four."""
    rng = Random(seed)
    for _ in range(steps):
        kind = rng.choice(trouble) if trouble and rng.random() < 0.25 else "ask"
        await fleet.step(kind, rng.randrange(len(fleet.stores)), rng.randint(1, 12))
        # Mostly a busy key; now and then a pause in which leases run out, or a window passes.
        await fleet.clock.advance(rng.choice((0.0, 0.001, 0.01, 0.03, 0.2)))
    await fleet.end()


SEEDS = st.integers(0, 2**32)
INSTANCES = st.integers(1, 4)


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(10, 60), st.integers(2, 10), INSTANCES)
def test_together_they_let_at_most_limit_plus_a_lease_each_through_in_any_window(
    seed: int, count: int, lease: int, instances: int
) -> None:
    async def scenario() -> None:
        fleet = Fleet(rule_of(count, lease, window_s=0.3), instances)
        await live(fleet, seed, *TROUBLE)

        assert fleet.most_in_any_window() <= count + instances * lease

    asyncio.run(scenario())


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(10, 60), st.integers(2, 10), INSTANCES)
def test_a_bucket_lets_at_most_burst_plus_rate_plus_a_lease_each_through(
    seed: int, count: int, lease: int, instances: int
) -> None:
    async def scenario() -> None:
        fleet = Fleet(rule_of(count, lease, window_s=0.3, algorithm=Algorithm.TOKEN_BUCKET), instances)
        await live(fleet, seed, *TROUBLE)

        # Within one window of the rate a bucket lets its burst and the rate through.
        assert fleet.most_in_any_window() <= 2 * count + instances * lease

    asyncio.run(scenario())


@settings(max_examples=25, deadline=None)
@given(
    SEEDS,
    st.integers(10, 500),
    st.integers(2, 10),
    INSTANCES,
    st.sampled_from([Algorithm.SLIDING_WINDOW, Algorithm.SLIDING_COUNTER, Algorithm.FIXED_WINDOW]),
)
def test_what_was_taken_is_spent_or_given_back(
    seed: int, count: int, lease: int, instances: int, algorithm: Algorithm
) -> None:
    async def scenario() -> None:
        fleet = Fleet(rule_of(count, lease, window_s=86_400, algorithm=algorithm), instances)
        await live(fleet, seed, "slow", "restart")

        assert fleet.server.used(fleet.rule, "k") == sum(cost for _, cost in fleet.passed) <= count

    asyncio.run(scenario())


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(10, 500), st.integers(2, 10), INSTANCES)
def test_who_leaves_costs_no_more_than_was_asked_for(
    seed: int, count: int, lease: int, instances: int
) -> None:
    """A use that the store was asked for directly may be spent though its caller left, as without leases."""

    async def scenario() -> None:
        fleet = Fleet(rule_of(count, lease), instances)
        await live(fleet, seed, "slow", "leave", "restart")

        passed = sum(cost for _, cost in fleet.passed)
        assert passed <= fleet.server.used(fleet.rule, "k") <= min(count, passed + fleet.abandoned)

    asyncio.run(scenario())


def test_the_bound_is_nearly_reached_by_what_is_held_when_the_window_begins() -> None:
    async def scenario() -> None:
        fleet = Fleet(rule_of(200, 10, window_s=1.0), 3)

        async def ask(times: int) -> None:
            for _ in range(times):
                for store in fleet.stores:
                    await fleet.caller(store, 1)

        await ask(16)
        kept = sum(map(held, fleet.stores))
        await fleet.clock.advance(0.09)
        # A window begins: what is held is spent, then all that the limit has, and what the start had used.
        await ask(100)
        await fleet.clock.advance(0.91)
        await ask(100)

        assert kept == 3 * 9
        # Not quite: what is given back is taken from the oldest uses, so that less is free in the end.
        assert 200 + 20 < fleet.most_in_any_window() <= 200 + kept

    asyncio.run(scenario())


# -- how much at a time -------------------------------------------------------------------------------


def test_a_hot_key_is_taken_more_of_at_a_time_until_the_lease_is_full() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        server = DistantLimitStore(clock)
        store = LeasingLimitStore(server, clock)
        rule = rule_of(lease=50)
        for _ in range(1000):
            assert await spend(store, rule)

        taken = [change.amount for change in server.changes]
        assert taken[:6] == [2, 4, 8, 16, 32, 50]
        assert set(taken[6:]) == {50}
        assert server.trips < 1000 / 50 + 10
        assert server.used(rule, "k") == 1000 + held(store) == store.taken + 1
        assert store.leased == 999

    asyncio.run(scenario())


def test_a_key_that_is_asked_for_now_and_then_is_decided_in_the_store() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        server = DistantLimitStore(clock)
        store = LeasingLimitStore(server, clock)
        for _ in range(20):
            assert await spend(store, rule_of())
            await clock.advance(0.2)

        assert server.changes == []
        assert store.leased == 0

    asyncio.run(scenario())


def test_what_is_not_spent_in_time_is_given_back_and_less_is_taken_the_next_time() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        server = DistantLimitStore(clock)
        store = LeasingLimitStore(server, clock)
        rule = rule_of()
        await warm(store, rule)
        await spend(store, rule)
        spent, unspent = server.used(rule, "k") - held(store), held(store)

        await clock.advance(HOLD_S + LOOK_EVERY_S)

        assert unspent
        assert (held(store), server.used(rule, "k")) == (0, spent)
        assert store.leases[rule.counter, "k"].size == 25
        assert (store.returned, store.lost) == (unspent, 0)

    asyncio.run(scenario())


def test_uses_of_a_short_window_are_held_for_a_tenth_of_it() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        server = DistantLimitStore(clock)
        store = LeasingLimitStore(server, clock)
        rule = rule_of(window_s=2.0)
        await warm(store, rule)
        await spend(store, rule)
        assert held(store)

        await clock.advance(0.2 + LOOK_EVERY_S)

        assert held(store) == 0

    asyncio.run(scenario())


def test_the_last_uses_of_a_limit_are_decided_in_the_store() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        server = DistantLimitStore(clock)
        stores = [LeasingLimitStore(server, clock, instances=lambda: 2) for _ in range(2)]
        rule = rule_of(400, 50)
        passed = 0
        while server.used(rule, "k") < 399:
            for store in stores:
                passed += await spend(store, rule)

        assert [store.leases[rule.counter, "k"].size for store in stores] == [1, 1]
        while held(stores[0]) or held(stores[1]):
            await clock.advance(HOLD_S)
        passed += sum([await spend(stores[turn % 2], rule) for turn in range(500)])
        assert passed == 400, "nothing was kept from anybody, and nothing too much let through"

    asyncio.run(scenario())


def test_a_lease_of_a_key_nobody_asks_for_any_more_is_forgotten() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        store = LeasingLimitStore(DistantLimitStore(clock), clock)
        await warm(store, rule_of())
        await clock.advance(KEPT_IDLE_S + HOLD_S + LOOK_EVERY_S)

        assert store.leases == {}
        assert store.timer is None

    asyncio.run(scenario())


def test_a_flood_of_keys_is_decided_in_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits_leasing, "MAX_LEASES", 3)

    async def scenario() -> None:
        clock = FakeClock()
        store = LeasingLimitStore(DistantLimitStore(clock), clock)
        for key in ["a", "b", "x" * 10_000, "c", "d"] * 5:
            assert await spend(store, rule_of(), key=key)

        assert {key for _, key in store.leases} == {"a", "b", "c"}

    asyncio.run(scenario())


def test_a_cost_that_no_lease_holds_is_decided_in_the_store() -> None:
    """Taking as much of it as is left would leave nothing for anybody."""

    async def scenario() -> None:
        clock = FakeClock()
        server = DistantLimitStore(clock)
        store = LeasingLimitStore(server, clock)
        rule = rule_of(1000, 10)
        for _ in range(5):
            assert await spend(store, rule, 100)
        assert not await spend(store, rule, 600)
        [never] = await store.decide([Ask(rule, "k", 1001)])

        assert never.retry_after_us == NEVER
        assert (server.used(rule, "k"), held(store), server.changes) == (500, 0, [])

    asyncio.run(scenario())


def test_looking_takes_nothing() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        server = DistantLimitStore(clock)
        store = LeasingLimitStore(server, clock)
        rule = rule_of()
        await warm(store, rule)
        used = server.used(rule, "k")
        assert store.at_once([Ask(rule, "k", 0)]) is None
        [looked] = await store.decide([Ask(rule, "k", 0)])

        assert looked.remaining == rule.capacity - used

    asyncio.run(scenario())


# -- who waits for a take -----------------------------------------------------------------------------


def test_all_who_ask_while_uses_are_taken_wait_for_the_same_trip() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        server = DistantLimitStore(clock)
        store = LeasingLimitStore(server, clock)
        rule = rule_of()
        await warm_up_to(store, rule, 500)
        trips, server.there_s = server.trips, 0.001

        callers = [asyncio.ensure_future(spend(store, rule)) for _ in range(200)]
        await clock.advance(0.001)

        assert all([await caller for caller in callers])
        assert server.trips == trips + 1

    asyncio.run(scenario())


def test_who_comes_while_a_take_is_on_its_way_is_served_by_the_next_one() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        server = DistantLimitStore(clock)
        store = LeasingLimitStore(server, clock)
        rule = rule_of(lease=4)
        await warm_up_to(store, rule, 500)
        trips, server.there_s = server.trips, 0.002

        first = asyncio.ensure_future(spend(store, rule))
        await clock.advance(0.001)
        later = [asyncio.ensure_future(spend(store, rule)) for _ in range(100)]
        await clock.advance(0.003)

        assert await first
        assert all([await caller for caller in later])
        assert server.trips == trips + 2
        assert held(store) <= 4

    asyncio.run(scenario())


def test_what_was_taken_for_callers_who_left_is_given_back() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        server = DistantLimitStore(clock)
        store = LeasingLimitStore(server, clock)
        rule = rule_of(lease=4)
        await warm_up_to(store, rule, 500)
        used, server.there_s = server.used(rule, "k"), 0.001
        callers = [asyncio.ensure_future(spend(store, rule)) for _ in range(100)]
        await settle()
        for caller in callers[1:]:
            caller.cancel()

        await clock.advance(0.002)

        assert await callers[0]
        assert held(store) == 4
        assert server.used(rule, "k") == used + 1 + 4

    asyncio.run(scenario())


def test_who_leaves_in_the_moment_of_being_served_loses_nothing() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        server = DistantLimitStore(clock)
        store = LeasingLimitStore(server, clock)
        rule = rule_of(lease=4)
        await warm_up_to(store, rule, 500)
        caller = asyncio.ensure_future(spend(store, rule, 3))
        await settle(2)
        lease = store.leases[rule.counter, "k"]
        assert (lease.waiting, lease.held, caller.done()) == ([], 1, False)
        caller.cancel()
        await settle()

        assert caller.cancelled()
        assert lease.held == 4

    asyncio.run(scenario())


def test_near_the_end_those_who_wait_are_decided_exactly() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        server = DistantLimitStore(clock)
        store = LeasingLimitStore(server, clock)
        rule = rule_of(100, 10)
        await warm_up_to(store, rule, 20)
        server.memory.adjust_now([Change(Op.CHARGE, rule, "k", 70)])
        left, server.there_s = 100 - server.used(rule, "k"), 0.001

        callers = [asyncio.ensure_future(spend(store, rule)) for _ in range(50)]
        await clock.advance(0.01)

        assert sum([await caller for caller in callers]) == left
        assert (held(store), server.used(rule, "k")) == (0, 100)

    asyncio.run(scenario())


def test_who_leaves_while_it_is_decided_exactly_loses_nothing() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        server = DistantLimitStore(clock)
        store = LeasingLimitStore(server, clock)
        rule = rule_of(100, 10)
        await warm_up_to(store, rule, 20)
        server.memory.adjust_now([Change(Op.CHARGE, rule, "k", 100 - server.used(rule, "k"))])
        server.there_s = 0.001
        caller = asyncio.ensure_future(spend(store, rule, 4))
        await clock.advance(0.0015)
        assert not store.leases[rule.counter, "k"].waiting
        await server.memory.reset(rule, "k")
        caller.cancel()
        await clock.advance(0.01)

        assert caller.cancelled()
        assert server.used(rule, "k") == held(store) == 0

    asyncio.run(scenario())


# -- several limits at once ---------------------------------------------------------------------------


@pytest.mark.parametrize("refuser", ["leased", "plain"])
def test_a_request_that_another_limit_refuses_spends_nothing(refuser: str) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        server = DistantLimitStore(clock)
        store = LeasingLimitStore(server, clock)
        rule, tight = rule_of(), rule_of(5, 5 if refuser == "leased" else 0, name="tight")
        await warm(store, rule)
        server.memory.adjust_now([Change(Op.CHARGE, tight, "t", 5)])
        spent = server.used(rule, "k") - held(store)

        first, last = await store.decide([Ask(rule, "k", 2), Ask(tight, "t")])
        await settle()

        assert (first.allowed, last.allowed) == (True, False)
        assert first.remaining == rule.capacity - server.used(rule, "k") + held(store)
        assert server.used(rule, "k") - held(store) == spent
        assert server.used(tight, "t") == 5

    asyncio.run(scenario())


def test_what_a_key_that_is_not_hot_has_spent_for_nothing_goes_back_at_once() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        server = DistantLimitStore(clock)
        store = LeasingLimitStore(server, clock)
        rule, tight = rule_of(), rule_of(5, 0, name="tight")
        server.memory.adjust_now([Change(Op.CHARGE, tight, "t", 5)])
        await store.decide([Ask(rule, "k", 2), Ask(tight, "t")])
        await settle()

        assert (server.used(rule, "k"), held(store), store.returned) == (0, 0, 2)

    asyncio.run(scenario())


def test_limits_behind_a_lease_that_refuses_are_not_asked() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        server = DistantLimitStore(clock)
        store = LeasingLimitStore(server, clock)
        leased, plain = rule_of(5, 5), rule_of(5, 0, name="plain")
        server.memory.adjust_now([Change(Op.CHARGE, leased, "k", 5)])

        told = await store.decide([Ask(plain, "p"), Ask(leased, "k")])

        assert told[0] == Decision(True, 5, NOT_ASKED, 0, 0)
        assert not told[1].allowed
        assert server.used(plain, "p") == 0

    asyncio.run(scenario())


def test_a_shadow_limit_with_a_lease_refuses_nobody() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        server = DistantLimitStore(clock)
        store = LeasingLimitStore(server, clock)
        shadow, plain = rule_of(5, 5, mode=Mode.SHADOW), rule_of(50, 0, name="plain")
        answers = [await store.decide([Ask(shadow, "k"), Ask(plain, "p")]) for _ in range(8)]

        assert [told[0].allowed for told in answers] == [True] * 5 + [False] * 3
        assert all(told[1].allowed for told in answers)
        assert server.used(plain, "p") == 8

    asyncio.run(scenario())


def test_a_caller_who_leaves_between_two_limits_leaves_what_it_took() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        server = DistantLimitStore(clock)
        store = LeasingLimitStore(server, clock)
        one, other = rule_of(), rule_of(name="other")
        await warm(store, one)
        await warm(store, other)
        while store.leases[other.counter, "k"].held:
            await spend(store, other)
        if not store.leases[one.counter, "k"].held:
            await spend(store, one)
        before, server.there_s = store.leases[one.counter, "k"].held, 0.001
        caller = asyncio.ensure_future(store.decide([Ask(one, "k"), Ask(other, "k")]))
        await settle()
        assert store.leases[one.counter, "k"].held == before - 1
        caller.cancel()
        await clock.advance(0.002)

        assert store.leases[one.counter, "k"].held == before

    asyncio.run(scenario())


# -- trouble with the store ---------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["away", "loses_answers"])
def test_a_store_that_fails_is_heard_of_by_all_who_wait_and_the_lease_goes_on_after_it(fault: str) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        server = DistantLimitStore(clock)
        store = LeasingLimitStore(server, clock)
        rule = rule_of()
        await warm_up_to(store, rule, 500)
        setattr(server, fault, True)
        server.there_s = 0.001

        callers = [asyncio.ensure_future(spend(store, rule)) for _ in range(20)]
        await clock.advance(0.001)
        outcomes = await asyncio.gather(*callers, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 20
        assert not store.leases[rule.counter, "k"].taking

        setattr(server, fault, False)
        server.there_s = 0.0
        assert await spend(store, rule)
        assert held(store)

    asyncio.run(scenario())


def test_who_is_decided_exactly_hears_of_a_fault_too() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        server = DistantLimitStore(clock)
        store = LeasingLimitStore(server, clock)
        rule = rule_of(100, 10)
        await warm_up_to(store, rule, 20)
        server.memory.adjust_now([Change(Op.CHARGE, rule, "k", 100)])
        server.there_s = 0.001
        callers = [asyncio.ensure_future(spend(store, rule)) for _ in range(9)]
        await clock.advance(0.001)
        server.away = True
        await clock.advance(0.002)

        outcomes = await asyncio.gather(*callers, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 9

    asyncio.run(scenario())


def test_what_is_held_while_the_store_is_away_is_kept_and_given_back_on_its_return() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        server = DistantLimitStore(clock)
        store = LeasingLimitStore(server, clock, up=lambda: not server.away)
        rule = rule_of()
        await warm(store, rule)
        await spend(store, rule)
        spent, server.away = server.used(rule, "k") - held(store), True
        await clock.advance(5.0)
        assert held(store)

        server.away = False
        await clock.advance(LOOK_EVERY_S)

        assert (held(store), store.lost) == (0, 0)
        assert server.used(rule, "k") == spent

    asyncio.run(scenario())


def test_what_the_store_does_not_confirm_to_have_back_is_not_spent_again() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        server = DistantLimitStore(clock)
        store = LeasingLimitStore(server, clock)
        await warm(store, rule_of())
        await spend(store, rule_of())
        unspent, server.loses_answers = held(store), True
        await clock.advance(HOLD_S + LOOK_EVERY_S)

        assert unspent
        assert (held(store), store.lost, store.returned) == (0, unspent, 0)

    asyncio.run(scenario())


def test_a_mistake_in_the_store_leaves_nobody_waiting() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        server = DistantLimitStore(clock)
        store = LeasingLimitStore(server, clock)
        rule = rule_of()
        await warm_up_to(store, rule, 500)
        server.broken = RuntimeError("a bug")
        caller = asyncio.ensure_future(spend(store, rule))
        await settle(1)
        [taking] = store.background
        with pytest.raises(StoreUnavailable, match="nobody could say"):
            await caller
        with pytest.raises(RuntimeError, match="a bug"):
            await taking

    asyncio.run(scenario())


# -- reset and end ------------------------------------------------------------------------------------


def test_a_reset_forgets_what_is_held_too() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        server = DistantLimitStore(clock)
        store = LeasingLimitStore(server, clock)
        rule = rule_of()
        await warm(store, rule)
        await spend(store, rule)

        assert await store.reset(rule, "k")
        assert (held(store), server.used(rule, "k")) == (0, 0)
        assert not await store.reset(rule, "k")

    asyncio.run(scenario())


def test_what_is_given_back_is_told_so_that_nobody_is_refused_for_it() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        store = LeasingLimitStore(DistantLimitStore(clock), clock)
        told: list[tuple[LimitRule, str]] = []
        store.on_returned = told.extend
        rule = rule_of()
        await warm(store, rule)
        await spend(store, rule)
        await clock.advance(HOLD_S + LOOK_EVERY_S)

        assert told == [(rule, "k")]

    asyncio.run(scenario())


def test_stopping_gives_everything_back_in_calls_of_bearable_size() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        server = DistantLimitStore(clock)
        store = LeasingLimitStore(server, clock)
        rule = rule_of()
        keys = [f"k{number}" for number in range(250)]
        for _ in range(2):
            for key in keys:
                assert await spend(store, rule, key=key)
        assert held(store) == 250
        trips = server.trips
        await store.stop()

        assert server.trips == trips + 3
        assert sum(server.used(rule, key) for key in keys) == 500
        assert store.leases == {}
        assert store.timer is None

    asyncio.run(scenario())


def test_who_asks_while_it_stops_is_answered_by_the_store_and_nothing_is_held() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        server = DistantLimitStore(clock)
        store = LeasingLimitStore(server, clock)
        rule = rule_of()
        await warm(store, rule)
        spent, server.there_s = server.used(rule, "k") - held(store), 0.001
        stopping = asyncio.ensure_future(store.stop())
        await settle()
        callers = [asyncio.ensure_future(spend(store, rule)) for _ in range(5)]
        await clock.advance(0.01)
        await stopping

        assert all([await caller for caller in callers])
        assert server.used(rule, "k") == spent + 5
        assert store.leases == {}

    asyncio.run(scenario())
