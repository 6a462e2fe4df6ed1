"""One declared limit: waiting until it is allowed, and costs that are known afterwards."""

from __future__ import annotations

import asyncio

import pytest

from silence_gateway.errors import RateLimited
from silence_gateway.limiting.rate_limiter import RateLimiter
from silence_gateway.testing.clock import FakeClock


def test_who_waits_is_let_through_as_soon_as_it_is_allowed() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        async with RateLimiter(clock=clock) as limiter:
            limit = limiter.limit("a", "2/s")
            await limit.acquire("k", 2)
            waiting = asyncio.ensure_future(limiter.acquire("a", "k", 2, wait=True, timeout_s=1.0))
            await clock.advance(0.9)
            assert not waiting.done()
            await clock.advance(0.2)

            assert (await waiting).allowed
            assert (await limit.peek("k")).remaining == 0

    asyncio.run(scenario())


def test_all_who_wait_get_through_in_the_end() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        async with RateLimiter(clock=clock) as limiter:
            limit = limiter.limit("a", "10/s")
            waiting = [asyncio.ensure_future(limit.acquire("k", wait=True)) for _ in range(45)]
            passed = []
            for _ in range(5):
                await clock.advance(1.0)
                passed.append(sum(one.done() for one in waiting))

            assert passed == [10, 20, 30, 40, 45]

    asyncio.run(scenario())


def test_who_cannot_be_let_through_in_time_is_told_at_once() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        async with RateLimiter(clock=clock) as limiter:
            limit = limiter.limit("a", "1/minute")
            await limit.acquire("k")
            with pytest.raises(RateLimited) as late:
                await limit.acquire("k", wait=True, timeout_s=59)
            with pytest.raises(RateLimited) as never:
                await limit.acquire("k", 2, wait=True)

            assert (late.value.retry_after_s, never.value.retry_after_s) == (60.0, None)
            assert late.value.limits == never.value.limits == ("a",)

    asyncio.run(scenario())


def test_who_stops_waiting_has_spent_nothing() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        async with RateLimiter(clock=clock) as limiter:
            limit = limiter.limit("a", "1/s")
            await limit.acquire("k")
            waiting = asyncio.ensure_future(limit.acquire("k", wait=True))
            await clock.advance(0.5)
            waiting.cancel()
            await clock.advance(5)

            assert (await limit.peek("k")).remaining == 1
            assert [timer for _, _, timer in clock.timers if not timer.cancelled] == []

    asyncio.run(scenario())


@pytest.mark.parametrize("algorithm", ["sliding_window", "sliding_counter", "token_bucket", "fixed_window"])
def test_what_was_spent_can_be_corrected(algorithm: str) -> None:
    async def scenario() -> None:
        async with RateLimiter(clock=FakeClock()) as limiter:
            tokens = limiter.limit("tokens", "100/hour", algorithm=algorithm)
            reserved = await tokens.acquire("k", 10)
            await tokens.charge("k", 25, reserved)
            assert (await tokens.peek("k")).remaining == 65
            await tokens.give_back("k", 30, reserved)
            assert (await tokens.peek("k")).remaining == 95
            await tokens.charge("k", 200, reserved)

            assert not (await tokens.try_acquire("k")).allowed
            for change in (tokens.charge, tokens.give_back):
                with pytest.raises(ValueError, match="at least 0"):
                    await change("k", -1, reserved)

    asyncio.run(scenario())
