"""Limits in this process."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import replace

import pytest

from silence_gateway.core.limits import Algorithm, Ask, Change, LimitRule, Op
from silence_gateway.core.rates import Rate, parse_rate
from silence_gateway.stores.limits_memory import MAX_KEY_CHARS, MemoryLimitStore, kept_as
from silence_gateway.testing.clock import FakeClock
from silence_gateway.testing.limit_checks import check_limit_store

ONE_PER_SECOND = LimitRule(name="one", algorithm=Algorithm.SLIDING_WINDOW, rate=Rate(1, 1_000_000))
BUCKET = LimitRule(name="bucket", algorithm=Algorithm.TOKEN_BUCKET, rate=Rate(1, 1_000_000))


def test_it_keeps_every_promise() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        await check_limit_store(MemoryLimitStore(clock), clock.advance)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("rate", "now", "ends"),
    [
        ("3/hour", "2026-11-28T21:12:00", "2026-11-28T22:00:00"),
        ("3/day", "2026-11-28T21:12:00", "2026-11-29T00:00:00"),
        ("3/week", "2026-11-28T21:12:00", "2026-11-30T00:00:00"),
        ("3/month", "2026-11-28T21:12:00", "2026-12-01T00:00:00"),
    ],
)
def test_calendar_windows_end_when_the_calendar_says(rate: str, now: str, ends: str) -> None:
    """And not a whole window after this machine was started."""
    now_us, ends_us = (
        int(dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp()) * 1_000_000
        for text in (now, ends)
    )
    clock = FakeClock(now_us)
    store = MemoryLimitStore(clock)
    rule = LimitRule(name="f", algorithm=Algorithm.FIXED_WINDOW, rate=parse_rate(rate))

    assert store.decide_now([Ask(rule, "k")])[0].reset_us == ends_us - now_us
    clock.step_wall(-86_400)
    assert store.decide_now([Ask(rule, "k")])[0].remaining == 1, "a clock that is set gives nothing back"


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
            for number in range(100, 200):
                store.decide_now([Ask(rule, str(number))])

        assert store.keys_kept() == 200  # those of the others alone

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


def test_a_key_with_a_longer_window_than_its_limit_is_not_forgotten_before_that() -> None:
    """An exception may give one key another rate; a sliding window goes on with the same counter."""

    async def scenario() -> None:
        clock = FakeClock()
        store = MemoryLimitStore(clock)
        hourly = replace(ONE_PER_SECOND, rate=Rate(1, 3_600_000_000))
        assert hourly.counter == ONE_PER_SECOND.counter
        store.decide_now([Ask(hourly, "special")])
        for number in range(100):
            await clock.advance(1.0)
            store.decide_now([Ask(ONE_PER_SECOND, str(number))])

        assert not store.decide_now([Ask(hourly, "special")])[0].allowed
        assert store.keys_kept() < 20

    asyncio.run(scenario())


def test_long_keys_are_kept_as_their_hash_and_never_meet_another() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        store = MemoryLimitStore(clock)
        blocking = replace(ONE_PER_SECOND, name="b", block_us=60_000_000)
        places = LimitRule(name="c", algorithm=Algorithm.CONCURRENCY, max=1)
        long, other = "x" * (MAX_KEY_CHARS + 1), "x" * MAX_KEY_CHARS + "y"
        short = kept_as(long)
        assert isinstance(short, bytes)
        for key in (long, other, short.decode("latin-1"), short.hex()):
            for rule in (ONE_PER_SECOND, blocking):
                assert store.decide_now([Ask(rule, key)])[0].allowed
                assert not store.decide_now([Ask(rule, key)])[0].allowed
                assert not store.decide_now([Ask(rule, key), Ask(BUCKET, key)])[0].allowed
            assert store.decide_now([Ask(places, key, 1, "h")])[0].allowed
            [released] = store.adjust_now([Change(Op.RELEASE, places, key, holder="h")])
            assert released.amount == 1
            assert await store.reset(blocking, key)

        kept = [key for table in store.tables.values() for key in table]
        assert all(len(key) <= MAX_KEY_CHARS for key in kept)

    asyncio.run(scenario())
