"""Endpoints that fail where their peers do not are left alone for a while, and never all of them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from tests.upstreams.pool_bench import METHOD, A, B, Bench, C, run, settings_of, started

from silence_gateway.core.status import Code
from silence_gateway.errors import ConfigError, RpcError
from silence_gateway.events import EndpointEjected, EndpointReturned
from silence_gateway.testing.clock import settle
from silence_gateway.testing.scripted_upstream import Failure, Reply, Silence
from silence_gateway.upstreams.settings import BreakerSettings, OutlierSettings, UpstreamSettings

NEVER = BreakerSettings(consecutive=1_000_000, min_calls=1_000_000)
"""A breaker that leaves the field to the outliers."""


def shop(*names: str, **more: Any) -> UpstreamSettings:
    outliers = OutlierSettings(**({"consecutive": 3, "ejection_s": 30} | more))
    return settings_of(*names, breaker=NEVER, outliers=outliers, balancer="round_robin")


async def calls(bench: Bench, count: int) -> None:
    for _ in range(count):
        with suppress(RpcError):
            await bench.call()


def test_failures_in_a_row_eject_an_endpoint_and_time_brings_it_back() -> None:
    async def scenario() -> None:
        async with started(shop(A, B)) as bench:
            bench.endpoints[A].follow(Failure(Code.UNAVAILABLE) * 3 + Reply(b"ok"))
            await calls(bench, 6)
            assert bench.standing(A).ejected
            assert "ejected" in bench.standing(A).reason

            await calls(bench, 10)
            assert len(bench.endpoints[A].calls) == 3
            await bench.clock.advance(30)
            await calls(bench, 10)

            assert len(bench.endpoints[A].calls) == 8
            assert (len(bench.said(EndpointEjected)), len(bench.said(EndpointReturned))) == (1, 1)

    run(scenario)


@pytest.mark.parametrize("between", [Reply(b"ok"), Failure(Code.NOT_FOUND)], ids=["ok", "an answer"])
def test_an_answer_ends_a_row(between: Any) -> None:
    async def scenario() -> None:
        async with started(shop(A, B)) as bench:
            twice = Failure(Code.UNAVAILABLE) * 2
            bench.endpoints[A].follow(twice + between + twice + between + Reply(b"ok"))
            await calls(bench, 20)

            assert not bench.standing(A).ejected

    run(scenario)


def test_the_last_one_stays_whatever_it_does() -> None:
    async def scenario() -> None:
        async with started(shop(A, B, max_ejected=1.0)) as bench:
            for name in (A, B):
                bench.endpoints[name].follow(Failure(Code.UNAVAILABLE))
            await calls(bench, 20)

            assert sorted(bench.standing(name).ejected for name in (A, B)) == [False, True]

    run(scenario)


def test_who_left_and_finishes_its_calls_is_not_the_one_that_stays() -> None:
    async def scenario() -> None:
        async with started(shop(A, B, C, max_ejected=1.0)) as bench:
            bench.endpoints[C].follow(Silence())
            streams = [bench.pool.stream(METHOD, b"?") for _ in range(6)]
            await settle()
            bench.pool.remove_endpoint(C)
            assert bench.standing(C).in_flight > 0

            for name in (A, B):
                bench.endpoints[name].follow(Failure(Code.UNAVAILABLE))
            await calls(bench, 20)

            assert sorted(bench.standing(name).ejected for name in (A, B)) == [False, True]
            for stream in streams:
                stream.cancel()

    run(scenario)


def test_the_second_time_lasts_twice_as_long() -> None:
    async def scenario() -> None:
        async with started(shop(A, B)) as bench:
            bench.endpoints[A].follow(Failure(Code.UNAVAILABLE))
            await calls(bench, 6)
            await bench.clock.advance(30)
            await calls(bench, 6)

            assert [event.for_s for event in bench.said(EndpointEjected)] == [30, 60]  # type: ignore[attr-defined]

    run(scenario)


def test_a_success_rate_far_below_that_of_the_peers_ejects_too() -> None:
    async def scenario() -> None:
        async with started(shop(A, B, C, consecutive=1000)) as bench:
            bench.endpoints[A].follow((Failure(Code.UNAVAILABLE) + Reply(b"ok")) * 200)
            await calls(bench, 330)
            await bench.clock.advance(10)

            assert [bench.standing(name).ejected for name in (A, B, C)] == [True, False, False]

    run(scenario)


def test_an_ejected_endpoint_is_used_when_nobody_else_is_left() -> None:
    async def scenario() -> None:
        async with started(shop(A, B)) as bench:
            bench.endpoints[A].follow(Failure(Code.UNAVAILABLE) * 3 + Reply(b"still here"))
            await calls(bench, 6)
            bench.endpoints[B].die()
            await bench.clock.advance(1)

            assert await bench.call() == b"still here"

    run(scenario)


def test_a_share_above_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_ejected"):
        OutlierSettings(max_ejected=1.5)
