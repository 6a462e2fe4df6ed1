"""Limits over several servers, each of which can only decide about its own slots."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.core.limits import Algorithm, Ask, Change, Decision, LimitRule, Mode, Op
from silence_gateway.core.prospect import Prospect
from silence_gateway.core.rates import Rate
from silence_gateway.errors import StoreFault, StoreUnavailable
from silence_gateway.stores.contracts import Script
from silence_gateway.stores.limit_batch import Waiting
from silence_gateway.stores.limits_cluster import ClusterLimitStore
from silence_gateway.stores.limits_memory import MemoryLimitStore
from silence_gateway.testing import settle
from silence_gateway.testing.clock import FakeClock
from silence_gateway.testing.limit_checks import check_limit_store

SERVERS = 3


class Nowhere:
    """A cluster that the store below never asks."""

    def run(self, _script: Script, _keys: Sequence[bytes], _args: Sequence[bytes | int]) -> Any:
        raise AssertionError

    def post(
        self,
        _script: Script,
        _keys: Sequence[bytes],
        _args: Sequence[bytes | int],
        _on_answer: Callable[[Any], None],
        _on_failure: Callable[[StoreFault], None],
    ) -> None:
        raise AssertionError

    def reaches(self, key: bytes) -> bool:
        return key.endswith(b"w")


class Servers(ClusterLimitStore):
    """The real one, over servers that are in this process and answer when the loop has turned."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(Nowhere(), "fleet")
        self.servers = [MemoryLimitStore(clock) for _ in range(SERVERS)]
        self.down: set[int] = set()
        self.calls: list[int] = []

    def server_of(self, rule: LimitRule, key: str) -> int:
        return self.slot_of(rule, key) % SERVERS

    def send(self, batch: list[Waiting]) -> None:
        places = {self.slot_of(ask.rule, ask.key) for asks, _ in batch for ask in asks}
        assert len(places) == 1, "a call stays in one slot"
        number = places.pop() % SERVERS
        self.calls.append(number)

        def answer() -> None:
            for asks, future in batch:
                if future.done():
                    continue
                if number in self.down:
                    future.set_exception(StoreUnavailable("away"))
                else:
                    future.set_result(self.servers[number].decide_now(asks))

        asyncio.get_running_loop().call_soon(answer)

    def give_back(self, changes: Sequence[Change]) -> None:
        [number] = {self.server_of(change.rule, change.key) for change in changes}
        self.given_back += len(changes)
        self.servers[number].adjust_now(changes)

    async def look(self, asks: Sequence[Ask]) -> Sequence[Prospect]:
        return [self.servers[self.server_of(ask.rule, ask.key)].look_now([ask])[0] for ask in asks]

    async def adjust(self, changes: Sequence[Change]) -> Any:
        return [
            self.servers[self.server_of(change.rule, change.key)].adjust_now([change])[0]
            for change in changes
        ]

    async def reset(self, rule: LimitRule, key: str) -> bool:
        return await self.servers[self.server_of(rule, key)].reset(rule, key)


def rule_of(count: int, name: str, mode: Mode = Mode.ENFORCE) -> LimitRule:
    return LimitRule(name=name, algorithm=Algorithm.SLIDING_WINDOW, rate=Rate(count, 1_000_000), mode=mode)


def keys_apart(store: Servers, rule: LimitRule, count: int = SERVERS) -> list[str]:
    """One key on each of the servers."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < count:
        found.setdefault(store.server_of(rule, f"k{number}"), f"k{number}")
        number += 1
    return list(found.values())


def test_it_keeps_every_promise() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        await check_limit_store(Servers(clock), clock.advance)

    asyncio.run(scenario())


RULES = [
    rule_of(3, "a"),
    rule_of(5, "b"),
    rule_of(1, "s", Mode.SHADOW),
    LimitRule(name="t", algorithm=Algorithm.TOKEN_BUCKET, rate=Rate(4, 1_000_000)),
    LimitRule(name="f", algorithm=Algorithm.FIXED_WINDOW, rate=Rate(4, 1_000_000)),
    LimitRule(name="n", algorithm=Algorithm.SLIDING_COUNTER, rate=Rate(4, 1_000_000)),
    LimitRule(name="c", algorithm=Algorithm.CONCURRENCY, max=2),
]
ASKS = st.lists(
    st.tuples(st.sampled_from(RULES), st.sampled_from(["x", "y", "z"]), st.integers(0, 3)),
    min_size=1,
    max_size=4,
    unique_by=lambda ask: (ask[0].name, ask[1]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(ASKS, st.integers(0, 30_000)), max_size=30))
def test_one_after_the_other_requests_are_decided_as_one_server_would(
    trace: list[tuple[list[tuple[LimitRule, str, int]], int]],
) -> None:
    """
    Within one window: a sliding window takes what is given back from its oldest uses, so what stays counts
    for longer than it would have without the reservation.
    """

    async def scenario() -> None:
        clock = FakeClock()
        many, one = Servers(clock), MemoryLimitStore(clock)
        for number, (wanted, gap_us) in enumerate(trace):
            clock.passed_us += gap_us
            asks = [
                Ask(rule, key, min(cost, 1) if rule.kind == "c" else cost, f"h{number}{key}")
                for rule, key, cost in wanted
            ]
            expected = one.decide_now(asks)
            told = await many.decide(asks)
            passes = all(each.allowed or ask.rule.shadow for ask, each in zip(asks, expected, strict=True))
            assert passes == all(
                each.allowed or ask.rule.shadow for ask, each in zip(asks, told, strict=True)
            )
            assert [each.remaining for each in told] == [each.remaining for each in expected]
            await settle()
            looks = [ask._replace(cost=0) for ask in asks]
            assert [each.remaining for each in await many.decide(looks)] == [
                each.remaining for each in one.decide_now(looks)
            ], "nothing more and nothing less is spent"

    asyncio.run(scenario())


def test_many_at_once_never_get_more_than_there_is_and_leave_nothing_reserved() -> None:
    async def scenario() -> None:
        store = Servers(FakeClock())
        wide, narrow = rule_of(50, "wide"), rule_of(7, "narrow")
        first, second, _ = keys_apart(store, wide)
        requests = [[Ask(wide, first), Ask(narrow, second)] for _ in range(40)]

        answers = await asyncio.gather(*(store.decide(asks) for asks in requests))
        await settle()

        passed = sum(all(told.allowed for told in each) for each in answers)
        assert passed == 7
        [left] = await store.decide([Ask(wide, first, 0)])
        assert left.remaining == 50 - passed
        assert (store.spread, store.given_back) == (40, 33)

    asyncio.run(scenario())


def test_requests_of_one_slot_share_a_call_and_long_queues_several() -> None:
    async def scenario() -> None:
        store = Servers(FakeClock())
        store.max_batch = 10
        rule = rule_of(100, "r")

        await asyncio.gather(*(store.decide([Ask(rule, "k")]) for _ in range(25)))

        assert len(store.calls) == 3

    asyncio.run(scenario())


def test_when_a_server_fails_the_request_fails_and_what_the_others_spent_stays() -> None:
    """It is decided without the store then; if it passes, it has been paid for."""

    async def scenario() -> None:
        store = Servers(FakeClock())
        rule = rule_of(5, "r")
        keys = keys_apart(store, rule)
        store.down = {store.server_of(rule, keys[0])}

        with pytest.raises(StoreUnavailable):
            await store.decide([Ask(rule, key) for key in keys])
        await settle()

        looks: Sequence[Decision] = await store.decide([Ask(rule, key, 0) for key in keys[1:]])
        assert [told.remaining for told in looks] == [4, 4]

    asyncio.run(scenario())


def test_what_is_reserved_is_given_back_though_the_caller_has_left() -> None:
    async def scenario() -> None:
        store = Servers(FakeClock())
        wide, narrow = rule_of(50, "wide"), rule_of(1, "narrow")
        first, second, _ = keys_apart(store, wide)
        await store.decide([Ask(narrow, second)])

        leaving = store.decide([Ask(wide, first), Ask(narrow, second)])
        leaving.cancel()
        await settle()

        [left] = await store.decide([Ask(wide, first, 0)])
        assert left.remaining == 50

    asyncio.run(scenario())


class Posting(Nowhere):
    """A cluster that confirms what it is told, or fails."""

    def __init__(self, fault: StoreFault | None = None) -> None:
        self.fault = fault

    def post(
        self,
        _script: Script,
        _keys: Sequence[bytes],
        _args: Sequence[bytes | int],
        on_answer: Callable[[Any], None],
        on_failure: Callable[[StoreFault], None],
    ) -> None:
        if self.fault is None:
            on_answer([1, 1, 0, 0])
        else:
            on_failure(self.fault)


@pytest.mark.parametrize("fault", [None, StoreUnavailable("away")])
def test_what_was_given_back_is_told_so_that_nobody_stays_refused_for_it(fault: StoreFault | None) -> None:
    store = ClusterLimitStore(Posting(fault), "f")
    told: list[tuple[LimitRule, str]] = []
    store.on_returned = told.extend
    rule, places = rule_of(5, "l"), LimitRule(name="c", algorithm=Algorithm.CONCURRENCY, max=2)
    store.give_back([Change(Op.GIVE_BACK, rule, "k", 1), Change(Op.RELEASE, places, "k", holder="h")])

    assert told == ([(rule, "k")] if fault is None else [])
    assert (store.given_back, store.lost) == (2, 0 if fault is None else 2)


def test_a_place_that_a_refused_request_took_is_free_again() -> None:
    async def scenario() -> None:
        store = Servers(FakeClock())
        places = LimitRule(name="c", algorithm=Algorithm.CONCURRENCY, max=1)
        denied = rule_of(1, "d")
        first, second, _ = keys_apart(store, denied)
        await store.decide([Ask(denied, second)])

        for holder in ("a", "b"):
            told = await store.decide([Ask(places, first, 1, holder), Ask(denied, second)])
            assert [one.allowed for one in told] == [True, False]
            await settle()

    asyncio.run(scenario())


def test_it_says_whose_server_answers() -> None:
    store = ClusterLimitStore(Nowhere(), "fleet")

    assert store.reaches(rule_of(1, "r"), "k")
    assert not store.reaches(RULES[3], "k")
