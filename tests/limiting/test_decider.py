"""Decisions as the fleet sees them: exceptions, remembered refusals, the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.core.limits import (
    NEVER,
    NOT_ASKED,
    Algorithm,
    Alignment,
    Ask,
    Change,
    Decision,
    LimitRule,
    Mode,
    Op,
)
from silence_gateway.core.prospect import Prospect
from silence_gateway.core.rates import Rate, parse_rate
from silence_gateway.errors import StoreUnavailable
from silence_gateway.limiting.decider import Decider
from silence_gateway.limiting.overrides import Overrides
from silence_gateway.stores.limits_memory import MemoryLimitStore
from silence_gateway.stores.memory import MemoryHub, MemoryStore
from silence_gateway.testing import settle
from silence_gateway.testing.clock import FakeClock
from silence_gateway.testing.distant_limits import DistantLimitStore

SECOND_US = 1_000_000


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 20))


def rule_of(
    rate: str = "5/minute",
    algorithm: Algorithm = Algorithm.SLIDING_WINDOW,
    *,
    name: str = "l",
    mode: Mode = Mode.ENFORCE,
) -> LimitRule:
    return LimitRule(name=name, algorithm=algorithm, rate=parse_rate(rate), mode=mode)


RULE = rule_of()


class Instances:
    """Instances of one fleet over one distant store."""

    def __init__(self, number: int = 2) -> None:
        self.clock = FakeClock()
        self.hub = MemoryHub(self.clock)
        self.store = DistantLimitStore(self.clock)
        self.deciders = [self.new() for _ in range(number)]

    def new(self) -> Decider:
        own = MemoryStore(self.hub)
        overrides = Overrides(own.board, self.clock)
        decider = Decider(self.store, self.clock, overrides=overrides)
        overrides.on_changed = decider.denials.clear
        overrides.start()
        decider.denials.start(own.bus)
        return decider


async def ask(decider: Decider, *asks: Ask) -> list[Decision]:
    """Ask as the doors do."""
    decisions = decider.at_once(asks)
    return list(await decider.decide(asks) if decisions is None else decisions)


async def use_up(decider: Decider, rule: LimitRule = RULE, key: str = "k") -> Decision:
    """Spend until the limit refuses."""
    while True:
        [decision] = await ask(decider, Ask(rule, key))
        if not decision.allowed:
            return decision


# -- remembered refusals ------------------------------------------------------------------------------


def test_a_client_that_hammers_a_limit_is_refused_without_the_store() -> None:
    async def scenario() -> None:
        fleet = Instances(1)
        refused = await use_up(fleet.deciders[0])
        trips = fleet.store.trips
        await fleet.clock.advance(20)
        told = [await ask(fleet.deciders[0], Ask(RULE, "k")) for _ in range(50)]

        assert fleet.store.trips == trips
        assert {one[0].retry_after_us for one in told} == {refused.retry_after_us - 20 * SECOND_US}
        await fleet.clock.advance(40)
        assert (await ask(fleet.deciders[0], Ask(RULE, "k")))[0].allowed

    run(scenario)


def test_a_store_that_answers_at_once_anyway_is_asked_every_time() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        decider = Decider(MemoryLimitStore(clock), clock, remembers=False)
        await use_up(decider)
        assert not (await decider.decide([Ask(RULE, "k")]))[0].allowed

        assert decider.denials.by_place == {}

    run(scenario)


def test_refusals_of_limits_whose_costs_are_settled_afterwards_are_not_remembered() -> None:
    async def scenario() -> None:
        fleet = Instances(1)
        decider, tokens = fleet.deciders[0], rule_of(name="tokens")
        decider.forgets(tokens)
        await use_up(decider, tokens)
        await use_up(decider)
        await ask(decider, Ask(tokens, "k"), Ask(RULE, "j"))

        assert list(decider.denials.by_place) == [(RULE.counter, "k")]

    run(scenario)


def test_an_uncertain_answer_is_no_refusal() -> None:
    async def scenario() -> None:
        fleet = Instances(1)
        fleet.store.away = True
        with pytest.raises(StoreUnavailable):
            await ask(fleet.deciders[0], Ask(RULE, "k"))

        assert fleet.deciders[0].denials.by_place == {}

    run(scenario)


@pytest.mark.parametrize("how", ["give back", "reset", "override"])
@pytest.mark.parametrize("fault", ["", "loses_answers"])
def test_what_one_instance_gives_back_no_other_refuses_for_any_longer(how: str, fault: str) -> None:
    """Also when it cannot tell whether the store has heard of it: it may have."""

    async def scenario() -> None:
        fleet = Instances()
        one, other = fleet.deciders
        [spent] = await ask(one, Ask(RULE, "k", 5))
        await use_up(one)
        await use_up(other)
        await fleet.clock.advance(0.01)
        if fault:
            setattr(fleet.store, fault, True)
        try:
            if how == "give back":
                await one.undo([Change(Op.GIVE_BACK, RULE, "k", 2, spent.at_us)])
            elif how == "reset":
                await one.reset(RULE, "k")
            elif one.overrides is not None:
                await one.overrides.put(RULE, "k", "k", {"rate": "9/minute"}, "test")
        except StoreUnavailable:
            assert fault
        fleet.store.loses_answers = False
        await settle()

        assert all([(await ask(decider, Ask(RULE, "k")))[0].allowed for decider in (other, one)])

    run(scenario)


def test_charging_more_ends_no_refusal() -> None:
    async def scenario() -> None:
        fleet = Instances(1)
        decider = fleet.deciders[0]
        await use_up(decider)
        [charged] = await decider.undo([Change(Op.CHARGE, RULE, "k", 1)])

        assert charged.used == 6
        assert decider.denials.by_place

    run(scenario)


ALGORITHMS = st.sampled_from(
    [
        {"algorithm": Algorithm.SLIDING_WINDOW},
        {"algorithm": Algorithm.SLIDING_WINDOW, "block_us": 2 * SECOND_US},
        {"algorithm": Algorithm.SLIDING_COUNTER},
        {"algorithm": Algorithm.TOKEN_BUCKET},
        {"algorithm": Algorithm.TOKEN_BUCKET, "burst": 2},
        {"algorithm": Algorithm.FIXED_WINDOW},
        {"algorithm": Algorithm.FIXED_WINDOW, "align": Alignment.FIRST_HIT},
    ]
)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), ALGORITHMS)
def test_a_remembered_refusal_never_outlasts_what_the_store_would_say(
    seed: int, count: int, algorithm: dict[str, Any]
) -> None:
    async def scenario() -> None:
        rng = Random(seed)
        fleet = Instances()
        rule = LimitRule(name="l", rate=Rate(count, SECOND_US), **algorithm)
        spent: list[tuple[int, int]] = []  # cost, and when
        asking: set[asyncio.Task[None]] = set()
        undoing: set[asyncio.Task[object]] = set()

        async def decide(decider: Decider, cost: int) -> None:
            [decision] = await decider.decide([Ask(rule, "k", cost)])
            if decision.allowed:
                spent.append((cost, decision.at_us))

        for _ in range(100):
            fleet.store.there_s, fleet.store.back_s = rng.choice(((0.0, 0.0), (0.02, 0.01), (0.01, 0.03)))
            decider, kind = rng.choice(fleet.deciders), rng.random()
            if kind < 0.05:
                undoing.add(asyncio.ensure_future(decider.reset(rule, "k")))
            elif kind < 0.15 and spent:
                cost, at_us = rng.choice(spent)
                changes = [Change(Op.GIVE_BACK, rule, "k", cost, at_us)]
                undoing.add(asyncio.ensure_future(decider.undo(changes)))
            else:
                cost = rng.randint(1, 2)
                if decider.denials.look([Ask(rule, "k", cost)], fleet.clock.monotonic_s()) is None:
                    asking.add(asyncio.ensure_future(decide(decider, cost)))
                elif not undoing:
                    now_us = fleet.store.memory.now_us()
                    assert not fleet.store.memory.judge(rule, "k", now_us, cost).allowed
            await fleet.clock.advance(rng.choice((0.0, 0.001, 0.01, 0.05, 0.3)))
            asking = {task for task in asking if not task.done()}
            # What somebody gives back is news to the others only once the store has confirmed it.
            undoing = {task for task in undoing if not task.done()}
        await fleet.clock.advance(1.0)
        await asyncio.gather(*asking, *undoing)

    run(scenario)


# -- exceptions for single keys -----------------------------------------------------------------------


async def except_key(fleet: Instances, rule: LimitRule, key: str = "k", **said: Any) -> Decider:
    """Make an exception on the first instance; returns another one, that has heard of it."""
    overrides = fleet.deciders[0].overrides
    assert overrides is not None
    await overrides.put(rule, key, key, said, "test")
    await settle()
    return fleet.deciders[-1]


def test_a_key_with_another_rate_is_judged_by_it_and_the_others_are_not() -> None:
    async def scenario() -> None:
        fleet = Instances()
        decider = await except_key(fleet, RULE, rate="2/minute")
        answers = await ask(decider, Ask(RULE, "k", 2), Ask(rule_of(name="other"), "k"))

        assert [(one.limit, one.remaining) for one in answers] == [(2, 0), (5, 4)]
        assert not (await ask(decider, Ask(RULE, "k")))[0].allowed
        assert (await ask(decider, Ask(RULE, "j")))[0].limit == 5

    run(scenario)


def test_a_key_that_is_free_from_a_limit_is_neither_counted_nor_asked_about() -> None:
    async def scenario() -> None:
        fleet = Instances()
        decider = await except_key(fleet, RULE, unlimited=True)
        asks = [Ask(RULE, "k", 9), Ask(rule_of(name="other"), "k", 4)]

        assert await ask(decider, asks[0]) == [Decision(True, 5, 5, 0, 0)]
        assert fleet.store.trips == 0
        assert [(one.allowed, one.remaining) for one in await ask(decider, *asks)] == [(True, 5), (True, 1)]
        assert fleet.store.used(RULE, "k") == 0
        assert decider.counts(asks) == [False, True]
        assert decider.counts([Ask(RULE, "j")]) == [True]

    run(scenario)


def test_a_blocked_key_is_refused_without_asking_and_the_other_limits_spend_nothing() -> None:
    async def scenario() -> None:
        fleet = Instances()
        decider = await except_key(fleet, RULE, blocked=True)
        told = await ask(decider, Ask(rule_of(name="other"), "k"), Ask(RULE, "k"))

        assert told == [Decision(True, 5, NOT_ASKED, 0, 0), Decision(False, 5, 0, NEVER, 0)]
        assert await ask(decider, Ask(RULE, "k", 0)) == [Decision(True, 5, 0, 0, 0)]
        assert fleet.store.trips == 0

    run(scenario)


def test_a_block_with_an_end_says_when_that_is_and_then_ends() -> None:
    async def scenario() -> None:
        fleet = Instances()
        decider = await except_key(fleet, RULE, blocked=True, ttl=60)
        await fleet.clock.advance(20)
        wait_us = 40 * SECOND_US

        assert await ask(decider, Ask(RULE, "k")) == [Decision(False, 5, 0, wait_us, wait_us)]
        assert await ask(decider, Ask(RULE, "k", 0)) == [Decision(True, 5, 0, 0, wait_us)]
        await fleet.clock.advance(40.1)
        assert (await ask(decider, Ask(RULE, "k")))[0].allowed

    run(scenario)


def test_a_shadow_limit_blocks_nobody() -> None:
    async def scenario() -> None:
        fleet = Instances()
        shadow = rule_of(mode=Mode.SHADOW)
        decider = await except_key(fleet, shadow, blocked=True)

        assert (await ask(decider, Ask(shadow, "k")))[0].allowed

    run(scenario)


def test_an_exception_ends_what_was_remembered_by_the_rule_before_it_and_after_it() -> None:
    async def scenario() -> None:
        fleet = Instances()
        await use_up(fleet.deciders[1])
        await fleet.clock.advance(0.01)
        decider = await except_key(fleet, RULE, rate="7/minute")
        assert (await use_up(decider)).limit == 7

        assert decider.overrides is not None
        await fleet.clock.advance(0.01)
        await decider.overrides.remove("l", "k", "k", "test")
        await settle()
        assert (await ask(decider, Ask(RULE, "k")))[0].limit == 5

    run(scenario)


def test_what_is_charged_given_back_and_reset_is_where_the_exception_counts() -> None:
    """A bucket with another rate counts in another place."""

    async def scenario() -> None:
        fleet = Instances()
        bucket = rule_of("6/minute", Algorithm.TOKEN_BUCKET)
        await ask(fleet.deciders[0], Ask(bucket, "k", 3))
        decider = await except_key(fleet, bucket, rate="60/hour", burst=50)
        [spent] = await ask(decider, Ask(bucket, "k", 10))
        assert (spent.limit, spent.remaining) == (50, 40)

        assert (await decider.adjust([Change(Op.CHARGE, bucket, "k", 5)]))[0].used == 15
        await decider.undo([Change(Op.GIVE_BACK, bucket, "k", 4, spent.at_us)])
        assert (await ask(decider, Ask(bucket, "k", 0)))[0].remaining == 39
        assert (await ask(decider, Ask(bucket, "j", 0)))[0].limit == 6
        assert await decider.reset(bucket, "k")
        assert (await ask(decider, Ask(bucket, "k", 0)))[0].remaining == 50
        assert fleet.store.used(bucket, "k") == 0, "also where it counts without the exception"
        assert not await decider.reset(bucket, "k")

    run(scenario)


def test_without_exceptions_nothing_is_looked_up() -> None:
    clock = FakeClock()
    decider = Decider(MemoryLimitStore(clock), clock)

    assert decider.counts([Ask(RULE, "k")]) == [True]
    assert decider.rule_of(RULE, "k") is RULE


# -- looking ------------------------------------------------------------------------------------------


async def look(decider: Decider, cost: int = 1, rule: LimitRule = RULE) -> Prospect:
    [prospect] = await decider.look([Ask(rule, "k", cost)])
    return prospect


def test_looking_tells_what_would_be_decided_whatever_holds_for_the_key_and_spends_nothing() -> None:
    async def scenario() -> None:
        fleet = Instances(1)
        [decider] = fleet.deciders
        overrides = decider.overrides
        assert overrides is not None
        for said in (
            {"rate": "2/minute"},
            {"unlimited": True},
            {"blocked": True},
            {"blocked": True, "ttl": 9},
        ):
            await overrides.put(RULE, "k", "k", said, "test")
            told = [await look(decider) for _ in range(4)][-1]
            [decision] = await ask(decider, Ask(RULE, "k"))
            assert (told.passes, told.limit) == (decision.allowed, decision.limit), said
            assert told.retry_after_us == decision.retry_after_us, said
            assert (await look(decider, 0)).passes, "a look at what is left always passes"
        assert fleet.store.used(RULE, "k") == 1, "and nothing but what was decided has been spent"

    run(scenario)


def test_looking_tells_of_a_refusal_that_is_remembered_here_though_the_store_has_forgotten() -> None:
    """Somebody removed the key by hand: this instance goes on to refuse for a while, and says so."""

    async def scenario() -> None:
        fleet = Instances(1)
        [decider] = fleet.deciders
        await ask(decider, Ask(RULE, "k", 5))
        assert not (await ask(decider, Ask(RULE, "k")))[0].allowed
        await fleet.store.reset(RULE, "k")
        await fleet.clock.advance(20)

        [refused] = await ask(decider, Ask(RULE, "k"))
        told = await look(decider)
        assert (told.passes, refused.allowed) == (False, False)
        assert (told.retry_after_us, told.remaining) == (refused.retry_after_us, 0)
        assert (await look(decider, 2)).passes, "of another cost nothing is remembered"
        assert (await look(decider, 6)).retry_after_us == NEVER
        assert (await look(decider, rule=rule_of(mode=Mode.SHADOW))).passes
        await fleet.clock.advance(40)
        assert (await look(decider)).passes
        assert decider.denials.answered == 1, "looking is not counted as an answer"

    run(scenario)
