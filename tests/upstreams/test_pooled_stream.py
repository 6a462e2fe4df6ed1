"""Streams through the pool: one entry in the ledger, failover before the first message and never after."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError, UpstreamTimeout, UpstreamUnavailable
from silence_gateway.testing.clock import FakeClock, settle
from silence_gateway.testing.scripted_endpoints import ScriptedEndpoints
from silence_gateway.testing.scripted_upstream import Broken, Failure, Reply, Silence
from silence_gateway.upstreams.contracts import CallStream
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.settings import BreakerSettings, EndpointSettings, UpstreamSettings

A, B = "10.0.0.1:1", "10.0.0.2:1"
METHOD = b"/shop.Orders/Watch"


class Bench:
    def __init__(self, *names: str) -> None:
        self.clock = FakeClock()
        self.endpoints = ScriptedEndpoints(self.clock)
        self.pool = GrpcUpstream(
            UpstreamSettings(
                name="shop",
                endpoints=tuple(EndpointSettings(address=name) for name in names),
                balancer="round_robin",
                health=None,
                timeout_s=2,
                breaker=BreakerSettings(consecutive=1, cool_down_s=1),
            ),
            clock=self.clock,
            rng=Random(3),
            connector=self.endpoints.connect,
        )

    def stream(self, messages: bytes | AsyncIterator[bytes] = b"?") -> CallStream:
        return self.pool.stream(METHOD, messages)

    def in_flight(self) -> int:
        return sum(one.in_flight for one in self.pool.statistics.endpoints)


@asynccontextmanager
async def bench_of(*names: str) -> AsyncIterator[Bench]:
    bench = Bench(*names)
    await bench.pool.start()
    await settle()
    try:
        yield bench
    finally:
        await bench.pool.stop(drain_s=0)


async def taken(stream: CallStream) -> list[bytes]:
    return [message async for message in stream]


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_messages_and_metadata_come_through_and_the_end_is_counted_once() -> None:
    async def scenario() -> None:
        async with bench_of(A) as bench:
            bench.endpoints[A].follow(
                Reply(b"1", b"2", initial_metadata=[(b"i", b"1")], trailing_metadata=[(b"t", b"1")])
            )
            stream = bench.stream()

            assert await stream.initial_metadata() == [(b"i", b"1")]
            assert bench.in_flight() == 1
            assert await taken(stream) == [b"1", b"2"]
            assert await stream.trailing_metadata() == [(b"t", b"1")]
            stream.cancel()

            assert bench.in_flight() == 0
            assert bench.pool.statistics.calls_by_code == {"OK": 1}

    run(scenario)


def test_a_stream_that_never_left_begins_again_elsewhere() -> None:
    async def scenario() -> None:
        async with bench_of(A, B) as bench:
            bench.endpoints[A].follow(Broken(sent=False))
            bench.endpoints[B].follow(Reply(b"1", b"2"))

            assert [await taken(bench.stream()) for _ in range(3)] == [[b"1", b"2"]] * 3

            assert bench.pool.statistics.failovers == len(bench.endpoints[A].calls) > 0
            assert bench.pool.statistics.calls_by_code == {"OK": 3}

    run(scenario)


def test_a_stream_that_broke_after_a_message_stays_broken() -> None:
    async def scenario() -> None:
        async with bench_of(A, B) as bench:
            for name in (A, B):
                bench.endpoints[name].follow(Reply(b"1", then=UpstreamUnavailable("gone", sent=False)))

            got: list[bytes] = []
            with pytest.raises(UpstreamUnavailable, match="gone"):
                async for message in bench.stream():
                    got += [message]

            assert got == [b"1"]
            assert len(bench.endpoints[A].calls) + len(bench.endpoints[B].calls) == 1

    run(scenario)


@pytest.mark.parametrize(("size", "calls"), [(10, 2), (70_000, 1)], ids=["kept", "too-large-to-keep"])
def test_a_request_stream_that_never_left_begins_again_elsewhere_with_what_was_kept(
    size: int, calls: int
) -> None:
    async def scenario() -> None:
        async with bench_of(A, B) as bench:
            for name in (A, B):
                bench.endpoints[name].follow(Broken(sent=False))

            async def requests() -> AsyncIterator[bytes]:
                yield bytes(size)
                yield b"b"

            with pytest.raises(UpstreamUnavailable):
                await taken(bench.stream(requests()))

            got = [call.requests for name in (A, B) for call in bench.endpoints[name].calls]
            assert got == [[bytes(size), b"b"]] * calls

    run(scenario)


def test_a_stream_waits_for_a_connection_but_not_for_ever() -> None:
    async def scenario() -> None:
        bench = Bench(A)
        bench.endpoints[A].hang()
        await bench.pool.start()
        patient = asyncio.ensure_future(taken(bench.stream()))
        await bench.clock.advance(1.9)
        late = asyncio.ensure_future(taken(bench.stream()))
        await bench.clock.advance(0.2)
        with pytest.raises(UpstreamTimeout):
            await patient

        bench.endpoints[A].accept()

        assert await late == [b"ok"]
        await bench.pool.stop()

    run(scenario)


def test_a_stream_without_deadline_outlives_the_upstreams_timeout() -> None:
    async def scenario() -> None:
        async with bench_of(A) as bench:
            bench.endpoints[A].follow(Reply(b"at last", after_s=3600))
            reading = asyncio.ensure_future(taken(bench.stream()))

            await bench.clock.advance(3600)

            assert await reading == [b"at last"]

    run(scenario)


def test_a_cancelled_stream_gives_its_place_back_once() -> None:
    async def scenario() -> None:
        async with bench_of(A) as bench:
            bench.endpoints[A].follow(Silence())
            stream = bench.stream()
            assert bench.in_flight() == 1

            stream.cancel()
            stream.cancel()

            assert bench.in_flight() == 0
            assert bench.endpoints[A].calls[0].cancelled
            assert bench.pool.statistics.calls_by_code == {"CANCELLED": 1}

    run(scenario)


def test_a_reader_that_is_cancelled_gives_its_place_back() -> None:
    async def scenario() -> None:
        async with bench_of(A) as bench:
            bench.endpoints[A].follow(Silence())
            reading = asyncio.ensure_future(taken(bench.stream()))
            await settle()

            reading.cancel()
            await settle()

            assert bench.in_flight() == 0

    run(scenario)


def test_a_stream_is_never_the_probe_of_a_half_open_breaker() -> None:
    async def scenario() -> None:
        async with bench_of(A) as bench:
            bench.endpoints[A].follow(Failure(Code.UNAVAILABLE) + Reply(b"ok"))
            with pytest.raises(RpcError):
                await taken(bench.stream())
            bench.endpoints[A].health.follow(Silence())
            await bench.clock.advance(1)
            assert bench.pool.statistics.endpoints[0].breaker == "half_open"

            with pytest.raises(UpstreamUnavailable):
                await taken(bench.stream())
            assert (await bench.pool.unary(METHOD, b"")).message == b"ok"

            assert bench.pool.statistics.endpoints[0].breaker == "closed"
            assert await taken(bench.stream()) == [b"ok"]

    run(scenario)


def test_a_stream_is_timed_to_its_first_message() -> None:
    async def scenario() -> None:
        async with bench_of(A) as bench:
            bench.endpoints[A].follow(Reply(b"1", b"2", after_s=0.2))
            stream = aiter(bench.stream())
            first = asyncio.ensure_future(anext(stream))
            await bench.clock.advance(0.2)
            assert await first == b"1"
            await bench.clock.advance(1000)
            assert await taken(stream) == [b"2"]  # type: ignore[arg-type]

            assert bench.pool.statistics.latency_sum_s == pytest.approx(0.2)

    run(scenario)
