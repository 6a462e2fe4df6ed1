"""Calls through a pool: chosen, failed over, waited for, counted. Everything here runs on fakes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any

import pytest

from silence_gateway.core.status import Code
from silence_gateway.errors import ConfigError, RpcError, UpstreamTimeout, UpstreamUnavailable
from silence_gateway.events import BreakerMoved, EndpointDown, EndpointUp, Event, Noticed
from silence_gateway.testing.clock import FakeClock, settle
from silence_gateway.testing.scripted_endpoints import NOT_SERVING, SERVING, ScriptedEndpoints
from silence_gateway.testing.scripted_upstream import Broken, Failure, Reply, Silence
from silence_gateway.upstreams.contracts import Reply as Answer
from silence_gateway.upstreams.pool import GrpcUpstream
from silence_gateway.upstreams.settings import (
    BreakerSettings,
    EndpointSettings,
    HealthSettings,
    PoolSettings,
    RetrySettings,
    UpstreamSettings,
)

METHOD = b"/shop.Orders/Get"
A, B, C = "10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"


def addresses(*names: str) -> tuple[EndpointSettings, ...]:
    return tuple(EndpointSettings(address=name) for name in names)


class Bench:
    """A pool on fake endpoints and a fake clock, and what it said."""

    def __init__(self, settings: UpstreamSettings, **more: Any) -> None:
        self.clock = FakeClock()
        self.endpoints = ScriptedEndpoints(self.clock)
        self.events: list[Event] = []
        self.pool = GrpcUpstream(
            settings,
            clock=self.clock,
            observer=self.events.append,
            rng=Random(7),
            connector=self.endpoints.connect,
            **more,
        )

    async def call(self, deadline_s: float | None = None) -> bytes:
        deadline_s = None if deadline_s is None else self.clock.monotonic_s() + deadline_s
        return (await self.pool.unary(METHOD, b"?", (), deadline_s)).message

    def begin(self, deadline_s: float | None = None) -> asyncio.Task[bytes]:
        return asyncio.ensure_future(self.call(deadline_s))

    def standing(self, address: str) -> Any:
        return next(one for one in self.pool.statistics.endpoints if one.address == address)

    def said(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


def settings_of(*names: str, **more: Any) -> UpstreamSettings:
    return UpstreamSettings(**({"name": "shop", "endpoints": addresses(*names), "health": None} | more))


@asynccontextmanager
async def started(settings: UpstreamSettings, **more: Any) -> AsyncIterator[Bench]:
    bench = Bench(settings, **more)
    await bench.pool.start()
    await settle()
    try:
        yield bench
    finally:
        await bench.pool.stop(drain_s=0)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 20))


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


def test_calls_wait_for_the_first_connection() -> None:
    async def scenario() -> None:
        bench = Bench(settings_of(A))
        bench.endpoints[A].hang()
        await bench.pool.start()
        call = bench.begin()
        await bench.clock.advance(1)
        assert not call.done()
        assert bench.pool.statistics.waiting == 1

        bench.endpoints[A].accept()

        assert await call == b"ok"
        await bench.pool.stop()

    run(scenario)


@pytest.mark.parametrize("deadline_s", [0.5, None], ids=["own-deadline", "upstream-timeout"])
def test_nobody_waits_for_a_connection_past_the_deadline(deadline_s: float | None) -> None:
    async def scenario() -> None:
        bench = Bench(settings_of(A, timeout_s=2))
        bench.endpoints[A].hang()
        await bench.pool.start()
        call = bench.begin(deadline_s)

        await bench.clock.advance((deadline_s or 2) - 0.01)
        assert not call.done()
        await bench.clock.advance(0.02)

        with pytest.raises(UpstreamTimeout) as caught:
            await call
        assert not caught.value.sent
        assert bench.pool.statistics.waiting == 0
        await bench.pool.stop()

    run(scenario)


def test_waiting_calls_fail_as_soon_as_hope_is_gone() -> None:
    async def scenario() -> None:
        bench = Bench(settings_of(A))
        bench.endpoints[A].hang()
        await bench.pool.start()
        call = bench.begin()
        await settle()

        bench.endpoints[A].refuse()

        with pytest.raises(UpstreamUnavailable, match="refuses connections"):
            await call
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


def test_a_call_that_may_have_left_is_not_repeated() -> None:
    async def scenario() -> None:
        async with started(settings_of(A, B)) as bench:
            for name in (A, B):
                bench.endpoints[name].follow(Broken(sent=True))

            with pytest.raises(UpstreamUnavailable):
                await bench.call()

            assert sum(len(bench.endpoints[name].calls) for name in (A, B)) == 1

    run(scenario)


def test_a_goodbye_of_the_only_connection_is_outlived_by_a_new_one() -> None:
    async def scenario() -> None:
        async with started(settings_of(A)) as bench:
            await bench.clock.advance(60)
            bench.endpoints[A].connections[0].stop()

            assert await bench.call() == b"ok"
            assert bench.endpoints[A].dials == 2
            assert bench.said(EndpointDown) == []

    run(scenario)


def test_a_lost_endpoint_is_left_out_and_used_again_when_it_is_back() -> None:
    async def scenario() -> None:
        async with started(settings_of(A, B, balancer="round_robin")) as bench:
            await bench.clock.advance(60)
            bench.endpoints[A].die()
            await settle()

            assert [await bench.call() for _ in range(10)] == [b"ok"] * 10
            assert len(bench.endpoints[A].calls) == 0
            assert bench.standing(A).link == "broken"

            bench.endpoints[A].accept()
            await bench.clock.advance(6)
            for _ in range(4):
                await bench.call()

            assert len(bench.endpoints[A].calls) == 2
            assert [type(event) for event in bench.events] == [EndpointDown, EndpointUp]

    run(scenario)


def test_reconnecting_backs_off_but_never_gives_up() -> None:
    async def scenario() -> None:
        bench = Bench(settings_of(A))
        bench.endpoints[A].refuse()
        await bench.pool.start()

        await bench.clock.advance(300)

        assert 300 / 5 < bench.endpoints[A].dials < 300
        bench.endpoints[A].accept()
        await bench.clock.advance(5.1)
        assert await bench.call() == b"ok"
        await bench.pool.stop()

    run(scenario)


def test_a_connection_that_flaps_is_not_dialled_in_a_busy_loop() -> None:
    async def scenario() -> None:
        async with started(settings_of(A)) as bench:
            for _ in range(200):
                for connection in tuple(bench.endpoints[A].connections):
                    connection.lose()
                await bench.clock.advance(0.05)

            assert bench.endpoints[A].dials < 40

    run(scenario)


def test_more_connections_are_opened_when_streams_run_out_but_not_too_many() -> None:
    async def scenario() -> None:
        settings = settings_of(A, pool=PoolSettings(max_connections=3, max_streams=2))
        async with started(settings) as bench:
            bench.endpoints[A].follow(Reply(b"ok", after_s=1))
            calls = [bench.begin() for _ in range(10)]
            await settle(60)

            assert bench.standing(A).connections == 3
            assert bench.standing(A).in_flight == 6
            assert bench.pool.statistics.waiting == 4

            await bench.clock.advance(1)
            await bench.clock.advance(1)
            assert [await call for call in calls] == [b"ok"] * 10

    run(scenario)


def test_what_the_endpoint_allows_counts_when_it_is_less() -> None:
    async def scenario() -> None:
        bench = Bench(settings_of(A, pool=PoolSettings(max_connections=1, max_streams=100)))
        bench.endpoints[A].max_streams = 1
        bench.endpoints[A].follow(Silence())
        await bench.pool.start()
        calls = [bench.begin(1) for _ in range(3)]
        await settle()

        assert bench.standing(A).in_flight == 1
        await bench.clock.advance(1)
        for call in calls:
            with pytest.raises(UpstreamTimeout):
                await call
        await bench.pool.stop()

    run(scenario)


def test_the_line_is_bounded() -> None:
    async def scenario() -> None:
        pool = PoolSettings(max_connections=1, max_streams=1, max_waiting=2)
        async with started(settings_of(A, pool=pool)) as bench:
            bench.endpoints[A].follow(Reply(b"ok", after_s=1))
            calls = [bench.begin() for _ in range(3)]
            await settle()

            with pytest.raises(UpstreamUnavailable, match="2 calls wait already"):
                await bench.call()

            await bench.clock.advance(3)
            assert [await call for call in calls] == [b"ok"] * 3

    run(scenario)


def test_a_caller_that_leaves_the_line_takes_nobodys_place() -> None:
    async def scenario() -> None:
        async with started(settings_of(A, pool=PoolSettings(max_connections=1, max_streams=1))) as bench:
            bench.endpoints[A].follow(Reply(b"ok", after_s=1))
            first, leaves, stays = [bench.begin() for _ in range(3)]
            await settle()

            leaves.cancel()
            await bench.clock.advance(2)

            assert [await first, await stays] == [b"ok", b"ok"]
            assert leaves.cancelled()

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


def test_further_connections_that_nobody_needs_are_closed() -> None:
    async def scenario() -> None:
        settings = settings_of(A, pool=PoolSettings(max_connections=4, max_streams=1, idle_timeout_s=60))
        async with started(settings) as bench:
            bench.endpoints[A].follow(Reply(b"ok", after_s=1))
            calls = [bench.begin() for _ in range(4)]
            await settle(60)
            await bench.clock.advance(5)
            await asyncio.gather(*calls)
            assert bench.standing(A).connections == 4

            await bench.clock.advance(100)

            assert bench.standing(A).connections == 1
            assert len(bench.endpoints[A].connections) == 1

    run(scenario)


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


def test_a_name_that_cannot_be_used_is_an_error_to_read_and_not_the_end_of_dialling() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        dials = []

        async def connect(address: str, **_more: Any) -> Any:
            dials.append(address)
            raise UnicodeError("label too long")

        pool = GrpcUpstream(settings_of(A), clock=clock, connector=connect)
        await pool.start()
        await clock.advance(30)

        assert len(dials) > 3
        assert pool.statistics.endpoints[0].reason == "not connected (label too long)"
        await pool.stop()

    run(scenario)


def test_a_hook_that_breaks_is_reported_and_breaks_nothing_else() -> None:
    async def scenario() -> None:
        def broken(_address: str) -> None:
            raise LookupError("no such thing")

        async with started(settings_of(A), on_connected=broken) as bench:
            (noticed,) = bench.said(Noticed)
            assert noticed.level == "error"
            assert "LookupError: no such thing" in str(noticed)
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


def test_on_connected_is_told_of_every_first_connection() -> None:
    async def scenario() -> None:
        told: list[str] = []
        async with started(settings_of(A), on_connected=told.append) as bench:
            await bench.clock.advance(60)
            assert told == [A]

            bench.endpoints[A].connections[0].lose()
            await settle()

            assert told == [A, A]

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
