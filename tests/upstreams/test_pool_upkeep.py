"""Connections opened ahead of need, renewed when they are old, and closed while nobody calls."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from tests.upstreams.pool_bench import A, B, Bench, addresses, run, settings_of, started
from tests.upstreams.replicas import until

from silence_gateway.core.breaker import State
from silence_gateway.errors import ConfigError, UpstreamTimeout, UpstreamUnavailable
from silence_gateway.events import EndpointDown
from silence_gateway.testing.clock import settle
from silence_gateway.testing.scripted_upstream import Failure, Reply
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.settings import (
    BreakerSettings,
    HealthSettings,
    PoolSettings,
    UpstreamSettings,
)

AGE_S = 100.0
RESTING = PoolSettings(min_connections=0, idle_timeout_s=60)
AGEING = PoolSettings(max_connection_age_s=AGE_S)


def test_an_old_connection_is_replaced_and_its_calls_finish() -> None:
    async def scenario() -> None:
        async with started(settings_of(A, pool=AGEING)) as bench:
            (old,) = bench.endpoints[A].connections
            await bench.clock.advance(0.9 * AGE_S - 2)
            bench.endpoints[A].follow(Reply(b"late", after_s=60))
            call = bench.begin(500)
            await settle()
            assert bench.endpoints[A].connections == [old]

            await bench.clock.advance(0.2 * AGE_S + 4)

            assert bench.endpoints[A].dials == 2
            assert not old.accepting
            assert old.open_streams == bench.standing(A).streams == 1
            assert bench.standing(A).connections == 1
            await bench.clock.advance(60)
            assert await call == b"late"
            await bench.clock.advance(1)
            assert bench.standing(A).streams == 0
            assert bench.said(EndpointDown) == []

    run(scenario)


def test_calls_without_a_pause_never_notice_that_connections_are_renewed() -> None:
    async def scenario() -> None:
        pool = PoolSettings(max_connections=3, max_streams=2, max_connection_age_s=5)
        async with started(settings_of(A, B, pool=pool)) as bench:
            bench.endpoints[A].follow(Reply(b"ok", after_s=0.4))
            bench.endpoints[B].follow(Reply(b"ok", after_s=0.1))
            calls: list[asyncio.Task[bytes]] = []
            for _ in range(200):
                calls.append(bench.begin(30))
                await bench.clock.advance(0.1)
            await bench.clock.advance(5)

            assert [await call for call in calls] == [b"ok"] * 200
            assert bench.endpoints[A].dials > 4
            assert len(bench.endpoints[A].connections) <= 3
            assert bench.pool.statistics.failovers == 0

    run(scenario)


def test_connections_opened_together_are_renewed_one_after_the_other() -> None:
    async def scenario() -> None:
        pool = PoolSettings(min_connections=4, max_connection_age_s=1_000)
        async with started(settings_of(A, pool=pool)) as bench:
            moments: list[float] = []
            while len(moments) < 4:
                dials = bench.endpoints[A].dials
                await bench.clock.advance(1)
                moments += [bench.clock.monotonic_s()] * (bench.endpoints[A].dials - dials)

            assert 900 <= moments[0] < moments[-1] <= 1_104
            assert len(set(moments)) == 4
            assert bench.standing(A).connections == 4

    run(scenario)


def test_calls_that_never_end_do_not_pile_up_old_connections() -> None:
    """Each holds up the end of its connection; as many as may be open may also be on their way out."""

    async def scenario() -> None:
        pool = PoolSettings(max_connections=3, max_connection_age_s=10)
        async with started(settings_of(A, pool=pool)) as bench:
            bench.endpoints[A].follow(Reply(b"late", after_s=500))
            calls: list[asyncio.Task[bytes]] = []
            for _ in range(20):
                calls.append(bench.begin(1_000))
                await bench.clock.advance(12)

            assert bench.endpoints[A].dials == 4
            assert (bench.standing(A).streams, bench.standing(A).connections) == (20, 1)
            await bench.clock.advance(500)
            assert [await call for call in calls] == [b"late"] * 20
            assert bench.endpoints[A].dials > 4

    run(scenario)


def test_an_old_connection_is_better_than_none() -> None:
    async def scenario() -> None:
        async with started(settings_of(A, pool=AGEING)) as bench:
            bench.endpoints[A].refuse()
            await bench.clock.advance(2 * AGE_S)

            assert await bench.call() == b"ok"
            assert bench.standing(A).connections == 1
            assert 2 <= bench.endpoints[A].dials < 15

            bench.endpoints[A].accept()
            (old,) = bench.endpoints[A].connections
            await bench.clock.advance(16)
            assert not old.accepting
            assert await bench.call() == b"ok"

    run(scenario)


def test_an_endpoint_that_nobody_calls_rests_and_a_call_wakes_it() -> None:
    async def scenario() -> None:
        async with started(settings_of(A, pool=RESTING)) as bench:
            await bench.clock.advance(30)
            await bench.call()
            await bench.clock.advance(55)
            assert bench.standing(A).link == "connected"

            await bench.clock.advance(7)

            assert (bench.standing(A).link, bench.standing(A).state) == ("idle", "ready")
            assert bench.endpoints[A].connections == []
            assert bench.said(EndpointDown) == []

            assert [await call for call in [bench.begin(), bench.begin()]] == [b"ok"] * 2
            assert bench.endpoints[A].dials == 2
            assert bench.standing(A).link == "connected"

    run(scenario)


def test_calls_go_elsewhere_while_an_endpoint_wakes() -> None:
    async def scenario() -> None:
        settings = settings_of(A, B, balancer="round_robin", pool=RESTING)
        async with started(settings) as bench:
            await bench.clock.advance(62)
            await bench.call()
            await bench.call()
            await settle()
            awake = A if bench.endpoints[A].connections else B
            resting = B if awake == A else A
            bench.endpoints[resting].hang()
            await bench.clock.advance(0)

            assert [await bench.call() for _ in range(6)] == [b"ok"] * 6

    run(scenario)


def test_an_endpoint_that_went_away_while_it_rested_is_found_out_by_the_call() -> None:
    async def scenario() -> None:
        async with started(settings_of(A, pool=RESTING)) as bench:
            await bench.clock.advance(62)
            bench.endpoints[A].refuse()

            with pytest.raises(UpstreamUnavailable, match="refuses connections"):
                await bench.call()

            assert bench.standing(A).link == "broken"
            bench.endpoints[A].accept()
            await bench.clock.advance(5)
            assert await bench.call() == b"ok"

    run(scenario)


def test_what_went_wrong_before_an_endpoint_stood_holds_up_nobody_who_wakes_it() -> None:
    async def scenario() -> None:
        bench = Bench(settings_of(A, pool=RESTING))
        bench.endpoints[A].refuse()
        await bench.pool.start()
        await bench.clock.advance(30)
        bench.endpoints[A].accept()
        await bench.clock.advance(80)
        assert bench.standing(A).link == "idle"

        call = bench.begin()
        await settle()

        assert call.done()
        assert await call == b"ok"
        await bench.pool.stop()

    run(scenario)


def test_nobody_waits_past_the_deadline_for_an_endpoint_that_does_not_wake() -> None:
    async def scenario() -> None:
        async with started(settings_of(A, pool=RESTING)) as bench:
            await bench.clock.advance(62)
            bench.endpoints[A].hang()
            call = bench.begin(0.5)
            await bench.clock.advance(0.49)
            assert not call.done()
            await bench.clock.advance(0.02)

            with pytest.raises(UpstreamTimeout) as caught:
                await call
            assert not caught.value.sent
            bench.endpoints[A].accept()
            await settle()
            assert await bench.call() == b"ok"

    run(scenario)


def test_a_goodbye_to_a_connection_that_rests_wakes_nobody() -> None:
    """One that says goodbye before it would rest is dialled again, as always; later there is none."""

    async def scenario() -> None:
        async with started(settings_of(A, pool=RESTING)) as bench:
            await bench.clock.advance(59)
            bench.endpoints[A].connections[0].stop()
            await bench.clock.advance(1)
            assert (bench.standing(A).link, bench.endpoints[A].dials) == ("connected", 2)
            await bench.clock.advance(62)
            assert (bench.standing(A).link, bench.endpoints[A].dials) == ("idle", 2)
            await bench.clock.advance(600)
            assert bench.endpoints[A].dials == 2

    run(scenario)


def test_who_is_unwell_does_not_rest() -> None:
    """Its probe, or its next health check, needs a connection."""

    async def scenario() -> None:
        breaker = BreakerSettings(consecutive=3, cool_down_s=90)
        async with started(settings_of(A, pool=RESTING, breaker=breaker)) as bench:
            await bench.clock.advance(62)
            await bench.pool.hold_breaker(A, State.HELD_OPEN, "for the test", 30)
            await bench.clock.advance(2)
            assert bench.standing(A).link == "connected"
            await bench.clock.advance(100)
            assert (bench.standing(A).link, bench.standing(A).breaker) == ("idle", "closed")

            bench.endpoints[A].follow(Failure(14) * 3 + Reply(b"ok"))
            for _ in range(3):
                with pytest.raises(Exception, match=r"."):
                    await bench.call()
            await bench.clock.advance(88)
            assert (bench.standing(A).link, bench.standing(A).breaker) == ("connected", "open")
            await bench.clock.advance(5)
            assert await bench.call() == b"ok"

    run(scenario)


def test_nobody_checks_the_health_of_an_endpoint_that_rests() -> None:
    async def scenario() -> None:
        health = HealthSettings(interval_s=1)
        async with started(settings_of(A, pool=RESTING, health=health)) as bench:
            await bench.clock.advance(62)
            assert bench.standing(A).link == "idle"
            checks = len(bench.endpoints[A].health.calls)
            await bench.clock.advance(60)
            assert len(bench.endpoints[A].health.calls) == checks

            await bench.call()
            await bench.clock.advance(5)
            assert len(bench.endpoints[A].health.calls) > checks
            assert bench.standing(A).health == "healthy"

    run(scenario)


def test_connections_are_opened_ahead_of_need_and_kept() -> None:
    async def scenario() -> None:
        pool = PoolSettings(min_connections=3, idle_timeout_s=10)
        async with started(settings_of(A, pool=pool)) as bench:
            assert bench.standing(A).connections == 3

            await bench.clock.advance(100)
            assert bench.standing(A).connections == 3

            bench.endpoints[A].connections[0].lose()
            await bench.clock.advance(1)
            assert bench.standing(A).connections == 3
            assert await bench.call() == b"ok"

    run(scenario)


def test_nothing_is_opened_for_an_endpoint_that_leaves() -> None:
    async def scenario() -> None:
        pool = PoolSettings(min_connections=2, max_connection_age_s=10)
        async with started(settings_of(A, B, pool=pool, balancer="round_robin")) as bench:
            bench.endpoints[A].follow(Reply(b"late", after_s=60))
            bench.endpoints[B].follow(Reply(b"late", after_s=60))
            calls = [bench.begin(100) for _ in range(2)]
            await settle()
            bench.pool.remove_endpoint(A)
            await bench.clock.advance(30)

            assert bench.endpoints[A].dials == 2
            assert bench.endpoints[B].dials > 2
            await bench.clock.advance(31)
            assert [await call for call in calls] == [b"late"] * 2

    run(scenario)


def test_an_endpoint_takes_calls_once_all_its_first_connections_stand() -> None:
    async def scenario() -> None:
        bench = Bench(settings_of(A, B, pool=PoolSettings(min_connections=2), balancer="round_robin"))
        bench.endpoints[B].accept_only(1)
        await bench.pool.start()
        await settle()
        assert (bench.standing(A).state, bench.standing(B).state) == ("ready", "waiting")

        await bench.call()
        await bench.call()
        assert len(bench.endpoints[A].calls) == 2

        bench.endpoints[B].accept()
        await settle()
        assert bench.standing(B).state == "ready"
        assert bench.standing(B).connections == 2
        await bench.pool.stop()

    run(scenario)


@pytest.mark.parametrize("how", ["hangs", "refuses"])
def test_a_further_connection_that_does_not_come_keeps_nobody_waiting_for_long(how: str) -> None:
    async def scenario() -> None:
        bench = Bench(settings_of(A, pool=PoolSettings(min_connections=2)))
        bench.endpoints[A].accept_only(1, then=None if how == "hangs" else False)
        await bench.pool.start()
        call = bench.begin()

        await bench.clock.advance(2.1 if how == "hangs" else 0)

        assert call.done()
        assert await call == b"ok"
        await bench.pool.stop()

    run(scenario)


@pytest.mark.parametrize(
    "wrong", [{"min_connections": 5}, {"min_connections": -1}, {"max_connection_age_s": 0}]
)
def test_numbers_that_cannot_be_kept_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="pool: m"):
        PoolSettings(**wrong)


@pytest.mark.system
def test_a_real_server_sees_connections_come_and_go_and_every_call_answered(start_server: Any) -> None:
    server = start_server()

    async def scenario() -> None:
        pool = PoolSettings(min_connections=0, max_connection_age_s=0.2, idle_timeout_s=0.5)
        settings = UpstreamSettings(name="real", endpoints=addresses(server.address), health=None, pool=pool)
        async with GrpcUpstream(settings) as upstream:
            ends_s = time.monotonic() + 3.5
            answered = 0

            async def caller() -> None:
                nonlocal answered
                while time.monotonic() < ends_s:
                    await upstream.unary(b"/echo.Echo/Unary", b"")
                    answered += 1

            await asyncio.gather(*(caller() for _ in range(8)))
            assert answered > 100

            await until(lambda: upstream.statistics.endpoints[0].link == "idle")
            began_s = time.monotonic()
            await upstream.unary(b"/echo.Echo/Unary", b"")
            assert time.monotonic() - began_s < 2
            assert upstream.statistics.failovers == 0

    asyncio.run(scenario())
