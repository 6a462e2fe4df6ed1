"""What a pool tells of its endpoints: how calls ended, how long they took, what went wrong, who says so."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from tests.upstreams.pool_bench import A, B, Bench, run, settings_of, started
from tests.upstreams.test_pool_fleet import LEASE_S, fleet_of, shop

from silence_gateway.core.breaker import State
from silence_gateway.core.status import Code
from silence_gateway.errors import GatewayError, RpcError
from silence_gateway.stores.memory import MemoryHub, MemoryStore
from silence_gateway.testing.clock import FakeClock, settle
from silence_gateway.testing.scripted_endpoints import NOT_SERVING
from silence_gateway.testing.scripted_upstream import Broken, Failure, Reply, Silence
from silence_gateway.upstreams.pool_statistics import UpstreamStatistics
from silence_gateway.upstreams.record import MAX_ERROR_TEXT, MAX_MOVES
from silence_gateway.upstreams.settings import BreakerSettings, OutlierSettings

NEVER = BreakerSettings(consecutive=1_000_000, min_calls=1_000_000)
TOLERANCE = 0.05


async def calls(bench: Bench, count: int = 1) -> None:
    """Make calls one after the other, with time enough for each."""
    for _ in range(count):
        call = bench.begin(5)
        await settle()
        await bench.clock.advance(6)
        with suppress(GatewayError):
            await call


def test_calls_are_told_by_code_and_by_how_long_they_took() -> None:
    async def scenario() -> None:
        async with started(settings_of(A, breaker=NEVER)) as bench:
            script = Reply(b"ok", after_s=0.1) * 9 + Reply(b"ok", after_s=2.0)
            bench.endpoints[A].follow(script + Failure(Code.NOT_FOUND, after_s=0.1) + Silence())
            await calls(bench, 12)

            told = bench.standing(A)
            p50_s, p90_s, p99_s = told.latency.quantiles_s
            assert told.codes == {"OK": 10, "NOT_FOUND": 1, "DEADLINE_EXCEEDED": 1}
            assert (told.calls, told.failures) == (12, {"NOT_FOUND": 1, "DEADLINE_EXCEEDED": 1})
            assert p50_s == pytest.approx(0.1, rel=TOLERANCE)
            assert p90_s == pytest.approx(2.0, rel=TOLERANCE)
            assert p99_s == pytest.approx(5.0, rel=TOLERANCE)

    run(scenario)


def test_what_was_turned_away_or_left_is_not_timed() -> None:
    """A connection that refuses at once is not quick to answer, and a caller that leaves says nothing."""

    async def scenario() -> None:
        async with started(settings_of(A, breaker=NEVER)) as bench:
            bench.endpoints[A].follow(Broken(sent=True) + Silence())
            await calls(bench)
            left = bench.begin()
            await settle()
            left.cancel()
            await asyncio.gather(left, return_exceptions=True)

            told = bench.standing(A)
            assert (told.calls, sum(told.latency.counts)) == (2, 0)
            assert told.latency.quantiles_s == (None, None, None)

    run(scenario)


def test_a_call_that_waited_is_timed_from_its_place() -> None:
    async def scenario() -> None:
        async with started(settings_of(A)) as bench:
            bench.endpoints[A].connections[0].max_streams = 1
            bench.endpoints[A].follow(Reply(b"ok", after_s=1.0))
            both = [bench.begin(10), bench.begin(10)]
            await settle()
            await bench.clock.advance(3)
            await asyncio.gather(*both)

            p50_s, _, p99_s = bench.standing(A).latency.quantiles_s
            assert (p50_s, p99_s) == (pytest.approx(1, rel=TOLERANCE), pytest.approx(1, rel=TOLERANCE))

    run(scenario)


def test_the_last_minute_is_told_from_the_rest() -> None:
    async def scenario() -> None:
        async with started(settings_of(A, breaker=NEVER)) as bench:
            bench.endpoints[A].follow(Failure(Code.INTERNAL, after_s=1.0) * 3 + Reply(b"ok", after_s=0.1))
            await calls(bench, 3)
            then = bench.standing(A).recent
            await bench.clock.advance(90)
            await calls(bench, 2)
            now = bench.standing(A).recent

            assert (then.calls, then.faults) == (3, 3)
            assert (now.calls, now.faults) == (2, 0)
            assert now.latency.quantiles_s[2] == pytest.approx(0.1, rel=TOLERANCE)
            assert 60 <= now.span_s <= 75

    run(scenario)


def test_answers_about_the_request_are_no_faults() -> None:
    async def scenario() -> None:
        async with started(settings_of(A)) as bench:
            bench.endpoints[A].follow(Failure(Code.NOT_FOUND) + Failure(Code.UNKNOWN) + Reply(b"ok"))
            await calls(bench, 3)

            assert (bench.standing(A).recent.calls, bench.standing(A).recent.faults) == (3, 1)

    run(scenario)


def test_what_went_wrong_last_is_told_with_its_code_and_time() -> None:
    async def scenario() -> None:
        async with started(settings_of(A, breaker=NEVER)) as bench:
            bench.endpoints[A].follow(Failure(Code.INTERNAL, "x" * 1000) + Reply(b"ok"))
            before_us = bench.clock.now_us()
            await calls(bench)

            told = bench.standing(A)
            assert told.last_error.startswith("INTERNAL: ")
            assert len(told.last_error) == MAX_ERROR_TEXT
            assert (told.last_error_code, told.last_error_us) == ("INTERNAL", before_us)

            bench.endpoints[A].die()
            await settle()
            assert bench.standing(A).last_error_code == ""

    run(scenario)


def test_bytes_and_connections_are_counted_over_connections_that_are_gone() -> None:
    async def scenario() -> None:
        async with started(settings_of(A)) as bench:
            bench.endpoints[A].follow(Reply(b"12345"))
            await calls(bench)
            bench.endpoints[A].connections[0].stop()
            await settle()
            await calls(bench)

            told = bench.standing(A)
            assert (told.bytes_in, told.bytes_out) == (10, 2)
            assert (told.connects, told.connections) == (2, 1)

    run(scenario)


def test_totals_do_not_fall_when_an_endpoint_leaves() -> None:
    async def scenario() -> None:
        outliers = OutlierSettings(consecutive=1, ejection_s=30)
        async with started(settings_of(A, B, breaker=NEVER, outliers=outliers)) as bench:
            for address in (A, B):
                bench.endpoints[address].follow(Failure(Code.INTERNAL, after_s=0.1) + Reply(b"12345"))
            await calls(bench, 6)
            before = bench.pool.statistics
            bench.pool.remove_endpoint(A)
            bench.pool.remove_endpoint(B)
            await settle()
            after = bench.pool.statistics

            assert after.endpoints == ()
            assert sorted(one.address for one in after.departed) == [A, B]
            assert sum(one.calls for one in after.departed) == 6
            assert sum(one.faults for one in after.departed) == before.calls_by_code["INTERNAL"]
            assert all(one.mishap is not None and one.mishap.code == "INTERNAL" for one in after.departed)
            assert before.ejections >= 1
            for name in ("calls_by_code", "latency", "bytes_in", "bytes_out", "ejections"):
                assert getattr(after, name) == getattr(before, name), name

    run(scenario)


def test_an_ejection_says_until_when_and_why() -> None:
    async def scenario() -> None:
        outliers = OutlierSettings(consecutive=1, ejection_s=30)
        async with started(
            settings_of(A, B, breaker=NEVER, outliers=outliers, balancer="round_robin")
        ) as bench:
            bench.endpoints[A].follow(Failure(Code.INTERNAL) + Reply(b"ok"))
            now_us = bench.clock.now_us()
            with suppress(RpcError):
                await bench.call()
                await bench.call()

            told = bench.standing(A)
            assert (told.ejected, told.ejections) == (True, 1)
            assert (told.ejected_until_us, told.ejected_because) == (
                now_us + 30_000_000,
                "1 failures in a row",
            )
            await bench.clock.advance(30)
            told = bench.standing(A)
            assert (told.ejected, told.ejected_until_us, told.ejected_because) == (False, 0, "")

    run(scenario)


def test_a_breaker_remembers_its_moves_and_only_so_many() -> None:
    async def scenario() -> None:
        breaker = BreakerSettings(consecutive=1, cool_down_s=1)
        async with started(settings_of(A, breaker=breaker)) as bench:
            bench.endpoints[A].follow(Failure(Code.UNAVAILABLE, "busy"))
            bench.endpoints[A].health.follow(NOT_SERVING)
            with suppress(RpcError):
                await bench.call()
            (move,) = bench.standing(A).breaker_moves
            told = bench.pool.statistics

            assert (move.old, move.new, move.by) == ("closed", "open", told.instance)
            assert move.reason.startswith("too many failures; last: ")
            assert move.at_us == bench.clock.now_us()
            await bench.clock.advance(60)
            told_of = bench.standing(A)
            assert len(told_of.breaker_moves) == MAX_MOVES
            assert sum(told_of.breaker_moved_to.values()) > MAX_MOVES
            assert [move.at_us for move in told_of.breaker_moves] == sorted(
                move.at_us for move in told_of.breaker_moves
            )

    run(scenario)


def test_a_held_breaker_says_who_was_told() -> None:
    async def scenario() -> None:
        async with fleet_of(shop(A)) as fleet:
            await fleet.pools[0].hold_breaker(A, State.HELD_OPEN, "moving house", 60)
            await settle()

            told = [fleet.standing(index).breaker_moves[-1] for index in (0, 1)]
            first = fleet.pools[0].statistics.instance
            assert [move.by for move in told] == [first, first]
            assert [move.instance for move in told] == [pool.statistics.instance for pool in fleet.pools]
            assert told[0].reason == "held open by an operator: moving house"

    run(scenario)


def test_every_instance_knows_who_checks_since_when_and_what_came_of_it() -> None:
    async def scenario() -> None:
        async with fleet_of(shop(A), apart_s=5) as fleet:
            await fleet.clock.advance(30)
            here, there = fleet.standing(0), fleet.standing(1)

            assert here.prober == there.prober == fleet.pools[0].statistics.instance
            assert here.prober_since_us == there.prober_since_us
            assert (there.last_check, there.last_check_by) == ("serving", here.prober)
            assert there.last_check_us == here.last_check_us
            assert fleet.clock.now_us() - there.last_check_us < 5_000_000

    run(scenario)


def test_who_takes_checking_over_is_named() -> None:
    async def scenario() -> None:
        async with fleet_of(shop(A), apart_s=5) as fleet:
            await fleet.clock.advance(5)
            since_us = fleet.clock.now_us()
            await fleet.pools[0].stop(drain_s=0)
            await fleet.clock.advance(3 * LEASE_S)

            told = fleet.standing(1)
            assert told.prober == fleet.pools[1].statistics.instance
            assert told.prober_since_us > since_us

    run(scenario)


def test_a_trip_of_another_instance_names_it() -> None:
    async def scenario() -> None:
        async with fleet_of(shop(A)) as fleet:
            fleet.endpoints[0][A].follow(Failure(Code.UNAVAILABLE))
            for _ in range(2):
                with pytest.raises(RpcError):
                    await fleet.call(0)
            await settle()

            move = fleet.standing(1).breaker_moves[-1]
            assert (move.reason, move.by) == (
                "opened by another instance",
                fleet.pools[0].statistics.instance,
            )

    run(scenario)


def told(pool: Any) -> tuple[int, int]:
    """Return calls counted ever, and since the last reset."""
    ever: UpstreamStatistics = pool.statistics
    since: UpstreamStatistics = pool.statistics_since_reset
    return sum(ever.calls_by_code.values()), sum(since.calls_by_code.values())


def test_statistics_begin_anew_and_totals_go_on() -> None:
    async def scenario() -> None:
        async with started(settings_of(A, breaker=NEVER)) as bench:
            bench.endpoints[A].follow(Failure(Code.INTERNAL) + Reply(b"12345", after_s=0.1))
            await calls(bench, 3)
            assert told(bench.pool) == (3, 3)
            assert not await bench.pool.reset_statistics()
            reset_us = bench.clock.now_us()
            assert told(bench.pool) == (3, 0)
            await calls(bench, 2)

            since = bench.pool.statistics_since_reset
            (endpoint,) = since.endpoints
            assert told(bench.pool) == (5, 2)
            assert (since.since_us, since.calls_by_code) == (reset_us, {"OK": 2})
            assert (endpoint.calls, endpoint.codes, endpoint.failures) == (2, {"OK": 2}, {})
            assert (endpoint.bytes_in, endpoint.recent.calls, endpoint.recent.faults) == (10, 2, 0)
            assert sum(endpoint.latency.counts) == sum(since.latency.counts) == 2
            assert endpoint.last_error_code == "INTERNAL"

    run(scenario)


def test_calls_that_nobody_could_take_are_told_though_no_endpoint_knows_of_them() -> None:
    async def scenario() -> None:
        async with started(settings_of(A)) as bench:
            bench.endpoints[A].refuse()
            bench.endpoints[A].connections[0].lose()
            await settle()
            await calls(bench, 3)
            waits = bench.begin()
            waits.cancel()
            await asyncio.gather(waits, return_exceptions=True)

            told = bench.pool.statistics
            assert (told.unplaced, told.recent.calls, told.calls_by_code["UNAVAILABLE"]) == (3, 0, 3)

            await bench.pool.reset_statistics()
            assert bench.pool.statistics_since_reset.unplaced == 0
            assert bench.pool.statistics.unplaced == 3

    run(scenario)


def test_an_endpoint_that_returned_is_counted_from_its_return() -> None:
    async def scenario() -> None:
        async with started(settings_of(A, B)) as bench:
            await calls(bench, 10)
            await bench.pool.reset_statistics()
            (settings,) = [one for one in bench.pool.settings.endpoints if one.address == A]
            bench.pool.remove_endpoint(A)
            await bench.clock.advance(1)
            bench.pool.add_endpoint(settings)
            await settle()
            await calls(bench, 10)

            since = bench.pool.statistics_since_reset
            assert sum(endpoint.calls for endpoint in since.endpoints) == 10
            assert sum(since.calls_by_code.values()) == 10

    run(scenario)


def test_statistics_begin_anew_in_the_whole_fleet() -> None:
    async def scenario() -> None:
        async with fleet_of(shop(A)) as fleet:
            for index in (0, 1):
                await fleet.call(index)
            assert await fleet.pools[0].reset_statistics()
            await settle()
            assert [told(pool) for pool in fleet.pools] == [(1, 0), (1, 0)]
            await fleet.call(1)

            assert [told(pool) for pool in fleet.pools] == [(1, 0), (2, 1)]

    run(scenario)


def test_who_could_not_be_told_follows_when_the_store_is_back() -> None:
    async def scenario() -> None:
        async with fleet_of(shop(A)) as fleet:
            await fleet.call(0)
            await fleet.call(1)
            fleet.hub.go_away()
            assert not await fleet.pools[0].reset_statistics()
            assert [told(pool) for pool in fleet.pools] == [(1, 0), (1, 1)]

            fleet.hub.come_back()
            await settle()
            assert told(fleet.pools[1]) == (1, 0)

    run(scenario)


@pytest.mark.parametrize("value", [b"?", b'{"by":"x"}', b'{"by":"x","at_us":1}'])
def test_a_word_that_is_none_or_old_resets_nothing(value: bytes) -> None:
    async def scenario() -> None:
        hub = MemoryHub(FakeClock())
        async with started(settings_of(A), board=MemoryStore(hub, instance_id="us").board) as bench:
            await calls(bench)
            await MemoryStore(hub, instance_id="them").board.put("resets/shop", "statistics", value)
            await settle()

            assert told(bench.pool) == (1, 1)

    run(scenario)
