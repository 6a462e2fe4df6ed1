"""Breakers and health in a pool: what takes an endpoint out, and what brings it back."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from tests.upstreams.pool_bench import A, B, Bench, run, settings_of, started

from silence_gateway.core.breaker import State
from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError, UpstreamTimeout, UpstreamUnavailable
from silence_gateway.events import BreakerMoved, EndpointDown, EndpointUp
from silence_gateway.testing.clock import settle
from silence_gateway.testing.scripted_endpoints import NOT_SERVING, SERVING
from silence_gateway.testing.scripted_upstream import Failure, Reply, Silence, Step
from silence_gateway.upstreams.settings import (
    BreakerSettings,
    HealthSettings,
)


def test_a_breaker_opens_waits_probes_once_and_closes() -> None:
    async def scenario() -> None:
        settings = settings_of(A, B, breaker=BreakerSettings(consecutive=3, cool_down_s=2))
        async with started(settings) as bench:
            bench.endpoints[A].follow(Failure(Code.UNAVAILABLE) * 3 + Reply(b"ok", after_s=0.5))
            while bench.standing(A).breaker == "closed":
                with suppress(RpcError):
                    await bench.call()
                await bench.clock.advance(0.5)
            reached = len(bench.endpoints[A].calls)
            for _ in range(20):
                await bench.call()
            assert len(bench.endpoints[A].calls) == reached == 3

            await bench.clock.advance(2)
            assert bench.standing(A).breaker == "half_open"
            calls = [bench.begin() for _ in range(10)]
            await settle()
            assert len(bench.endpoints[A].calls) == reached + 1
            await bench.clock.advance(0.5)
            await asyncio.gather(*calls)

            assert bench.standing(A).breaker == "closed"
            moves = [(event.old, event.new) for event in bench.said(BreakerMoved)]  # type: ignore[attr-defined]
            assert moves == [("closed", "open"), ("open", "half_open"), ("half_open", "closed")]

    run(scenario)


def test_all_breakers_open_fails_fast_and_says_so() -> None:
    async def scenario() -> None:
        async with started(settings_of(A, breaker=BreakerSettings(consecutive=1))) as bench:
            bench.endpoints[A].follow(Failure(Code.UNAVAILABLE, "overloaded"))
            with pytest.raises(RpcError):
                await bench.call()

            with pytest.raises(UpstreamUnavailable, match=r"circuit breaker open.*overloaded") as caught:
                await bench.call()

            assert not caught.value.sent
            assert len(bench.endpoints[A].calls) == 1

    run(scenario)


def test_without_traffic_a_health_check_serves_as_the_probe() -> None:
    async def scenario() -> None:
        settings = settings_of(A, breaker=BreakerSettings(consecutive=1, cool_down_s=2))
        async with started(settings) as bench:
            bench.endpoints[A].follow(Failure(Code.UNAVAILABLE) + Reply(b"ok"))
            with pytest.raises(RpcError):
                await bench.call()

            await bench.clock.advance(4)

            assert bench.standing(A).breaker == "closed"
            assert len(bench.endpoints[A].health.calls) == 1

    run(scenario)


def test_a_half_open_endpoint_that_cannot_be_reached_is_open_again_until_it_can() -> None:
    async def scenario() -> None:
        settings = settings_of(A, breaker=BreakerSettings(consecutive=1, cool_down_s=2))
        async with started(settings) as bench:
            bench.endpoints[A].follow(Failure(Code.UNAVAILABLE) + Reply(b"ok"))
            with pytest.raises(RpcError):
                await bench.call()
            bench.endpoints[A].die()
            await bench.clock.advance(60)
            moves = [event.new for event in bench.said(BreakerMoved)]  # type: ignore[attr-defined]
            assert moves[:4] == ["open", "half_open", "open", "half_open"]

            bench.endpoints[A].accept()
            await bench.clock.advance(10)

            assert bench.standing(A).breaker == "closed"
            assert await bench.call() == b"ok"

    run(scenario)


def test_a_probe_whose_caller_leaves_does_not_block_the_next() -> None:
    async def scenario() -> None:
        settings = settings_of(A, breaker=BreakerSettings(consecutive=1, cool_down_s=2))
        async with started(settings) as bench:
            bench.endpoints[A].follow(Failure(Code.UNAVAILABLE) + Silence() + Reply(b"ok"))
            with pytest.raises(RpcError):
                await bench.call()
            await bench.clock.advance(2)
            probe = bench.begin()
            await settle()
            with pytest.raises(UpstreamUnavailable, match="one probe under way"):
                await bench.call()

            probe.cancel()
            await settle()

            assert await bench.call() == b"ok"
            assert bench.standing(A).breaker == "closed"

    run(scenario)


@pytest.mark.parametrize(
    "code", [Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.RESOURCE_EXHAUSTED, Code.UNKNOWN, Code.CANCELLED]
)
def test_business_errors_never_open_a_breaker(code: Code) -> None:
    async def scenario() -> None:
        async with started(settings_of(A)) as bench:
            bench.endpoints[A].follow(Failure(code, "no such order"))
            for _ in range(50):
                with pytest.raises(RpcError, match="no such order"):
                    await bench.call()

            assert bench.standing(A).breaker == "closed"
            assert bench.standing(A).failures == {code.name: 50}

    run(scenario)


async def a_hundred_calls_in_ten_seconds(bench: Bench) -> int:
    """Return how many of them were lost."""
    calls = []
    for _ in range(100):
        calls.append(bench.begin())
        await bench.clock.advance(0.1)
    await bench.clock.advance(2)
    ends = await asyncio.gather(*calls, return_exceptions=True)
    return sum(isinstance(end, UpstreamTimeout) for end in ends)


def test_a_silent_endpoint_costs_timeouts_only_until_its_breaker_opens() -> None:
    async def scenario() -> None:
        async with started(settings_of(A, B, timeout_s=2, balancer="round_robin")) as bench:
            bench.endpoints[A].follow(Silence())
            bench.endpoints[A].health.follow(Silence())

            lost = await a_hundred_calls_in_ten_seconds(bench)

            opened = bench.said(BreakerMoved)[0]
            assert isinstance(opened, BreakerMoved)
            assert (opened.endpoint, opened.new) == (A, "open")
            assert "UpstreamTimeout" in opened.reason
            # Those under way when the fifth timed out, and one probe later.
            assert 5 <= lost <= 16

    run(scenario)


def test_least_request_gives_a_silent_endpoint_hardly_any_calls() -> None:
    async def scenario() -> None:
        async with started(settings_of(A, B, timeout_s=2)) as bench:
            bench.endpoints[A].follow(Silence())

            assert await a_hundred_calls_in_ten_seconds(bench) <= 6

    run(scenario)


def test_one_lost_connection_with_many_calls_is_one_failure() -> None:
    async def scenario() -> None:
        async with started(settings_of(A)) as bench:
            bench.endpoints[A].follow(Silence())
            calls = [bench.begin(60) for _ in range(50)]
            await settle()

            bench.endpoints[A].connections[0].lose()
            ends = await asyncio.gather(*calls, return_exceptions=True)

            assert {type(end) for end in ends} == {UpstreamUnavailable}
            assert bench.standing(A).failures == {"UNAVAILABLE": 50}
            assert bench.standing(A).breaker == "closed"

    run(scenario)


def test_health_takes_an_endpoint_out_and_brings_it_back() -> None:
    async def scenario() -> None:
        health = HealthSettings(interval_s=1, timeout_s=0.5, unhealthy_after=2, healthy_after=2)
        async with started(settings_of(A, B, health=health, balancer="round_robin")) as bench:
            await bench.clock.advance(2)
            assert bench.standing(A).health == "healthy"

            bench.endpoints[A].health.follow(NOT_SERVING)
            await bench.clock.advance(3)
            assert bench.standing(A).health == "unhealthy"
            assert "NOT_SERVING" in bench.standing(A).last_error
            for _ in range(4):
                await bench.call()
            assert len(bench.endpoints[A].calls) == 0

            bench.endpoints[A].health.follow(SERVING)
            await bench.clock.advance(4)
            assert bench.standing(A).health == "healthy"
            assert [type(event) for event in bench.events] == [EndpointDown, EndpointUp]

    run(scenario)


def test_an_endpoint_that_was_away_takes_calls_as_soon_as_it_is_back_and_says_so() -> None:
    """Nobody waits for an interval or two with a whole upstream that was started again."""

    async def scenario() -> None:
        health = HealthSettings(interval_s=60, timeout_s=0.5, unhealthy_after=1, healthy_after=3)
        async with started(settings_of(A, health=health)) as bench:
            await bench.clock.advance(2)
            bench.endpoints[A].die()
            await bench.clock.advance(120)
            assert bench.standing(A).health == "unhealthy"
            assert "refuses connections" in bench.standing(A).last_error

            bench.endpoints[A].health.follow(NOT_SERVING)
            bench.endpoints[A].accept()
            await bench.clock.advance(6)
            assert (bench.standing(A).link, bench.standing(A).health) == ("connected", "unhealthy")

            bench.endpoints[A].health.follow(SERVING)
            bench.endpoints[A].die()
            bench.endpoints[A].accept()
            await bench.clock.advance(6)
            assert bench.standing(A).state == "ready"
            assert await bench.call() == b"ok"

    run(scenario)


@pytest.mark.parametrize(
    "late",
    [Reply(b"ok", after_s=0.3), Failure(Code.UNKNOWN, after_s=0.3), Failure(Code.NOT_FOUND, after_s=0.3)],
    ids=["ok", "a method that failed", "a business error"],
)
def test_answers_that_come_too_late_open_the_breaker(late: Step) -> None:
    async def scenario() -> None:
        breaker = BreakerSettings(min_calls=4, slow_call_s=0.2)
        async with started(settings_of(A, breaker=breaker)) as bench:
            bench.endpoints[A].follow(late)
            for _ in range(4):
                call = bench.begin()
                await bench.clock.advance(0.4)
                await asyncio.gather(call, return_exceptions=True)

            assert bench.standing(A).breaker == "open"

    run(scenario)


def test_an_operator_opens_a_breaker_for_a_while() -> None:
    async def scenario() -> None:
        async with started(settings_of(A)) as bench:
            await bench.pool.hold_breaker(A, State.HELD_OPEN, "moving house", 60)
            with pytest.raises(UpstreamUnavailable, match="held open by an operator"):
                await bench.call()

            await bench.clock.advance(60)

            assert await bench.call() == b"ok"
            moves = [event.reason for event in bench.said(BreakerMoved)]  # type: ignore[attr-defined]
            assert moves == ["held open by an operator: moving house", "left to itself again"]

    run(scenario)


def test_a_held_breaker_can_be_held_anew_and_the_old_end_no_longer_counts() -> None:
    async def scenario() -> None:
        async with started(settings_of(A)) as bench:
            await bench.pool.hold_breaker(A, State.HELD_OPEN, "first", 10)
            await bench.pool.hold_breaker(A, State.HELD_OPEN, "second", 30)
            await bench.clock.advance(20)

            assert bench.standing(A).breaker == "held_open"
            assert bench.standing(A).hold_reason == "second"

    run(scenario)
