"""Calls through a pool: chosen, failed over, counted, drained. Everything here runs on fakes."""

from __future__ import annotations

import asyncio

import pytest
from tests.upstreams.pool_bench import METHOD, A, B, Bench, C, run, settings_of, started

from silence_gateway.core.status import Code
from silence_gateway.errors import ConfigError, RpcError, UpstreamTimeout, UpstreamUnavailable
from silence_gateway.events import EndpointDown
from silence_gateway.testing.clock import settle
from silence_gateway.testing.scripted_upstream import Broken, Failure, Reply, Silence
from silence_gateway.upstreams.contracts import Reply as Answer
from silence_gateway.upstreams.retry_settings import RetrySettings
from silence_gateway.upstreams.settings import EndpointSettings


def test_round_robin_visits_everyone_in_turn() -> None:
    async def scenario() -> None:
        async with started(settings_of(A, B, C, balancer="round_robin")) as bench:
            for _ in range(9):
                assert await bench.call() == b"ok"

            assert [len(bench.endpoints[name].calls) for name in (A, B, C)] == [3, 3, 3]

    run(scenario)


def test_weights_share_calls_out() -> None:
    async def scenario() -> None:
        endpoints = (EndpointSettings(address=A, weight=3), EndpointSettings(address=B, weight=1))
        async with started(settings_of(balancer="round_robin", endpoints=endpoints)) as bench:
            for _ in range(8):
                await bench.call()

            assert [len(bench.endpoints[name].calls) for name in (A, B)] == [6, 2]

    run(scenario)


@pytest.mark.parametrize("balancer", ["least_request", "random"])
def test_other_balancers_use_everyone(balancer: str) -> None:
    async def scenario() -> None:
        async with started(settings_of(A, B, C, balancer=balancer)) as bench:
            for _ in range(60):
                await bench.call()

            assert all(len(bench.endpoints[name].calls) > 5 for name in (A, B, C))

    run(scenario)


def test_the_call_reaches_the_endpoint_as_it_was_made() -> None:
    async def scenario() -> None:
        async with started(settings_of(A, timeout_s=3)) as bench:
            bench.endpoints[A].follow(Reply(b"yes", trailing_metadata=[(b"t", b"1")]))

            reply: Answer = await bench.pool.unary(METHOD, b"hello", [(b"k", b"v")])

            (call,) = bench.endpoints[A].calls
            assert (call.method, call.message, call.metadata) == (METHOD, b"hello", [(b"k", b"v")])
            assert call.deadline_s == bench.clock.monotonic_s() + 3
            assert (reply.message, reply.trailing_metadata) == (b"yes", [(b"t", b"1")])

    run(scenario)


def test_starting_never_fails_and_calls_fail_at_once_when_everyone_is_down() -> None:
    async def scenario() -> None:
        bench = Bench(settings_of(A, B))
        bench.endpoints[A].refuse()
        bench.endpoints[B].refuse()
        await bench.pool.start()
        await settle()

        with pytest.raises(UpstreamUnavailable, match=f"{A}: not connected.*{B}: not connected") as caught:
            await bench.call()

        assert not caught.value.sent
        assert [event.endpoint for event in bench.said(EndpointDown)] == [A, B]  # type: ignore[attr-defined]
        assert bench.pool.statistics.calls_by_code == {"UNAVAILABLE": 1}
        await bench.pool.stop()

    run(scenario)


def test_a_call_that_never_left_goes_to_another_endpoint() -> None:
    async def scenario() -> None:
        async with started(settings_of(A, B, balancer="round_robin")) as bench:
            bench.endpoints[A].follow(Broken(sent=False))

            assert [await bench.call() for _ in range(4)] == [b"ok"] * 4

            assert len(bench.endpoints[B].calls) == 4
            told = bench.pool.statistics
            assert told.failovers == len(bench.endpoints[A].calls) > 0
            assert told.calls_by_code == {"OK": 4}
            assert sum(told.latency_counts) == 4
            assert bench.standing(A).failures == {"UNAVAILABLE": told.failovers}

    run(scenario)


def test_it_is_offered_to_every_endpoint_at_most_once() -> None:
    async def scenario() -> None:
        async with started(settings_of(A, B, retry=RetrySettings(attempts=9))) as bench:
            for name in (A, B):
                bench.endpoints[name].follow(Broken(sent=False))

            with pytest.raises(UpstreamUnavailable):
                await bench.call()

            assert [len(bench.endpoints[name].calls) for name in (A, B)] == [1, 1]

    run(scenario)


def test_attempts_bound_failover() -> None:
    async def scenario() -> None:
        async with started(settings_of(A, B, C, retry=RetrySettings(attempts=2))) as bench:
            for name in (A, B, C):
                bench.endpoints[name].follow(Broken(sent=False))

            with pytest.raises(UpstreamUnavailable):
                await bench.call()

            assert sum(len(bench.endpoints[name].calls) for name in (A, B, C)) == 2

    run(scenario)


def test_a_call_that_is_turned_away_comes_again_after_a_pause_and_the_breaker_stays_closed() -> None:
    async def scenario() -> None:
        async with started(settings_of(A, retry=RetrySettings(attempts=1))) as bench:
            bench.endpoints[A].follow(Broken(sent=False, refused=True) + Reply(b"at last"))
            call = bench.begin()
            await settle()
            assert len(bench.endpoints[A].calls) == 1

            await bench.clock.advance(0.01)

            assert await call == b"at last"
            assert len(bench.endpoints[A].calls) == 2
            assert bench.standing(A).breaker == "closed"
            assert bench.pool.statistics.calls_by_code == {"OK": 1}

    run(scenario)


def test_a_call_that_is_turned_away_goes_to_another_endpoint_at_once() -> None:
    async def scenario() -> None:
        async with started(settings_of(A, B, balancer="round_robin")) as bench:
            bench.endpoints[A].follow(Broken(sent=False, refused=True))

            assert [await bench.call() for _ in range(4)] == [b"ok"] * 4

            assert len(bench.endpoints[B].calls) == 4

    run(scenario)


def test_a_call_that_is_always_turned_away_ends_as_unavailable() -> None:
    async def scenario() -> None:
        async with started(settings_of(A)) as bench:
            bench.endpoints[A].follow(Broken(sent=False, refused=True))
            call = bench.begin()

            await bench.clock.advance(2)

            with pytest.raises(UpstreamUnavailable):
                await call
            assert len(bench.endpoints[A].calls) == 4, "once for nothing, and three attempts"
            assert bench.pool.statistics.failovers == 3

    run(scenario)


def test_a_call_that_is_turned_away_does_not_outlive_its_deadline() -> None:
    async def scenario() -> None:
        async with started(settings_of(A)) as bench:
            bench.endpoints[A].follow(Broken(sent=False, refused=True))
            call = bench.begin(deadline_s=0.01)

            await bench.clock.advance(0.011)

            with pytest.raises((UpstreamTimeout, UpstreamUnavailable)):
                await call

    run(scenario)


def test_a_call_that_may_have_left_is_not_repeated() -> None:
    async def scenario() -> None:
        async with started(settings_of(A, B)) as bench:
            for name in (A, B):
                bench.endpoints[name].follow(Broken(sent=True))

            with pytest.raises(UpstreamUnavailable):
                await bench.call()

            assert sum(len(bench.endpoints[name].calls) for name in (A, B)) == 1

    run(scenario)


def test_a_cancelled_call_is_cancelled_at_the_endpoint_and_says_nothing_about_it() -> None:
    async def scenario() -> None:
        async with started(settings_of(A)) as bench:
            bench.endpoints[A].follow(Silence())
            for _ in range(50):
                call = bench.begin()
                await settle()
                call.cancel()
                await settle()

            assert all(call.cancelled for call in bench.endpoints[A].calls)
            assert bench.standing(A).breaker == "closed"
            assert bench.standing(A).in_flight == 0
            assert bench.standing(A).failures == {"CANCELLED": 50}

    run(scenario)


def test_draining_takes_no_new_calls_and_activating_undoes_it() -> None:
    async def scenario() -> None:
        async with started(settings_of(A, B, balancer="round_robin")) as bench:
            bench.pool.drain_endpoint(A)
            for _ in range(4):
                await bench.call()
            assert len(bench.endpoints[A].calls) == 0
            assert bench.standing(A).reason == "draining"
            assert bench.said(EndpointDown) == []

            bench.pool.activate_endpoint(A)
            for _ in range(4):
                await bench.call()

            assert len(bench.endpoints[A].calls) == 2
            with pytest.raises(KeyError):
                bench.pool.drain_endpoint("10.9.9.9:1")

    run(scenario)


def test_endpoints_come_and_go_while_running_and_counts_stay() -> None:
    async def scenario() -> None:
        async with started(settings_of(A)) as bench:
            bench.endpoints[A].follow(Reply(b"ok", after_s=1))
            call = bench.begin()
            await settle()
            bench.pool.add_endpoint(EndpointSettings(address=B))
            with pytest.raises(ConfigError, match="is here already"):
                bench.pool.add_endpoint(EndpointSettings(address=B))
            await settle()

            bench.pool.remove_endpoint(A)
            assert await bench.call() == b"ok"
            assert len(bench.endpoints[B].calls) == 1
            with pytest.raises(KeyError):
                bench.pool.activate_endpoint(A)
            await bench.clock.advance(1)

            assert await call == b"ok"
            assert [one.address for one in bench.pool.statistics.endpoints] == [B]
            assert bench.pool.statistics.calls_by_code == {"OK": 2}
            await settle()
            assert bench.endpoints[A].connections == []

    run(scenario)


def test_stopping_drains_and_refuses_new_calls() -> None:
    async def scenario() -> None:
        async with started(settings_of(A)) as bench:
            bench.endpoints[A].follow(Reply(b"ok", after_s=1))
            call = bench.begin()
            await settle()

            stopping = asyncio.ensure_future(bench.pool.stop(drain_s=5))
            await settle()
            with pytest.raises(UpstreamUnavailable, match="is not running"):
                await bench.call()
            assert not stopping.done()
            await bench.clock.advance(1)

            assert await call == b"ok"
            await stopping
            assert bench.endpoints[A].connections == []

    run(scenario)


def test_stopping_waits_for_stragglers_only_so_long() -> None:
    async def scenario() -> None:
        async with started(settings_of(A, timeout_s=60)) as bench:
            bench.endpoints[A].follow(Silence())
            call = bench.begin()
            await settle()

            stopping = asyncio.ensure_future(bench.pool.stop(drain_s=2))
            await bench.clock.advance(2)
            await stopping

            with pytest.raises(UpstreamUnavailable, match="closed here"):
                await call

    run(scenario)


def test_statistics_tell_where_calls_went_and_how_long_they_took() -> None:
    async def scenario() -> None:
        async with started(settings_of(A)) as bench:
            bench.endpoints[A].follow(Reply(b"ok", after_s=0.3) + Failure(Code.NOT_FOUND, after_s=0.02))
            call = bench.begin()
            await bench.clock.advance(0.3)
            assert await call == b"ok"
            call = bench.begin()
            await bench.clock.advance(0.02)
            with pytest.raises(RpcError):
                await call

            told = bench.pool.statistics

            assert told.calls_by_code == {"OK": 1, "NOT_FOUND": 1}
            assert sum(told.latency_counts) == 2
            assert told.latency_sum_s == pytest.approx(0.32)
            (endpoint,) = told.endpoints
            assert (endpoint.calls, endpoint.in_flight, endpoint.connections) == (2, 0, 1)
            assert (endpoint.state, endpoint.link, endpoint.health) == ("ready", "connected", "unknown")

    run(scenario)


def test_an_upstream_that_was_stopped_says_so_when_it_is_started_again() -> None:
    """It took calls and let each wait for its deadline: nobody gives places any more."""

    async def scenario() -> None:
        async with started(settings_of(A)) as bench:
            await bench.pool.stop(drain_s=0)

            with pytest.raises(RuntimeError, match="was stopped: make a new one"):
                await bench.pool.start()
            with pytest.raises(UpstreamUnavailable, match="not running"):
                await bench.call()

    run(scenario)


def test_endpoints_that_are_texts_are_told_what_they_should_be_and_change_nothing() -> None:
    async def scenario() -> None:
        async with started(settings_of(A)) as bench:
            with pytest.raises(TypeError, match=r"EndpointSettings\(address='host:port'\), not '10"):
                bench.pool.set_endpoints([EndpointSettings(address=B), "10.0.0.3:1"])  # type: ignore[list-item]

            assert [one.address for one in bench.pool.statistics.endpoints] == [A]

    run(scenario)
