"""The limiter as a library."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from silence_gateway.core.limits import Change, Decision, Op
from silence_gateway.errors import ConfigError, RateLimited
from silence_gateway.limiting.rate_limiter import RateLimiter
from silence_gateway.stores.valkey import ValkeyStore
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


def test_what_is_counted_here_is_decided_without_an_event_loop() -> None:
    clock = FakeClock()
    limiter = RateLimiter(clock=clock)
    login = limiter.limit("login", "2/hour")

    assert login.try_acquire_now("ann", 2) == Decision(True, 2, 0, 0, 3_600_000_000, clock.now_us())
    refused = login.try_acquire_now("ann")
    assert refused is not None
    assert not refused.allowed
    with pytest.raises(ValueError, match="at least 0"):
        login.try_acquire_now("ann", -1)
    with pytest.raises(ValueError, match="gives places"):
        limiter.concurrency("reports", 2).try_acquire_now("ann")


def test_limits_are_declared_once_and_asked_by_name() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        limiter = RateLimiter(clock=clock)
        bucket = limiter.limit("api", "10/s", algorithm="token_bucket", burst=3)

        assert limiter.limit("api", "10/s", algorithm="token_bucket", burst=3) is bucket
        assert await limiter.acquire("api", "k", 2) == Decision(True, 3, 1, 0, 200_000, clock.now_us())
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


def test_what_a_store_must_be_asked_is_not_decided_without_it() -> None:
    """While it is known to be away, its share is decided here."""

    async def scenario() -> None:
        limiter = RateLimiter(ValkeyStore("valkey://127.0.0.1:1/0", "f"))
        decision = limiter.limit("a", "1/minute").try_acquire_now("k")
        assert decision is not None
        assert decision.at_us < 0, "decided alone: nothing was started, so nothing answers"

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
        ({"rate": "1/s", "algorithm": "concurrency"}, "takes max, and no rate"),
        ({"rate": "1/s", "burst": 5}, "burst belongs to"),
        ({"rate": "1/s", "align": "first_hit"}, "align belongs to fixed_window"),
        ({"rate": "1/s", "algorithm": "fixed_window", "align": "noon"}, "'noon' is not a valid"),
        ({"rate": "1/month"}, "months and years have no one length"),
        ({"rate": "5/s", "block_for_s": -1}, "block_for is 0s to 366d"),
        ({"rate": "5/s", "lease": 6}, "a lease of 6 is more than the limit of 5"),
        ({"rate": "5/s", "lease": 2, "block_for_s": 1}, "do not go together"),
        ({"rate": "1/s", "when_down": "panic"}, "'panic' is not a valid"),
        ({"rate": "1/s", "name": "a b"}, "1 to 64 letters"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(values: dict[str, Any], hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        RateLimiter().limit(**({"name": "a"} | values))


@pytest.mark.parametrize(
    ("most", "ttl_s", "hint"),
    [
        (0, 30.0, "max is 1 to 100000, not 0"),
        (1, 0.5, "ttl is 1s to 24h, not 0.5s"),
        (1, 1e6, "ttl is 1s to"),
    ],
)
def test_a_concurrency_limit_that_makes_no_sense_is_refused(most: int, ttl_s: float, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        RateLimiter().concurrency("a", most, ttl_s=ttl_s)


@pytest.mark.parametrize(
    "values",
    [
        {"algorithm": "sliding_window"},
        {"algorithm": "sliding_counter"},
        {"algorithm": "token_bucket", "burst": 3},
        {"algorithm": "fixed_window"},
        {"algorithm": "fixed_window", "align": "first_hit"},
        {"block_for_s": 7200},
        {"lease": 2},
        {"when_down": "deny"},
    ],
    ids=str,
)
def test_every_kind_of_limit_limits(values: dict[str, Any]) -> None:
    async def scenario() -> None:
        async with RateLimiter(clock=FakeClock()) as limiter:
            limit = limiter.limit("a", "3/hour", **values)
            assert [(await limit.try_acquire("k")).allowed for _ in range(4)] == [True, True, True, False]
            with pytest.raises(RateLimited) as refused:
                await limit.acquire("k")

            assert refused.value.retry_after_s
            assert values.get("block_for_s", 0) <= refused.value.retry_after_s
            assert repr(limit) == f"<Limit a {values.get('algorithm', 'sliding_window')} 3/h>"

    asyncio.run(scenario())


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


def test_who_starts_it_again_keeps_it_running_until_all_have_stopped() -> None:
    async def scenario() -> None:
        limiter = RateLimiter()
        await limiter.stop()
        async with limiter:
            async with limiter:
                await limiter.be_started()
                assert limiter.starts == 2
            assert limiter.starts == 1
        assert limiter.starts == 0
        await limiter.stop()
        assert limiter.starts == 0

    asyncio.run(scenario())


def test_a_limiter_of_a_running_loop_is_not_taken_along_into_another() -> None:
    limiter = RateLimiter()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(limiter.be_started())

    with pytest.raises(RuntimeError, match="another event loop"):
        asyncio.run(limiter.be_started())
    loop.close()
    asyncio.run(limiter.be_started())


def test_places_are_renewed_in_the_loop_that_a_limiter_has_moved_to() -> None:
    limiter = RateLimiter()
    places = limiter.concurrency("places", 1, ttl_s=1)

    async def take() -> None:
        await limiter.be_started()
        async with places.hold():
            assert limiter.engine.holds.timer is not None

    asyncio.run(take())
    asyncio.run(take())


def test_what_is_settled_is_settled_before_the_end() -> None:
    async def scenario() -> None:
        limiter = RateLimiter(clock=FakeClock())
        tokens = limiter.limit("tokens", "10/minute")
        async with limiter:
            limiter.engine.settling.send([Change(Op.CHARGE, tokens.rule, "k", 4)])
        assert (await tokens.peek("k")).remaining == 6

    asyncio.run(scenario())


def test_a_limiter_in_memory_that_is_started_again_goes_on_counting() -> None:
    async def scenario() -> None:
        limiter = RateLimiter()
        limit, places = limiter.limit("again", "3/hour"), limiter.concurrency("places", 1)
        for left in (2, 1, 0):
            async with limiter:
                assert (await limit.acquire("k")).remaining == left
                async with places.hold("k"):
                    assert limiter.engine.holds.held

    asyncio.run(scenario())
