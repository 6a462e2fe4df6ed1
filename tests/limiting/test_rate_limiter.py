"""The limiter as a library."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from silence_gateway.core.limits import Decision
from silence_gateway.errors import ConfigError, RateLimited
from silence_gateway.limiting.rate_limiter import RateLimiter
from silence_gateway.testing.clock import FakeClock


def test_ten_lines_limit_anything() -> None:
    async def scenario() -> None:
        async with RateLimiter() as limiter:
            login = limiter.limit("login", "2/hour")
            assert (await login.acquire("alice")).remaining == 1
            assert (await login.try_acquire("alice")).allowed
            with pytest.raises(RateLimited) as refused:
                await login.acquire("alice")
            assert (await login.acquire("bob")).remaining == 1

            assert refused.value.limits == ("login",)
            assert refused.value.retry_after_s is not None
            assert 3590 < refused.value.retry_after_s <= 3600

    asyncio.run(scenario())


def test_limits_are_declared_once_and_asked_by_name() -> None:
    async def scenario() -> None:
        limiter = RateLimiter(clock=FakeClock())
        bucket = limiter.limit("api", "10/s", algorithm="token_bucket", burst=3)

        assert limiter.limit("api", "10/s", algorithm="token_bucket", burst=3) is bucket
        assert await limiter.acquire("api", "k", 2) == Decision(True, 3, 1, 0, 200_000)
        assert not (await limiter.try_acquire("api", "k", 2)).allowed
        with pytest.raises(ValueError, match="declared already"):
            limiter.limit("api", "11/s")
        with pytest.raises(ValueError, match="is not declared"):
            await limiter.acquire("other")

    asyncio.run(scenario())


def test_several_limits_are_all_or_nothing() -> None:
    async def scenario() -> None:
        limiter = RateLimiter(clock=FakeClock())
        user, everyone = limiter.limit("user", "1/minute"), limiter.limit("everyone", "100/minute")
        await limiter.acquire_all([(user, "ann", 1), (everyone, "", 1)])

        with pytest.raises(RateLimited) as refused:
            await limiter.acquire_all([(user, "ann", 1), (everyone, "", 5)])

        assert refused.value.limits == ("user",)
        assert (await everyone.peek()).remaining == 99
        assert await limiter.try_acquire_all([]) == []

    asyncio.run(scenario())


def test_a_cost_that_never_fits_says_never() -> None:
    async def scenario() -> None:
        with pytest.raises(RateLimited, match="never") as refused:
            await RateLimiter().limit("a", "2/s").acquire(cost=3)

        assert refused.value.retry_after_s is None

    asyncio.run(scenario())


def test_a_key_can_be_reset() -> None:
    async def scenario() -> None:
        one = RateLimiter(clock=FakeClock()).limit("a", "1/hour")
        await one.acquire("k")

        assert await one.reset("k")
        assert (await one.try_acquire("k")).allowed

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ({"rate": "often"}, "is not a rate"),
        ({"rate": "1/s", "algorithm": "leaky"}, "'leaky' is not a valid"),
        ({"rate": "1/s", "burst": 5}, "burst belongs to"),
        ({"rate": "1/s", "when_down": "panic"}, "'panic' is not a valid"),
        ({"rate": "1/s", "name": "a b"}, "1 to 64 letters"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(values: dict[str, Any], hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        RateLimiter().limit(**({"name": "a"} | values))


def test_asking_senselessly_is_refused() -> None:
    async def scenario() -> None:
        limiter = RateLimiter()
        one = limiter.limit("a", "9/s")
        with pytest.raises(ValueError, match="at least 0"):
            await one.acquire(cost=-1)
        with pytest.raises(ValueError, match="once per decision"):
            await limiter.acquire_all([(one, "k", 1), (one, "k", 1)])

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("address", "hint"), [("ftp://nowhere", "unknown scheme"), ("memory://x", "nothing may follow")]
)
def test_a_bad_address_is_refused(address: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        RateLimiter(address)
