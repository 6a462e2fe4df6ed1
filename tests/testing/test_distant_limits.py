"""The limit store some way off."""

from __future__ import annotations

import asyncio

import pytest

from silence_gateway.core.limits import Algorithm, Ask, Change, LimitRule, Op
from silence_gateway.core.rates import parse_rate
from silence_gateway.errors import StoreUnavailable
from silence_gateway.testing.clock import FakeClock
from silence_gateway.testing.distant_limits import DistantLimitStore
from silence_gateway.testing.limit_checks import check_limit_store

RULE = LimitRule(name="l", algorithm=Algorithm.SLIDING_WINDOW, rate=parse_rate("5/hour"))


def test_it_keeps_every_promise() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        await check_limit_store(DistantLimitStore(clock), clock.advance)

    asyncio.run(scenario())


def test_an_answer_takes_both_ways() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        store = DistantLimitStore(clock)
        store.there_s, store.back_s = 0.010, 0.005
        answer = asyncio.ensure_future(store.decide([Ask(RULE, "k", 2)]))
        await clock.advance(0.010)
        assert (store.used(RULE, "k"), answer.done()) == (2, False)
        await clock.advance(0.005)

        assert (await answer)[0].remaining == 3
        assert (await answer)[0].at_us == clock.now_us() - 5_000, "it was decided there"

    asyncio.run(scenario())


@pytest.mark.parametrize(("what", "used"), [("away", 0), ("loses_answers", 2)])
def test_it_fails_with_and_without_having_done_it(what: str, used: int) -> None:
    async def scenario() -> None:
        store = DistantLimitStore(FakeClock())
        setattr(store, what, True)
        with pytest.raises(StoreUnavailable):
            await store.decide([Ask(RULE, "k", 1)])
        with pytest.raises(StoreUnavailable):
            await store.adjust([Change(Op.CHARGE, RULE, "k", 1)])
        assert store.used(RULE, "k") == used
        with pytest.raises(StoreUnavailable):
            await store.reset(RULE, "k")

        assert store.used(RULE, "k") == 0
        assert store.trips == 3

    asyncio.run(scenario())


def test_it_may_have_a_bug() -> None:
    async def scenario() -> None:
        store = DistantLimitStore(FakeClock())
        store.broken = RuntimeError("a bug")
        with pytest.raises(RuntimeError, match="a bug"):
            await store.decide([Ask(RULE, "k")])

    asyncio.run(scenario())
