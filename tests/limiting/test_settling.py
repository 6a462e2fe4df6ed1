"""Costs that are known afterwards."""

from __future__ import annotations

import asyncio

import pytest

from silence_gateway.core.limits import Algorithm, Ask, Change, LimitRule, Op
from silence_gateway.core.rates import parse_rate
from silence_gateway.limiting.decider import Decider
from silence_gateway.limiting.settling import Settling
from silence_gateway.testing.clock import FakeClock
from silence_gateway.testing.distant_limits import DistantLimitStore

RULE = LimitRule(name="tokens", algorithm=Algorithm.SLIDING_WINDOW, rate=parse_rate("10/minute"))


def test_what_is_sent_is_settled_in_the_background_and_before_the_end() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        store = DistantLimitStore(clock)
        settling = Settling(Decider(store, clock))
        store.there_s = 0.01
        settling.send([Change(Op.CHARGE, RULE, "k", 3)])
        assert store.used(RULE, "k") == 0
        ending = asyncio.ensure_future(settling.stop())
        await clock.advance(0.02)
        await ending

        assert store.used(RULE, "k") == 3
        assert (settling.lost, settling.background) == (0, set())

    asyncio.run(scenario())


def test_what_the_store_does_not_hear_is_counted_and_nobody_fails() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        store = DistantLimitStore(clock)
        settling = Settling(Decider(store, clock))
        store.away = True
        settling.send([Change(Op.CHARGE, RULE, "k", 3), Change(Op.CHARGE, RULE, "l", 3)])
        await settling.stop()

        assert settling.lost == 2

    asyncio.run(scenario())


@pytest.mark.parametrize("known", [False, True], ids=["told-in-the-middle", "known-from-the-start"])
def test_what_is_given_back_ends_a_refusal_that_was_remembered(known: bool) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        store = DistantLimitStore(clock)
        decider = Decider(store, clock)
        if known:
            decider.forgets(RULE)
        settling = Settling(decider)
        asks = [Ask(RULE, "k", 10)]
        [spent] = await decider.decide(asks)
        assert not (await decider.decide(asks))[0].allowed
        assert (decider.at_once(asks) is None) is known
        settling.send([Change(Op.GIVE_BACK, RULE, "k", 10, spent.at_us)])
        await settling.stop()

        assert decider.at_once(asks) is None
        assert (await decider.decide(asks))[0].allowed

    asyncio.run(scenario())
