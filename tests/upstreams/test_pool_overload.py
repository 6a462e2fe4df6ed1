"""What a pool does when there is too much to do: an adaptive limit, and a line that is kept short."""

from __future__ import annotations

import asyncio

import pytest
from tests.upstreams.pool_bench import METHOD, A, B, Bench, run, settings_of, started

from silence_gateway.core.concurrency_limit import ConcurrencyRules
from silence_gateway.core.shedding import Importance, SheddingRules
from silence_gateway.core.status import Code
from silence_gateway.errors import UpstreamTimeout, UpstreamUnavailable
from silence_gateway.testing.clock import settle
from silence_gateway.testing.scripted_upstream import Failure, Reply, Silence
from silence_gateway.upstreams.settings import BreakerSettings, PoolSettings
from silence_gateway.upstreams.steering import SteeredCaller

LIMITED = settings_of(A, concurrency=ConcurrencyRules(initial=4, minimum=2, maximum=50))
NARROW = PoolSettings(max_connections=1, max_streams=1)


def begin(bench: Bench, importance: Importance = Importance.NORMAL) -> asyncio.Task[bytes]:
    async def call() -> bytes:
        return (await SteeredCaller(bench.pool, importance=importance).unary(METHOD, b"?")).message

    return asyncio.ensure_future(call())


async def outcome(call: asyncio.Task[bytes]) -> str:
    (end,) = await asyncio.gather(call, return_exceptions=True)
    return end.decode() if isinstance(end, bytes) else str(end)


def test_calls_above_the_limit_wait_for_others_to_end() -> None:
    async def scenario() -> None:
        async with started(LIMITED) as bench:
            bench.endpoints[A].follow(Reply(b"ok", after_s=1))
            calls = [bench.begin() for _ in range(6)]
            await settle()
            assert (bench.standing(A).in_flight, bench.pool.statistics.waiting) == (4, 2)

            await bench.clock.advance(1)
            assert (bench.standing(A).in_flight, bench.pool.statistics.waiting) == (2, 0)

            await bench.clock.advance(1)
            assert await asyncio.gather(*calls) == [b"ok"] * 6

    run(scenario)


def test_without_rules_nothing_is_limited_and_none_is_told() -> None:
    async def scenario() -> None:
        async with started(settings_of(A)) as bench:
            bench.endpoints[A].follow(Reply(b"ok", after_s=1))
            calls = [bench.begin() for _ in range(90)]
            await settle()

            assert bench.standing(A).in_flight == 90
            assert bench.pool.statistics.concurrency_limit == 0
            await bench.clock.advance(1)
            await asyncio.gather(*calls)

    run(scenario)


def test_the_limit_grows_while_calls_are_quick_and_lets_those_in_who_wait() -> None:
    async def scenario() -> None:
        async with started(LIMITED) as bench:
            bench.endpoints[A].follow(Reply(b"ok", after_s=0.05))
            calls = [bench.begin() for _ in range(60)]
            for _ in range(30):
                await bench.clock.advance(0.05)

            assert await asyncio.gather(*calls) == [b"ok"] * 60
            assert bench.pool.statistics.concurrency_limit > 4
            assert bench.pool.statistics.waiting == 0

    run(scenario)


def test_calls_that_were_turned_away_make_the_limit_smaller() -> None:
    async def scenario() -> None:
        settings = settings_of(
            A,
            concurrency=ConcurrencyRules(initial=10, minimum=2, maximum=50),
            breaker=BreakerSettings(consecutive=10_000, min_calls=10_000),
        )
        async with started(settings) as bench:
            bench.endpoints[A].follow(Failure(14, after_s=0.01))
            for _ in range(30):
                calls = [bench.begin() for _ in range(10)]
                await bench.clock.advance(0.1)
                await asyncio.gather(*calls, return_exceptions=True)

            assert bench.pool.statistics.concurrency_limit < 5

    run(scenario)


def test_callers_who_leave_because_it_takes_too_long_make_the_limit_smaller() -> None:
    async def scenario() -> None:
        settings = settings_of(A, concurrency=ConcurrencyRules(initial=40, minimum=2, maximum=50))
        async with started(settings) as bench:
            bench.endpoints[A].follow(Reply(b"ok", after_s=2))
            for _ in range(40):
                calls = [bench.begin() for _ in range(40)]
                await bench.clock.advance(0.5)
                for call in calls:
                    call.cancel()
                await asyncio.gather(*calls, return_exceptions=True)

            assert bench.pool.statistics.concurrency_limit < 10

    run(scenario)


def test_callers_in_a_hurry_do_not_make_the_limit_smaller_for_all() -> None:
    async def scenario() -> None:
        settings = settings_of(
            A,
            concurrency=ConcurrencyRules(initial=20, minimum=2, maximum=50),
            breaker=BreakerSettings(consecutive=10_000, min_calls=10_000),
        )
        async with started(settings) as bench:
            bench.endpoints[A].follow(Reply(b"ok", after_s=0.02))
            for _ in range(100):
                calls = [bench.begin() for _ in range(12)] + [bench.begin(deadline_s=0.005)]
                await bench.clock.advance(0.1)
                await asyncio.gather(*calls, return_exceptions=True)

            assert bench.pool.statistics.concurrency_limit >= 20

    run(scenario)


@pytest.mark.parametrize("code", [Code.RESOURCE_EXHAUSTED, Code.UNKNOWN])
@pytest.mark.parametrize("known", [False, True], ids=["from-the-start", "once-answers-were-seen"])
def test_errors_that_come_without_work_are_not_taken_for_quick_answers(code: Code, *, known: bool) -> None:
    async def scenario() -> None:
        async with started(LIMITED) as bench:
            script = Reply(b"ok", after_s=0.05) * (20 if known else 0) + Failure(code, after_s=0.001)
            bench.endpoints[A].follow(script)
            for _ in range(50):
                calls = [bench.begin() for _ in range(10)]
                await bench.clock.advance(0.2)
                await asyncio.gather(*calls, return_exceptions=True)

            assert 4 <= bench.pool.statistics.concurrency_limit <= 5

    run(scenario)


def test_errors_that_come_late_make_the_limit_smaller() -> None:
    async def scenario() -> None:
        settings = settings_of(A, concurrency=ConcurrencyRules(initial=20, minimum=2, maximum=20))
        async with started(settings) as bench:
            bench.endpoints[A].follow(Reply(b"ok", after_s=0.01) * 400 + Failure(Code.UNKNOWN, after_s=1))
            for _ in range(80):
                calls = [bench.begin() for _ in range(20)]
                await bench.clock.advance(1.1)
                for call in calls:
                    call.cancel()
                await asyncio.gather(*calls, return_exceptions=True)

            assert bench.pool.statistics.concurrency_limit < 10

    run(scenario)


def test_those_who_are_told_to_look_together_and_find_nothing_keep_their_order() -> None:
    async def scenario() -> None:
        settings = settings_of(
            A,
            B,
            concurrency=ConcurrencyRules(initial=1, minimum=1, maximum=1),
            pool=PoolSettings(max_waiting=3),
        )
        async with started(settings) as bench:
            order: list[int] = []
            bench.endpoints[A].follow(Reply(b"ok", after_s=1))
            bench.pool.drain_endpoint(B)
            calls = []
            for number in range(4):
                call = bench.begin()
                call.add_done_callback(lambda _, number=number: order.append(number))  # type: ignore[misc] # mypy cannot see the default
                calls.append(call)
                await settle()

            bench.pool.activate_endpoint(B)
            bench.pool.drain_endpoint(B)
            late = bench.begin()
            await settle()
            assert "3 calls wait for one already" in await outcome(late)
            await bench.clock.advance(4)
            assert [await outcome(call) for call in calls] == ["ok"] * 4

            assert order == [0, 1, 2, 3]

    run(scenario)


def test_streams_neither_count_against_the_limit_nor_wait_for_it() -> None:
    async def scenario() -> None:
        async with started(LIMITED) as bench:
            bench.endpoints[A].follow(Silence())
            streams = [bench.pool.stream(METHOD, b"?") for _ in range(10)]
            await settle()
            assert bench.standing(A).in_flight == 10

            bench.endpoints[A].follow(Reply(b"ok"))
            assert await bench.call() == b"ok"
            for stream in streams:
                stream.cancel()
            assert bench.standing(A).in_flight == 0

    run(scenario)


def test_callers_who_leave_give_their_places_back() -> None:
    async def scenario() -> None:
        async with started(LIMITED) as bench:
            bench.endpoints[A].follow(Silence())
            calls = [bench.begin() for _ in range(9)]
            await settle()
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            assert bench.pool.statistics.calls_by_code == {"CANCELLED": 9}, "those in the line as well"

            bench.endpoints[A].follow(Reply(b"ok"))
            assert await asyncio.gather(*[bench.begin() for _ in range(4)]) == [b"ok"] * 4

    run(scenario)


SHEDDING = settings_of(A, pool=NARROW, shedding=SheddingRules(target_us=5_000, interval_us=100_000))


def test_in_a_burst_a_call_waits_up_to_the_interval_and_is_shed_then() -> None:
    async def scenario() -> None:
        async with started(SHEDDING) as bench:
            bench.endpoints[A].follow(Silence())
            busy, waits = bench.begin(), bench.begin()
            await bench.clock.advance(0.099)
            assert not waits.done()

            await bench.clock.advance(0.001)
            with pytest.raises(
                UpstreamUnavailable, match="overloaded; a call of normal importance was shed"
            ) as told:
                await waits
            assert not told.value.sent
            assert told.value.overloaded
            assert told.value.retry_after_s == 0.1
            assert bench.pool.statistics.shed == {"low": 0, "normal": 1, "high": 0}
            assert bench.pool.statistics.unplaced == 0
            busy.cancel()
            await settle()

    run(scenario)


def test_where_the_line_does_not_go_away_newcomers_wait_for_the_target_only() -> None:
    async def scenario() -> None:
        async with started(SHEDDING) as bench:
            bench.endpoints[A].follow(Silence())
            busy = bench.begin()
            await settle()
            first = bench.begin()
            await bench.clock.advance(0.09)
            second = bench.begin()
            await bench.clock.advance(0.02)
            assert first.done()

            # There has been somebody in line for longer than an interval.
            third = bench.begin()
            await bench.clock.advance(0.005)
            assert third.done()
            assert not second.done()
            for call in (first, second, third, busy):
                call.cancel()
            await asyncio.gather(first, second, third, busy, return_exceptions=True)

    run(scenario)


def test_the_important_go_first() -> None:
    async def scenario() -> None:
        async with started(SHEDDING) as bench:
            order: list[str] = []
            bench.endpoints[A].follow(Reply(b"ok", after_s=0.02))
            calls = [bench.begin()]
            await settle()
            for importance in (Importance.LOW, Importance.NORMAL, Importance.HIGH, Importance.NORMAL):
                call = begin(bench, importance)
                call.add_done_callback(lambda _, name=importance.name: order.append(name))  # type: ignore[misc] # mypy cannot see the default
                calls.append(call)
                await settle()
            await bench.clock.advance(0.1)
            await asyncio.gather(*calls)

            assert order == ["HIGH", "NORMAL", "NORMAL", "LOW"]

    run(scenario)


def test_a_full_line_makes_room_for_the_more_important_by_those_who_came_last() -> None:
    async def scenario() -> None:
        settings = settings_of(
            A,
            pool=PoolSettings(max_connections=1, max_streams=1, max_waiting=2),
            shedding=SheddingRules(target_us=5_000, interval_us=1_000_000),
        )
        async with started(settings) as bench:
            bench.endpoints[A].follow(Reply(b"ok", after_s=0.01))
            busy = bench.begin()
            await settle()
            early, late = begin(bench, Importance.LOW), begin(bench, Importance.LOW)
            await settle()
            high = begin(bench, Importance.HIGH)
            await settle()
            refused = begin(bench, Importance.LOW)
            await settle()

            assert "call of low importance was shed" in await outcome(late)
            assert "there is no place, and 2 calls wait for one already" in await outcome(refused)
            await bench.clock.advance(0.1)
            assert [await outcome(call) for call in (busy, early, high)] == ["ok", "ok", "ok"]

    run(scenario)


def test_who_waits_for_a_connection_is_not_shed() -> None:
    async def scenario() -> None:
        bench = Bench(SHEDDING)
        bench.endpoints[A].hang()
        await bench.pool.start()
        await settle()
        call = bench.begin()
        await bench.clock.advance(2)
        bench.endpoints[A].accept()
        await settle()

        assert await call == b"ok"
        await bench.pool.stop(drain_s=0)

    run(scenario)


def test_a_deadline_that_comes_first_is_a_deadline() -> None:
    async def scenario() -> None:
        async with started(SHEDDING) as bench:
            bench.endpoints[A].follow(Silence())
            busy = bench.begin()
            await settle()
            hurried = bench.begin(deadline_s=0.01)
            await bench.clock.advance(0.01)

            with pytest.raises(UpstreamTimeout):
                await hurried
            busy.cancel()
            await settle()

    run(scenario)


def test_importance_means_nothing_without_shedding() -> None:
    async def scenario() -> None:
        async with started(settings_of(A, pool=NARROW)) as bench:
            order: list[str] = []
            bench.endpoints[A].follow(Reply(b"ok", after_s=0.02))
            calls = [bench.begin()]
            await settle()
            for importance in (Importance.LOW, Importance.HIGH):
                call = begin(bench, importance)
                call.add_done_callback(lambda _, name=importance.name: order.append(name))  # type: ignore[misc] # mypy cannot see the default
                calls.append(call)
                await settle()
            await bench.clock.advance(1)
            await asyncio.gather(*calls)

            assert order == ["LOW", "HIGH"]

    run(scenario)
