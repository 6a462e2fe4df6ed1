"""
Unary calls of a pool are the connection's own: they are written down when they end, whoever waits for them,
and those that never left end where they were made again.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import pytest

from silence_gateway import Channel
from silence_gateway.core import h2_frames as frames
from silence_gateway.core.h2_frames import ErrorCode
from silence_gateway.errors import BadRequest, UpstreamUnavailable
from silence_gateway.testing.h2_peer import H2Peer, Script, scripted_server
from silence_gateway.upstreams.call import UnaryCall
from silence_gateway.upstreams.connection import GrpcConnection
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.retry_settings import RetrySettings
from silence_gateway.upstreams.settings import BreakerSettings, EndpointSettings, UpstreamSettings

METHOD = b"/a.B/C"
RETRY = RetrySettings()


def within_seconds(scenario: Coroutine[Any, Any, None]) -> None:
    async def run() -> None:
        async with asyncio.timeout(5):
            await scenario

    asyncio.run(run())


async def well(peer: H2Peer) -> None:
    await peer.greet()
    while True:
        try:
            peer.answer(await peer.request(), b"well")
        except AssertionError:
            return


async def says_no(peer: H2Peer) -> None:
    """Say of every call that it was not even looked at."""
    await peer.greet()
    while True:
        try:
            stream = await peer.request()
        except AssertionError:
            return
        peer.send(frames.rst_stream_frame(stream, ErrorCode.REFUSED_STREAM))


class Holder:
    """Takes calls and holds each until it is cancelled."""

    def __init__(self) -> None:
        self.has_one = asyncio.Event()
        self.cancelled = asyncio.Semaphore(0)

    async def __call__(self, peer: H2Peer) -> None:
        await peer.greet()
        for _ in range(2):
            await peer.request()
            self.has_one.set()
            _, _, _, content, _ = await peer.frame(frames.RST_STREAM)
            assert frames.read_word(content) == ErrorCode.CANCEL
            self.has_one.clear()
            self.cancelled.release()
        await peer.gone()


class Leaver:
    """Takes one call, and goes away before it has looked at it as soon as it may."""

    def __init__(self) -> None:
        self.has_one = asyncio.Event()
        self.may_go = asyncio.Event()

    async def __call__(self, peer: H2Peer) -> None:
        await peer.greet()
        await peer.request()
        self.has_one.set()
        await self.may_go.wait()
        peer.send(frames.goaway_frame(0, ErrorCode.NO_ERROR))
        await peer.gone()


@asynccontextmanager
async def pool_of(
    *scripts: Script, retry: RetrySettings = RETRY, breaker: BreakerSettings | None = None
) -> AsyncIterator[GrpcUpstream]:
    """Give a pool that is connected to one scripted server for each of *scripts*, in turn."""
    if not scripts:
        raise ValueError("a pool needs servers")
    async with scripted_server(scripts[0]) as first, scripted_server(scripts[-1]) as last:
        addresses = (first, last)[: len(scripts)]
        ready = asyncio.Semaphore(0)
        settings = UpstreamSettings(
            name="placed",
            endpoints=tuple(EndpointSettings(address=address) for address in addresses),
            balancer="round_robin",
            health=None,
            breaker=breaker or BreakerSettings(),
            retry=retry,
        )
        pool = GrpcUpstream(settings, rng=Random(1), on_usable=lambda _: ready.release())
        async with pool:
            for _ in addresses:
                await ready.acquire()
            yield pool
            await asyncio.sleep(0)
            assert [endpoint.in_flight for endpoint in pool.statistics.endpoints] == [0] * len(addresses)


def codes(pool: GrpcUpstream) -> dict[str, int]:
    return {code: count for code, count in pool.statistics.calls_by_code.items() if count}


def called(pool: GrpcUpstream) -> UnaryCall:
    call = pool.unary(METHOD, b"")
    assert isinstance(call, UnaryCall)
    return call


def address_of(call: UnaryCall) -> str:
    assert isinstance(call.carrier, GrpcConnection)
    return call.carrier.address


async def until(so: Callable[[], object]) -> None:
    while not so():  # noqa: ASYNC110 - what is waited for are frames on a socket, which tell nobody
        await asyncio.sleep(0)


def test_a_call_with_a_place_is_the_connections_own() -> None:
    async def scenario() -> None:
        async with pool_of(well) as pool:
            call = pool.unary(METHOD, b"")
            assert isinstance(call, UnaryCall)
            assert (await call).message == b"well"
            assert codes(pool) == {"OK": 1}

    within_seconds(scenario())


def test_what_is_counted_of_a_call_that_went_well_does_not_depend_on_whether_slow_ones_are_looked_for() -> (
    None
):
    async def scenario() -> None:
        told = []
        for slow_call_s in (None, 60.0):
            async with pool_of(well, breaker=BreakerSettings(slow_call_s=slow_call_s)) as pool:
                for _ in range(5):
                    await pool.unary(METHOD, b"")
                statistics = pool.statistics
                (endpoint,) = statistics.endpoints
                assert 0 < statistics.latency_sum_s < 5
                assert endpoint.in_flight == 0
                timed = (sum(statistics.latency_counts), endpoint.latency.calls, endpoint.recent.calls)
                told.append((codes(pool), endpoint.codes, timed))
        assert told[0] == told[1] == ({"OK": 5}, {"OK": 5}, (5, 5, 5))

    within_seconds(scenario())


@pytest.mark.parametrize("turns", range(4))
def test_a_call_is_counted_once_whenever_it_is_cancelled_on_its_way_elsewhere(turns: int) -> None:
    """Also in the turn of the loop in which it was turned away, before it is made again."""

    async def scenario() -> None:
        async with pool_of(says_no, says_no) as pool:
            call = called(pool)
            await until(lambda: pool.statistics.failovers)
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert codes(pool) == {"CANCELLED": 1}

    within_seconds(scenario())


def test_a_call_that_was_not_looked_at_ends_where_it_is_made_again() -> None:
    async def scenario() -> None:
        async with pool_of(says_no, well) as pool:
            replies = [await pool.unary(METHOD, b"") for _ in range(6)]
            assert {reply.message for reply in replies} == {b"well"}
            refusing, taking = (one.codes for one in pool.statistics.endpoints)
            assert refusing == {"UNAVAILABLE": pool.statistics.failovers}
            assert taking == codes(pool) == {"OK": 6}

    within_seconds(scenario())


@pytest.mark.parametrize(
    ("retry", "offers"),
    [
        pytest.param(RetrySettings(attempts=1), 2, id="once for nothing"),
        pytest.param(RetrySettings(attempts=3), 4, id="then within its attempts"),
        pytest.param(RetrySettings(attempts=3, budget=0, budget_free_per_s=0), 2, id="and within the budget"),
    ],
)
def test_a_call_that_is_turned_away_is_offered_again_once_for_nothing(
    retry: RetrySettings, offers: int
) -> None:
    async def scenario() -> None:
        async with pool_of(says_no, retry=retry) as pool:
            with pytest.raises(UpstreamUnavailable) as caught:
                await pool.unary(METHOD, b"")
            assert (caught.value.sent, caught.value.refused) == (False, True)
            statistics = pool.statistics
            (endpoint,) = statistics.endpoints
            assert endpoint.codes == {"UNAVAILABLE": offers}
            assert statistics.failovers == offers - 1

    within_seconds(scenario())


def test_cancelling_a_call_that_went_on_elsewhere_cancels_it_there() -> None:
    async def scenario() -> None:
        leaver, holder = Leaver(), Holder()
        async with pool_of(leaver, holder) as pool:
            first, second = called(pool), called(pool)
            await leaver.has_one.wait()
            await holder.has_one.wait()
            # Which of the two went where is the pool's to choose.
            at_leaver = pool.statistics.endpoints[0].address
            moving, staying = (first, second) if address_of(first) == at_leaver else (second, first)
            assert staying.cancel()
            await holder.cancelled.acquire()

            leaver.may_go.set()
            await holder.has_one.wait()
            assert not moving.done()
            assert pool.statistics.failovers == 1

            assert moving.cancel()
            await holder.cancelled.acquire()
            with pytest.raises(asyncio.CancelledError):
                await moving
            assert codes(pool)["CANCELLED"] == 2

    within_seconds(scenario())


@pytest.mark.parametrize("end", [lambda call: call.cancel(), lambda _: None], ids=["cancelled", "left alone"])
def test_a_call_that_nobody_awaits_is_written_down_and_no_mistake(
    end: Callable[[Any], object], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with pool_of(says_no) as pool:
            end(pool.unary(METHOD, b""))
            await until(lambda: codes(pool))

    with caplog.at_level(logging.ERROR):
        within_seconds(scenario())
    assert not caplog.records


def test_a_call_that_cannot_be_sent_gives_its_place_back() -> None:
    async def scenario() -> None:
        async with pool_of(well) as pool:
            with pytest.raises(BadRequest):
                await pool.unary(METHOD, b"", [(b"not a name", b"x")])
            with pytest.raises(BadRequest):
                await Channel(pool).unary_unary("/a.B/C")(b"", metadata=[("not a name", "x")])

    within_seconds(scenario())


def test_a_call_whose_deadline_is_over_gives_its_place_back() -> None:
    async def scenario() -> None:
        async with pool_of(well) as pool:
            late = asyncio.get_running_loop().time() - 1
            with pytest.raises(Exception, match="deadline"):
                await pool.unary(METHOD, b"", (), late)
            assert codes(pool) == {"DEADLINE_EXCEEDED": 1}

    within_seconds(scenario())


def test_a_channel_keeps_few_calls_whose_end_nobody_reads() -> None:
    async def scenario() -> None:
        async with pool_of(well) as pool:
            channel = Channel(pool)
            call = channel.unary_unary("/a.B/C")
            unread = []
            for _ in range(200):
                unread.append(weakref.ref(call(b"")._work))
                await call(b"")
            assert sum(one() is not None for one in unread) <= 64
            await channel.close()

    within_seconds(scenario())
