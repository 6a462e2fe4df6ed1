"""Calls that may run twice: when they are made again, where, and how they are counted. On fakes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.upstreams.pool_bench import METHOD, A, B, Bench, C, run, settings_of, started

from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError, UpstreamTimeout, UpstreamUnavailable
from silence_gateway.testing.clock import settle
from silence_gateway.testing.scripted_upstream import Broken, Failure, Reply, Script, Silence
from silence_gateway.upstreams.retry_settings import RetrySettings
from silence_gateway.upstreams.settings import BreakerSettings, UpstreamSettings

DOWN = Failure(Code.UNAVAILABLE)
PUSHBACK = b"grpc-retry-pushback-ms"


def retried(*names: str, **retry: Any) -> UpstreamSettings:
    # Breakers stay out of the way: these tests are about calls and not about endpoints.
    calm = BreakerSettings(consecutive=1000, min_calls=1000)
    return settings_of(*names, breaker=calm, balancer="round_robin", retry=RetrySettings(**retry))


def begin(bench: Bench, deadline_s: float = 60.0) -> asyncio.Task[bytes]:
    async def call() -> bytes:
        limit_s = bench.clock.monotonic_s() + deadline_s
        return (await bench.pool.repeating.unary(METHOD, b"?", (), limit_s)).message

    return asyncio.ensure_future(call())


async def ended(bench: Bench, task: asyncio.Task[bytes], within_s: float = 30.0) -> bytes:
    """Let time pass until *task* has ended."""
    for _ in range(round(within_s / 0.05)):
        if task.done():
            break
        await bench.clock.advance(0.05)
    assert task.done()
    return await task


def asked(bench: Bench, *names: str) -> list[int]:
    return [len(bench.endpoints[name].calls) for name in names]


@pytest.mark.parametrize(
    "first", [pytest.param(DOWN, id="by-status"), pytest.param(Broken(sent=True), id="a-broken-connection")]
)
def test_a_call_that_failed_is_made_again_on_another_endpoint(first: Script) -> None:
    async def scenario() -> None:
        async with started(retried(A, B)) as bench:
            bench.endpoints[A].follow(first + Reply(b"ok"))
            bench.endpoints[B].follow(Reply(b"ok"))
            bench.pool.drain_endpoint(B)
            call = begin(bench)
            await settle()
            bench.pool.activate_endpoint(B)

            assert await ended(bench, call) == b"ok"

            assert asked(bench, A, B) == [1, 1]
            told = bench.pool.statistics
            assert told.calls_by_code == {"OK": 1}
            assert sum(told.latency_counts) == 1
            assert (told.retries, told.failovers) == (1, 0)

    run(scenario)


def test_with_one_endpoint_it_is_made_again_there() -> None:
    async def scenario() -> None:
        async with started(retried(A)) as bench:
            bench.endpoints[A].follow(DOWN * 2 + Reply(b"ok"))

            assert await ended(bench, begin(bench)) == b"ok"
            assert asked(bench, A) == [3]

    run(scenario)


def test_the_wait_before_it_is_drawn_and_nothing_is_sent_meanwhile() -> None:
    async def scenario() -> None:
        async with started(retried(A, wait_s=1.0)) as bench:
            bench.endpoints[A].follow(DOWN + Reply(b"ok"))
            task = begin(bench)
            await settle()

            assert asked(bench, A) == [1]
            await bench.clock.advance(1.0)
            assert asked(bench, A) == [2]
            assert await task == b"ok"

    run(scenario)


@pytest.mark.parametrize(
    ("script", "error", "times"),
    [
        pytest.param(DOWN, RpcError, 3, id="three-attempts-in-all"),
        pytest.param(Failure(Code.INVALID_ARGUMENT), RpcError, 1, id="an-answer"),
        pytest.param(Failure(Code.RESOURCE_EXHAUSTED), RpcError, 1, id="pushed-back"),
        pytest.param(Broken(sent=True), UpstreamUnavailable, 3, id="connections-that-break"),
        pytest.param(
            Failure(14, trailing_metadata=[(PUSHBACK, b"-1")]), RpcError, 1, id="the-server-says-never"
        ),
    ],
)
def test_when_it_is_left_at_that(script: Script, error: type[Exception], times: int) -> None:
    async def scenario() -> None:
        async with started(retried(A)) as bench:
            bench.endpoints[A].follow(script)
            with pytest.raises(error):
                await ended(bench, begin(bench))

            assert asked(bench, A) == [times]
            told = bench.pool.statistics
            assert sum(told.calls_by_code.values()) == 1
            assert sum(told.latency_counts) == 1
            assert told.retries == times - 1

    run(scenario)


def test_an_attempt_before_which_its_caller_left_was_not_made() -> None:
    async def scenario() -> None:
        async with started(retried(A)) as bench:
            bench.endpoints[A].follow(Failure(14, trailing_metadata=[(PUSHBACK, b"500")]))
            task = begin(bench)
            await bench.clock.advance(0.1)
            task.cancel()
            await settle()

            assert (asked(bench, A), bench.pool.statistics.retries) == ([1], 0)

    run(scenario)


def test_the_server_says_when_to_come_back() -> None:
    async def scenario() -> None:
        async with started(retried(A)) as bench:
            bench.endpoints[A].follow(Failure(14, trailing_metadata=[(PUSHBACK, b"3000")]) + Reply(b"ok"))
            task = begin(bench)
            await bench.clock.advance(2.9)
            assert asked(bench, A) == [1]
            await bench.clock.advance(0.2)

            assert await task == b"ok"

    run(scenario)


def test_an_error_is_told_at_once_when_the_deadline_leaves_no_time_for_more() -> None:
    async def scenario() -> None:
        async with started(retried(A)) as bench:
            bench.endpoints[A].follow(Failure(14, trailing_metadata=[(PUSHBACK, b"3000")]))
            task = begin(bench, deadline_s=2.0)
            await settle()

            assert task.done()
            with pytest.raises(RpcError):
                await task

    run(scenario)


def test_an_attempt_that_takes_too_long_is_made_elsewhere_within_the_deadline() -> None:
    async def scenario() -> None:
        async with started(retried(A, B, attempt_timeout_s=1.0)) as bench:
            bench.endpoints[A].follow(Silence())
            bench.endpoints[B].follow(Silence())
            task = begin(bench, deadline_s=2.5)
            await bench.clock.advance(1.1)
            assert asked(bench, A, B) == [1, 1]
            (late,) = (one for one in (A, B) if bench.endpoints[one].calls[0].deadline_s == 1.0)
            assert late
            await bench.clock.advance(1.4)

            with pytest.raises(UpstreamTimeout):
                await task
            assert bench.pool.statistics.calls_by_code == {"DEADLINE_EXCEEDED": 1}

    run(scenario)


def test_without_a_time_of_its_own_an_attempt_may_take_as_long_as_the_call() -> None:
    async def scenario() -> None:
        async with started(retried(A, B)) as bench:
            for name in (A, B):
                bench.endpoints[name].follow(Silence())
            with pytest.raises(UpstreamTimeout):
                await ended(bench, begin(bench, deadline_s=2.0))

            assert sum(asked(bench, A, B)) == 1

    run(scenario)


def test_a_call_that_never_left_goes_elsewhere_outside_the_budget() -> None:
    async def scenario() -> None:
        async with started(retried(A, B, budget=0.0, budget_free_per_s=0)) as bench:
            bench.endpoints[A].follow(Broken(sent=False))

            assert [await ended(bench, begin(bench)) for _ in range(4)] == [b"ok"] * 4
            told = bench.pool.statistics
            assert told.failovers > 0
            assert (told.retries, told.calls_by_code) == (0, {"OK": 4})

    run(scenario)


def test_a_service_that_is_down_gets_its_calls_and_the_budget_on_top() -> None:
    async def scenario() -> None:
        async with started(retried(A, B, budget=0.2, budget_free_per_s=1)) as bench:
            for name in (A, B):
                bench.endpoints[name].follow(DOWN)
            for _ in range(100):
                with pytest.raises(RpcError):
                    await ended(bench, begin(bench))

            told = bench.pool.statistics
            assert sum(asked(bench, A, B)) == 100 + told.retries
            # A hundred calls, a fifth of them, and one a second for the ten seconds of the window.
            assert 20 <= told.retries <= 100 * 0.2 + 10 + 10
            assert told.retries_refused > 0
            assert told.calls_by_code == {"UNAVAILABLE": 100}

    run(scenario)


def test_a_caller_that_leaves_ends_it() -> None:
    async def scenario() -> None:
        async with started(retried(A, wait_s=1.0)) as bench:
            bench.endpoints[A].follow(DOWN)
            task = begin(bench)
            await settle()
            task.cancel()
            await bench.clock.advance(10)

            with pytest.raises(asyncio.CancelledError):
                await task
            assert asked(bench, A) == [1]
            assert bench.pool.statistics.calls_by_code == {"CANCELLED": 1}

    run(scenario)


@pytest.mark.parametrize(
    ("methods", "times"),
    [
        pytest.param({"shop.Orders/Get"}, 2, id="by-name"),
        pytest.param({"shop.Orders/*"}, 2, id="the-whole-service"),
        pytest.param({"shop.Orders/Put", "shop.Order/*"}, 1, id="others"),
        pytest.param(set(), 1, id="none"),
    ],
)
def test_who_says_nothing_is_repeated_if_the_method_may_be(methods: set[str], times: int) -> None:
    async def scenario() -> None:
        async with started(retried(A, methods=frozenset(methods), attempts=2)) as bench:
            bench.endpoints[A].follow(DOWN)
            with pytest.raises(RpcError):
                await ended(bench, bench.begin())

            assert asked(bench, A) == [times]

    run(scenario)


def test_who_says_that_it_may_not_is_not_repeated_whatever_the_method() -> None:
    async def scenario() -> None:
        async with started(retried(A, methods=frozenset({"shop.Orders/*"}))) as bench:
            bench.endpoints[A].follow(DOWN)
            with pytest.raises(RpcError):
                await bench.pool.once.unary(METHOD, b"?")
            with pytest.raises(RpcError):
                await anext(aiter(bench.pool.once.stream(METHOD, b"?")))

            assert asked(bench, A) == [2]
            assert bench.pool.statistics.calls_by_code == {"UNAVAILABLE": 2}

    run(scenario)


def test_a_stream_is_made_again_until_something_has_come_back() -> None:
    async def scenario() -> None:
        async with started(retried(A, wait_s=0.01)) as bench:
            broken = Reply(b"1", then=RpcError(Code.UNAVAILABLE))
            bench.endpoints[A].follow(DOWN + Reply(b"1", b"2") + DOWN + broken + Reply(b"never"))

            async def taken() -> bytes:
                return b"".join([one async for one in bench.pool.repeating.stream(METHOD, b"?")])

            assert await ended(bench, asyncio.ensure_future(taken())) == b"12"
            with pytest.raises(RpcError):
                await ended(bench, asyncio.ensure_future(taken()))
            assert asked(bench, A) == [4]
            assert bench.pool.statistics.calls_by_code == {"OK": 1, "UNAVAILABLE": 1}

    run(scenario)


def test_three_endpoints_and_three_attempts_are_three_different_ones() -> None:
    async def scenario() -> None:
        async with started(retried(A, B, C)) as bench:
            for name in (A, B, C):
                bench.endpoints[name].follow(DOWN)
            with pytest.raises(RpcError):
                await ended(bench, begin(bench))

            assert asked(bench, A, B, C) == [1, 1, 1]

    run(scenario)
