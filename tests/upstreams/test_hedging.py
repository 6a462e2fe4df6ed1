"""Calls on two endpoints at once: when the second is asked, who wins, and what becomes of the other."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.upstreams.pool_bench import A, B, Bench, C, run, settings_of, started
from tests.upstreams.test_repeating import asked, begin, ended

from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError
from silence_gateway.testing.clock import settle
from silence_gateway.testing.scripted_upstream import Failure, Reply, Silence
from silence_gateway.upstreams.retry_settings import RetrySettings
from silence_gateway.upstreams.settings import BreakerSettings, UpstreamSettings


def hedging(*names: str, **retry: Any) -> UpstreamSettings:
    calm = BreakerSettings(consecutive=1000, min_calls=1000)
    retry = {"hedge_after_s": 0.1} | retry
    return settings_of(*names, breaker=calm, balancer="round_robin", retry=RetrySettings(**retry))


def test_a_call_in_time_is_made_once() -> None:
    async def scenario() -> None:
        async with started(hedging(A, B)) as bench:
            for name in (A, B):
                bench.endpoints[name].follow(Reply(b"ok", after_s=0.09))
            task = begin(bench)
            await bench.clock.advance(1.0)

            assert await task == b"ok"
            assert sum(asked(bench, A, B)) == 1
            assert bench.pool.statistics.hedges == 0

    run(scenario)


def test_a_late_one_is_made_elsewhere_too_and_the_slower_is_cancelled() -> None:
    async def scenario() -> None:
        async with started(hedging(A, B)) as bench:
            bench.endpoints[A].follow(Silence())
            bench.endpoints[B].follow(Reply(b"quick", after_s=0.01))
            tasks = [begin(bench), begin(bench)]
            await bench.clock.advance(0.2)

            assert [await task for task in tasks] == [b"quick", b"quick"]
            await settle()
            (late,) = bench.endpoints[A].calls
            assert late.cancelled
            told = bench.pool.statistics
            assert (told.hedges, told.hedges_won) == (1, 1)
            assert told.calls_by_code == {"OK": 2}
            assert sum(told.latency_counts) == 2
            assert [one.in_flight for one in told.endpoints] == [0, 0]

    run(scenario)


def test_each_delay_brings_one_more_until_the_attempts_are_used_up() -> None:
    async def scenario() -> None:
        async with started(hedging(A, B, C)) as bench:
            for name in (A, B, C):
                bench.endpoints[name].follow(Silence())
            task = begin(bench)
            counts = []
            for _ in range(5):
                await bench.clock.advance(0.1)
                counts.append(sum(asked(bench, A, B, C)))

            assert counts == [2, 3, 3, 3, 3]
            assert asked(bench, A, B, C) == [1, 1, 1]
            task.cancel()
            await settle()
            assert all(bench.endpoints[name].calls[0].cancelled for name in (A, B, C))
            assert bench.pool.statistics.calls_by_code == {"CANCELLED": 1}

    run(scenario)


def test_nobody_is_asked_twice_at_once() -> None:
    async def scenario() -> None:
        async with started(hedging(A)) as bench:
            bench.endpoints[A].follow(Reply(b"ok", after_s=0.5))
            task = begin(bench)
            await bench.clock.advance(1.0)

            assert await task == b"ok"
            assert asked(bench, A) == [1]

    run(scenario)


def test_an_error_to_repeat_after_brings_the_next_attempt_at_once() -> None:
    async def scenario() -> None:
        async with started(hedging(A, B)) as bench:
            bench.endpoints[A].follow(Failure(Code.UNAVAILABLE))
            tasks = [begin(bench), begin(bench)]
            await settle()

            assert [await task for task in tasks] == [b"ok", b"ok"]
            told = bench.pool.statistics
            assert told.calls_by_code == {"OK": 2}
            # What answers after an error has not won against anybody.
            assert (told.retries, told.hedges, told.hedges_won) == (1, 0, 0)

    run(scenario)


def test_an_answer_that_is_an_error_ends_all_attempts() -> None:
    async def scenario() -> None:
        async with started(hedging(A, B)) as bench:
            bench.endpoints[A].follow(Silence())
            bench.endpoints[B].follow(Failure(Code.NOT_FOUND, after_s=0.01))
            tasks = [begin(bench), begin(bench)]
            await bench.clock.advance(0.2)

            for task in tasks:
                with pytest.raises(RpcError):
                    await task
            await settle()
            assert bench.endpoints[A].calls[0].cancelled
            assert bench.pool.statistics.calls_by_code == {"NOT_FOUND": 2}

    run(scenario)


PUSHBACK = ((b"grpc-retry-pushback-ms", b"500"),)


async def begun_at_a(bench: Bench) -> asyncio.Task[bytes]:
    """Begin a call whose first attempt is at A."""
    for name in (B, C):
        bench.pool.drain_endpoint(name)
    task = begin(bench)
    await settle()
    for name in (B, C):
        bench.pool.activate_endpoint(name)
    return task


def test_an_attempt_that_an_answer_forestalls_was_not_made() -> None:
    async def scenario() -> None:
        async with started(hedging(A, B, C)) as bench:
            bench.endpoints[A].follow(Reply(b"ok", after_s=0.3))
            for name in (B, C):
                bench.endpoints[name].follow(Failure(Code.UNAVAILABLE, trailing_metadata=PUSHBACK))
            task = await begun_at_a(bench)
            await bench.clock.advance(1.0)

            assert await task == b"ok"
            told = bench.pool.statistics
            assert (sum(asked(bench, A, B, C)), told.hedges, told.retries) == (2, 1, 0)

    run(scenario)


def test_two_errors_that_one_attempt_follows_are_paid_for_once() -> None:
    async def scenario() -> None:
        async with started(hedging(A, B, C, budget=0.0, budget_free_per_s=1)) as bench:
            bench.endpoints[A].follow(Failure(Code.UNAVAILABLE, after_s=0.15))
            for name in (B, C):
                bench.endpoints[name].follow(Failure(Code.UNAVAILABLE, after_s=0.05) + Reply(b"ok"))
            task = await begun_at_a(bench)
            await bench.clock.advance(0.15)
            await settle()
            assert sum(asked(bench, A, B, C)) == 3

            with pytest.raises(RpcError):
                await ended(bench, task)
            told = bench.pool.statistics
            assert (told.hedges, told.retries) == (1, 1)
            assert bench.pool._repeats.budget.repeats == 2

    run(scenario)


def test_a_hedge_that_fails_leaves_the_first_attempt_running() -> None:
    async def scenario() -> None:
        async with started(hedging(A, B, attempts=2)) as bench:
            bench.endpoints[A].follow(Reply(b"slow", after_s=0.5))
            bench.endpoints[B].follow(Reply(b"ok") + Failure(Code.UNAVAILABLE) * 5)
            answers = []
            for _ in range(2):
                task = begin(bench)
                await bench.clock.advance(1.0)
                answers.append(await task)

            assert sorted(answers) == [b"ok", b"slow"]
            assert bench.pool.statistics.calls_by_code == {"OK": 2}

    run(scenario)


def test_hedges_come_out_of_the_budget() -> None:
    async def scenario() -> None:
        async with started(hedging(A, B, budget=0.0, budget_free_per_s=0)) as bench:
            for name in (A, B):
                bench.endpoints[name].follow(Reply(b"ok", after_s=0.5))
            task = begin(bench)
            await bench.clock.advance(1.0)

            assert await task == b"ok"
            assert sum(asked(bench, A, B)) == 1
            assert bench.pool.statistics.retries_refused == 1

    run(scenario)


def test_what_is_late_is_learned_from_recent_calls() -> None:
    async def scenario() -> None:
        settings = hedging(A, B, hedge_after_s=None, hedge_quantile=0.9)
        async with started(settings) as bench:
            for name in (A, B):
                bench.endpoints[name].follow(Reply(b"ok", after_s=0.02))
            for _ in range(30):
                task = begin(bench)
                await bench.clock.advance(0.1)
                await task
            assert bench.pool.statistics.hedges == 0
            await bench.clock.advance(1.0)
            for name in (A, B):
                bench.endpoints[name].follow(Reply(b"slow", after_s=1.0))
            task = begin(bench)
            await bench.clock.advance(0.026)

            assert sum(asked(bench, A, B)) == 32
            await bench.clock.advance(2.0)
            assert await task == b"slow"

    run(scenario)


def test_both_answering_in_one_tick_count_as_one_call() -> None:
    async def scenario() -> None:
        async with started(hedging(A, B)) as bench:
            bench.endpoints[A].follow(Reply(b"a", after_s=0.3))
            bench.endpoints[B].follow(Reply(b"b", after_s=0.2))
            task = begin(bench)
            await bench.clock.advance(0.5)

            assert await task in {b"a", b"b"}
            await asyncio.sleep(0)
            told = bench.pool.statistics
            assert sum(told.calls_by_code.values()) == 1
            assert [one.in_flight for one in told.endpoints] == [0, 0]

    run(scenario)


@pytest.mark.parametrize("turns", range(20))
def test_a_call_is_counted_once_whenever_its_caller_leaves(turns: int) -> None:
    """Also in the turn of the loop in which an answer has come that nobody takes any more."""

    async def scenario() -> None:
        async with started(hedging(A, B)) as bench:
            for name in (A, B):
                bench.endpoints[name].follow(Reply(b"ok", after_s=0.15))
            task = begin(bench)
            await bench.clock.advance(0.14)
            passing = asyncio.ensure_future(bench.clock.advance(0.2))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await passing
            await settle()

            told = bench.pool.statistics
            assert told.hedges == 1
            assert told.calls_by_code == ({"CANCELLED": 1} if task.cancelled() else {"OK": 1})
            assert sum(told.latency_counts) == 1
            assert [one.in_flight for one in told.endpoints] == [0, 0]

    run(scenario)


def test_two_answers_of_one_moment_are_one_call() -> None:
    async def scenario() -> None:
        async with started(hedging(A, B)) as bench:
            for name in (A, B):
                bench.endpoints[name].follow(Reply(b"ok", after_s=0.15))
            task = begin(bench)
            await bench.clock.advance(0.14)
            # The clock would let everything run between one timer and the next.
            for _, _, timer in sorted(bench.clock.timers):
                if not timer.cancelled and timer.due_us < bench.clock.passed_us + 200_000:
                    timer.callback()
            await settle()

            assert await task == b"ok"
            told = bench.pool.statistics
            assert [one.codes for one in told.endpoints] == [{"OK": 1}, {"OK": 1}]
            assert told.calls_by_code == {"OK": 1}
            assert sum(told.latency_counts) == 1

    run(scenario)
