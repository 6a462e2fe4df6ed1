"""Streams that may run twice and are cancelled by somebody else than who reads them: nothing goes on."""

from __future__ import annotations

import asyncio

import pytest
from tests.upstreams.pool_bench import METHOD, A, B, Bench, run, started
from tests.upstreams.test_repeated_stream import nothing_left, settings
from tests.upstreams.test_repeating import asked

from silence_gateway.core.status import Code
from silence_gateway.testing.clock import settle
from silence_gateway.testing.scripted_upstream import Failure, Reply, Silence


async def cancelled_while_read(bench: Bench, after_s: float, turns: int = 0) -> None:
    """Read a stream that somebody else cancels; what was read until then does not matter."""
    stream = bench.pool.repeating.stream(METHOD, b"?")

    async def taken() -> None:
        async for _ in stream:
            pass

    task = asyncio.ensure_future(taken())
    await bench.clock.advance(after_s)
    for _ in range(turns):
        await asyncio.sleep(0)
    stream.cancel()
    await settle()
    assert task.done(), "who reads is told at once"
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("turns", range(12))
@pytest.mark.parametrize("after_s", [0.0, 0.1, 0.15, 0.2])
def test_whenever_a_hedged_stream_is_cancelled_none_of_its_attempts_goes_on(
    after_s: float, turns: int
) -> None:
    async def scenario() -> None:
        async with started(settings(A, B, hedge_after_s=0.1)) as bench:
            for name in (A, B):
                bench.endpoints[name].follow(Reply(b"1", b"2", after_s=0.1))
            await cancelled_while_read(bench, after_s, turns)
            await bench.clock.advance(5)

            assert nothing_left(bench)
            assert sum(bench.pool.statistics.calls_by_code.values()) == 1
            assert sum(asked(bench, A, B)) <= 2

    run(scenario)


def test_a_stream_whose_latest_attempt_has_failed_is_cancelled_where_it_still_runs() -> None:
    async def scenario() -> None:
        async with started(settings(A, B, hedge_after_s=0.1, attempts=2)) as bench:
            slow, failing = Reply(b"1", b"2", after_s=1.0), Failure(Code.UNAVAILABLE)
            bench.pool.drain_endpoint(B)
            bench.endpoints[A].follow(slow)
            bench.endpoints[B].follow(failing)
            cancelling = asyncio.ensure_future(cancelled_while_read(bench, 0.5))
            await settle()
            bench.pool.activate_endpoint(B)
            await cancelling
            await bench.clock.advance(5)

            assert asked(bench, A, B) == [1, 1]
            assert bench.pool.statistics.calls_by_code == {"CANCELLED": 1}
            assert nothing_left(bench)

    run(scenario)


@pytest.mark.parametrize("turns", range(3))
def test_a_stream_that_is_cancelled_before_its_next_attempt_makes_none(turns: int) -> None:
    async def scenario() -> None:
        async with started(settings(A, B, wait_s=1.0)) as bench:
            for name in (A, B):
                bench.endpoints[name].follow(Failure(Code.UNAVAILABLE))
            await cancelled_while_read(bench, 0.0, turns)
            await bench.clock.advance(5)

            assert sum(asked(bench, A, B)) == 1
            assert bench.pool.statistics.calls_by_code == {"CANCELLED": 1}
            assert nothing_left(bench)

    run(scenario)


@pytest.mark.parametrize("hedge_after_s", [None, 5.0], ids=["repeated", "hedged"])
def test_a_stream_that_is_cancelled_here_is_not_made_again_although_cancelled_ones_are(
    hedge_after_s: float | None,
) -> None:
    async def scenario() -> None:
        told = settings(A, B, on=frozenset({Code.CANCELLED}), hedge_after_s=hedge_after_s)
        async with started(told) as bench:
            for name in (A, B):
                bench.endpoints[name].follow(Silence())
            await cancelled_while_read(bench, 0.5)
            await bench.clock.advance(5)

            assert sum(asked(bench, A, B)) == 1
            assert bench.pool.statistics.calls_by_code == {"CANCELLED": 1}
            assert nothing_left(bench)

    run(scenario)
