"""A peer that owes answers and has stopped is noticed, passed over, and used again once it moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

import pytest

from silence_gateway.core import h2_frames as frames
from silence_gateway.errors import UpstreamUnavailable
from silence_gateway.events import EndpointDown, EndpointUp, Event
from silence_gateway.testing.clock import FakeClock, settle
from silence_gateway.testing.h2_peer import H2Peer, scripted_server
from silence_gateway.upstreams.connection import ConnectionSettings, GrpcConnection, connect
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.settings import EndpointSettings, PoolSettings, UpstreamSettings

METHOD = b"/a.B/C"
SETTINGS = ConnectionSettings(silence_s=0.5)


def within_seconds(scenario: Coroutine[Any, Any, None]) -> None:
    async def run() -> None:
        async with asyncio.timeout(5):
            await scenario

    asyncio.run(run())


class Stoppable:
    """A scripted server: a call is held; a ping of the client is seen, and answered once it may be."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.pinged = asyncio.Event()

    async def serve(self, peer: H2Peer) -> None:
        await peer.greet()
        stream = await peer.request()
        _, flags, _, content, _ = await peer.frame(frames.PING)
        assert not flags
        self.pinged.set()
        await self.may_answer.wait()
        peer.send(frames.ping_frame(content, ack=True))
        peer.answer(stream, b"late")
        await peer.gone()


async def told(connection: GrpcConnection) -> tuple[list[bool], Callable[[], Coroutine[Any, Any, None]]]:
    """Return what the connection says of its peer, and what waits until it has said more."""
    said: list[bool] = []
    news = asyncio.Event()

    def tell(silent: bool) -> None:
        said.append(silent)
        news.set()

    async def more() -> None:
        await news.wait()
        news.clear()

    connection.watch_silence(tell)
    return said, more


def test_who_does_not_even_answer_a_ping_is_silent_until_its_first_byte() -> None:
    async def scenario() -> None:
        clock, server = FakeClock(), Stoppable()
        async with scripted_server(server.serve) as address:
            connection = await connect(address, settings=SETTINGS, clock=clock)
            said, more = await told(connection)
            await clock.advance(10)
            assert connection.statistics.pings_sent == 0

            call = connection.unary(METHOD, b"")
            await clock.advance(0.5)
            await server.pinged.wait()
            assert said == []
            await clock.advance(0.5)
            assert said == [True]
            assert connection.accepting

            server.may_answer.set()
            assert (await call).message == b"late"
            await clock.advance(0.1)
            await more()
            assert said == [True, False]
            assert connection.statistics.pings_sent == 1
            await connection.close()

    within_seconds(scenario())


def test_who_answers_the_ping_is_only_slow_and_is_not_asked_again_before_it_answers() -> None:
    async def scenario() -> None:
        clock, server = FakeClock(), Stoppable()
        was_read = asyncio.Event()

        async def script(peer: H2Peer) -> None:
            await peer.greet()
            await peer.request()
            _, _, _, content, _ = await peer.frame(frames.PING)
            # Once the second is answered, the client has read both.
            peer.send(frames.ping_frame(content, ack=True), frames.ping_frame(b"received"))
            assert (await peer.frame(frames.PING))[1] == frames.ACK
            was_read.set()
            await peer.gone()

        async with scripted_server(script) as address:
            connection = await connect(address, settings=SETTINGS, clock=clock)
            said, _ = await told(connection)
            call = connection.unary(METHOD, b"")
            await clock.advance(0.5)
            await was_read.wait()
            await clock.advance(20)

            assert said == []
            assert connection.statistics.pings_sent == 1
            await connection.close()
            with pytest.raises(UpstreamUnavailable):
                await call
        assert not server.pinged.is_set()

    within_seconds(scenario())


def test_a_silence_ends_with_its_connection() -> None:
    async def scenario() -> None:
        clock, server = FakeClock(), Stoppable()
        async with scripted_server(server.serve) as address:
            connection = await connect(address, settings=SETTINGS, clock=clock)
            said, _ = await told(connection)
            call = connection.unary(METHOD, b"")
            await clock.advance(1)
            assert said == [True]

            await connection.close()
            assert said == [True, False]
            with pytest.raises(UpstreamUnavailable):
                await call

    within_seconds(scenario())


def test_a_pool_passes_over_an_endpoint_that_is_silent_and_keeps_what_it_has_there() -> None:
    async def scenario() -> None:
        clock, stopped = FakeClock(), Stoppable()
        well_calls = 0

        async def well(peer: H2Peer) -> None:
            nonlocal well_calls
            await peer.greet()
            while True:
                try:
                    peer.answer(await peer.request(), b"well")
                except AssertionError:
                    return
                well_calls += 1

        async with scripted_server(stopped.serve) as bad, scripted_server(well) as good:
            settings = UpstreamSettings(
                name="two",
                endpoints=(EndpointSettings(address=bad), EndpointSettings(address=good)),
                balancer="round_robin",
                health=None,
                timeout_s=60,
                pool=PoolSettings(silence_s=0.5),
            )
            ready = asyncio.Semaphore(0)
            events: list[Event] = []
            pool = GrpcUpstream(
                settings,
                clock=clock,
                rng=Random(1),
                observer=events.append,
                on_usable=lambda _: ready.release(),
            )
            async with pool:
                await ready.acquire()
                await ready.acquire()
                held = [asyncio.ensure_future(pool.unary(METHOD, b"")) for _ in range(2)]
                await settle()
                await clock.advance(0.5)
                await stopped.pinged.wait()
                await clock.advance(0.5)
                states = {one.address: one.state for one in pool.statistics.endpoints}
                assert states == {bad: "doubtful", good: "ready"}
                (down,) = events
                assert isinstance(down, EndpointDown)
                assert (down.endpoint, "silent" in down.reason) == (bad, True)

                for _ in range(6):
                    assert (await pool.unary(METHOD, b"")).message == b"well"
                assert well_calls == 7

                stopped.may_answer.set()
                assert {(await task).message for task in held} == {b"late", b"well"}
                await clock.advance(0.1)
                assert {one.state for one in pool.statistics.endpoints} == {"ready"}
                assert events[1:] == [EndpointUp(upstream="two", endpoint=bad)]

    within_seconds(scenario())


def test_an_endpoint_that_is_silent_is_used_if_nobody_else_is_left() -> None:
    async def scenario() -> None:
        clock, stopped = FakeClock(), Stoppable()
        async with scripted_server(stopped.serve) as bad:
            settings = UpstreamSettings(
                name="one",
                endpoints=(EndpointSettings(address=bad),),
                health=None,
                timeout_s=60,
            )
            ready = asyncio.Semaphore(0)
            pool = GrpcUpstream(settings, clock=clock, rng=Random(1), on_usable=lambda _: ready.release())
            async with pool:
                await ready.acquire()
                held = asyncio.ensure_future(pool.unary(METHOD, b""))
                await settle()
                await clock.advance(0.5)
                await stopped.pinged.wait()
                await clock.advance(0.5)
                assert [one.state for one in pool.statistics.endpoints] == ["doubtful"]

                second = asyncio.ensure_future(pool.unary(METHOD, b""))
                await settle()
                assert pool.statistics.endpoints[0].in_flight == 2
                second.cancel()
                stopped.may_answer.set()
                assert (await held).message == b"late"

    within_seconds(scenario())
