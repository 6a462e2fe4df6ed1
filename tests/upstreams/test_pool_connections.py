"""Connections of a pool: waited for, lost, opened again, opened further, closed when idle."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.upstreams.pool_bench import A, B, Bench, run, settings_of, started

from silence_gateway.errors import UpstreamTimeout, UpstreamUnavailable
from silence_gateway.events import EndpointDown, EndpointUp, Noticed
from silence_gateway.testing.clock import FakeClock, settle
from silence_gateway.testing.scripted_upstream import Reply, Silence
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.settings import (
    PoolSettings,
)


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


def test_an_attempt_more_that_fails_has_nobody_look_at_all_endpoints_again() -> None:
    async def scenario() -> None:
        bench = Bench(settings_of(A, B, health=None))
        bench.endpoints[A].refuse()
        await bench.pool.start()
        await settle()
        dials, looked_again = bench.endpoints[A].dials, bench.pool.connectivity_changed()
        await bench.clock.advance(30)

        assert bench.endpoints[A].dials > dials + 3
        assert not looked_again.done()

        bench.endpoints[A].accept()
        await bench.clock.advance(10)
        assert looked_again.done()
        await bench.pool.stop()

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


def test_a_server_that_ends_its_connections_every_second_is_never_without_one_for_long() -> None:
    async def scenario() -> None:
        async with started(settings_of(A)) as bench:
            for _ in range(20):
                await bench.clock.advance(0.9)  # grpcio ends them up to a tenth earlier than it is told to
                bench.endpoints[A].connections[-1].stop()

                assert await bench.call() == b"ok"

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

            with pytest.raises(UpstreamUnavailable, match="2 calls wait for one already"):
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


def test_a_hook_that_breaks_is_reported_and_breaks_nothing_else() -> None:
    async def scenario() -> None:
        def broken(_address: str) -> None:
            raise LookupError("no such thing")

        async with started(settings_of(A), on_usable=broken) as bench:
            (noticed,) = bench.said(Noticed)
            assert noticed.level == "error"
            assert "LookupError: no such thing" in str(noticed)
            assert await bench.call() == b"ok"

    run(scenario)


def test_on_usable_is_told_whenever_an_endpoint_takes_calls_again() -> None:
    async def scenario() -> None:
        told: list[str] = []
        async with started(settings_of(A), on_usable=told.append) as bench:
            await bench.clock.advance(60)
            assert told == [A]

            bench.endpoints[A].connections[0].lose()
            await settle()

            assert told == [A, A]

            bench.pool.drain_endpoint(A)
            bench.endpoints[A].connections[0].lose()
            await bench.clock.advance(10)
            assert told == [A, A]
            bench.pool.activate_endpoint(A)
            await settle()
            assert told == [A, A, A]

    run(scenario)
