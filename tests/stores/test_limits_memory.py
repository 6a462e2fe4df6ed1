"""Limits in this process."""

from __future__ import annotations

import asyncio

from silence_gateway.core.limits import Algorithm, Ask, LimitRule
from silence_gateway.core.rates import Rate
from silence_gateway.stores.limits_memory import MemoryLimitStore
from silence_gateway.testing.clock import FakeClock
from silence_gateway.testing.limit_checks import check_limit_store

ONE_PER_SECOND = LimitRule(name="one", algorithm=Algorithm.SLIDING_WINDOW, rate=Rate(1, 1_000_000))
BUCKET = LimitRule(name="bucket", algorithm=Algorithm.TOKEN_BUCKET, rate=Rate(1, 1_000_000))


def test_it_keeps_every_promise() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        await check_limit_store(MemoryLimitStore(clock), clock.advance)

    asyncio.run(scenario())


def test_keys_that_are_over_are_forgotten_as_others_are_used() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        store = MemoryLimitStore(clock)
        for rule in (ONE_PER_SECOND, BUCKET):
            for number in range(100):
                store.decide_now([Ask(rule, str(number))])
        assert store.keys_kept() == 200
        await clock.advance(2.0)

        for rule in (ONE_PER_SECOND, BUCKET):
            for number in range(100, 150):
                store.decide_now([Ask(rule, str(number))])

        assert 100 <= store.keys_kept() < 120

    asyncio.run(scenario())


def test_beyond_its_room_it_forgets_the_key_unused_for_longest_and_counts_that() -> None:
    store = MemoryLimitStore(FakeClock(), max_keys=3)
    for key in "abcad":
        store.decide_now([Ask(ONE_PER_SECOND, key)])

    assert store.keys_kept() == 3
    assert store.evicted == 1
    assert store.decide_now([Ask(ONE_PER_SECOND, "a")])[0].allowed


def test_refused_and_looked_at_keys_take_no_room() -> None:
    store = MemoryLimitStore(FakeClock())
    for key in "abc":
        store.decide_now([Ask(ONE_PER_SECOND, key, 0), Ask(BUCKET, key, 2)])

    assert store.keys_kept() == 0
