"""The limiter that needs no store."""

from __future__ import annotations

import asyncio

import pytest

from silence_gateway.core.http import Request
from silence_gateway.core.limits import Algorithm, LimitRule
from silence_gateway.core.rates import parse_rate
from silence_gateway.errors import RateLimited
from silence_gateway.limiting.limit_spec import LimitSpec
from silence_gateway.limiting.limiter import Limiter
from silence_gateway.testing.clock import FakeClock
from silence_gateway.testing.distant_limits import DistantLimitStore
from silence_gateway.testing.limiters import local_limiter

RULE = LimitRule(name="l", algorithm=Algorithm.SLIDING_WINDOW, rate=parse_rate("1/minute"))
SPECS = [LimitSpec(rule=RULE, any=True)]


async def ask(limiter: Limiter) -> None:
    matched = limiter.match("GET", "/", "")
    assert matched is not None
    await limiter.admit(Request("GET", "/", {}, peer="ann"), matched)


def test_it_counts_in_this_process_on_a_clock_that_stands_still_or_moves_when_told() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        for limiter in (local_limiter(SPECS), local_limiter(SPECS, clock=clock)):
            await ask(limiter)
            with pytest.raises(RateLimited):
                await ask(limiter)
        await clock.advance(60)
        await ask(limiter)

    asyncio.run(scenario())


def test_it_counts_in_a_store_that_a_test_brings() -> None:
    async def scenario() -> None:
        store = DistantLimitStore(FakeClock())
        await ask(local_limiter(SPECS, store=store, clock=store.clock))

        assert store.used(RULE, "ann") == 1

    asyncio.run(scenario())
