"""One place of a concurrency limit, held while a block runs."""

from __future__ import annotations

import asyncio

import pytest

from silence_gateway.errors import RateLimited
from silence_gateway.limiting.rate_limiter import RateLimiter
from silence_gateway.testing import settle
from silence_gateway.testing.clock import FakeClock
from silence_gateway.testing.distant_limits import DistantLimitStore


def test_a_place_is_held_while_its_block_runs() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        async with RateLimiter(clock=clock) as limiter:
            reports = limiter.concurrency("reports", 2, ttl_s=10)
            assert limiter.concurrency("reports", 2, ttl_s=10) is reports
            assert repr(reports) == "<Limit reports concurrency 2>"
            async with reports.hold("ann") as first, reports.hold("ann") as second:
                assert (first.remaining, second.remaining) == (1, 0)
                await clock.advance(100)
                with pytest.raises(RateLimited) as refused:
                    async with reports.hold("ann"):
                        raise AssertionError("there is no third")
                async with reports.hold("bob"):
                    assert (await reports.peek("bob")).remaining == 1
            await settle()

            assert refused.value.limits == ("reports",)
            assert refused.value.retry_after_s == 1.0
            assert (await reports.peek("ann")).remaining == 2

    asyncio.run(scenario())


def test_a_place_is_free_however_its_block_ends() -> None:
    async def scenario() -> None:
        async with RateLimiter(clock=FakeClock()) as limiter:
            one = limiter.concurrency("one", 1)
            for error in (KeyError("bug"), asyncio.CancelledError()):
                with pytest.raises(type(error)):
                    async with one.hold():
                        raise error
                await settle()

            assert (await one.peek()).remaining == 1

    asyncio.run(scenario())


def test_who_waits_for_a_place_gets_it_soon_after_it_is_free() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        async with RateLimiter(clock=clock) as limiter:
            one = limiter.concurrency("one", 1)
            entered: list[str] = []

            async def work(name: str, seconds: float) -> None:
                async with one.hold("k", wait=True):
                    entered.append(name)
                    await clock.sleep(seconds)

            working = [asyncio.ensure_future(work(name, 0.03)) for name in "abc"]
            await clock.advance(0.3)
            assert sorted(entered) == ["a", "b", "c"]
            await asyncio.gather(*working)

    asyncio.run(scenario())


@pytest.mark.parametrize("timeout_s", [0.0, 0.25, 3.0])
def test_who_waits_for_a_place_waits_for_as_long_as_it_said(timeout_s: float) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        async with RateLimiter(clock=clock) as limiter:
            one = limiter.concurrency("one", 1)
            async with one.hold("k"):
                waiting = asyncio.ensure_future(one.hold("k", wait=True, timeout_s=timeout_s).__aenter__())
                await clock.advance(timeout_s - 0.001)
                assert waiting.done() == (timeout_s == 0)
                await clock.advance(0.001)
                with pytest.raises(RateLimited):
                    await waiting

    asyncio.run(scenario())


def test_places_and_uses_are_not_mixed_up() -> None:
    async def scenario() -> None:
        async with RateLimiter(clock=FakeClock()) as limiter:
            places, rate = limiter.concurrency("places", 1), limiter.limit("rate", "1/s")
            decision = await places.peek("k")
            assert (decision.limit, decision.remaining) == (1, 1)
            for asking in (
                places.acquire("k"),
                places.try_acquire("k"),
                places.charge("k", 1, decision),
                places.give_back("k", 1, decision),
                limiter.acquire_all([(rate, "k", 1), (places, "k", 1)]),
            ):
                with pytest.raises(ValueError, match=r"async with limit\.hold"):
                    await asking
            with pytest.raises(ValueError, match="use acquire"):
                rate.hold("k")
            place = places.hold("k")
            async with place:
                with pytest.raises(ValueError, match="entered once"):
                    await place.__aenter__()
            assert (await rate.peek("k")).remaining == 1

    asyncio.run(scenario())


def test_stopping_releases_places() -> None:
    async def scenario() -> None:
        limiter = RateLimiter(clock=FakeClock())
        await limiter.start()
        one = limiter.concurrency("one", 1)
        await one.hold("k").__aenter__()
        await limiter.stop()

        assert (await one.peek("k")).remaining == 1

    asyncio.run(scenario())


def far_away(clock: FakeClock) -> tuple[RateLimiter, DistantLimitStore]:
    """Return a limiter whose store has to be waited for."""
    limiter, store = RateLimiter(clock=clock), DistantLimitStore(clock)
    limiter.engine.decider.store = limiter.engine.holds.store = store
    return limiter, store


@pytest.mark.parametrize("late_s", [0.001, 0.003])
def test_who_leaves_before_it_was_decided_leaves_no_place_behind(late_s: float) -> None:
    async def scenario() -> None:
        clock = FakeClock()
        limiter, store = far_away(clock)
        store.there_s = store.back_s = 0.002
        one = limiter.concurrency("one", 1)
        entering = asyncio.ensure_future(one.hold("k").__aenter__())
        await clock.advance(late_s)
        entering.cancel()
        await clock.advance(0.01)

        assert entering.cancelled()
        assert store.used(one.rule, "k") == 0
        assert limiter.engine.holds.held == {}

    asyncio.run(scenario())


def test_a_place_in_a_store_far_away_is_taken_renewed_and_released() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        limiter, store = far_away(clock)
        one = limiter.concurrency("one", 1)
        async with one.hold("k"):
            await clock.advance(100)
            assert store.used(one.rule, "k") == 1
        await settle()

        assert store.used(one.rule, "k") == 0

    asyncio.run(scenario())


def test_a_key_that_is_blocked_gets_no_place_and_one_that_is_free_needs_none() -> None:
    async def scenario() -> None:
        limiter = RateLimiter(clock=FakeClock())
        await limiter.start()
        one = limiter.concurrency("one", 1)
        await limiter.engine.overrides.put(one.rule, "bad", "bad", {"blocked": True}, "test")
        await limiter.engine.overrides.put(one.rule, "good", "good", {"unlimited": True}, "test")
        with pytest.raises(RateLimited) as refused:
            await one.hold("bad", wait=True).__aenter__()
        async with one.hold("good"), one.hold("good"), one.hold("good"):
            assert limiter.engine.holds.held == {}

        assert refused.value.retry_after_s is None
        await limiter.stop()

    asyncio.run(scenario())
