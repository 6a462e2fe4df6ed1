"""A deadline that passes ends its call at whatever point it is: here, at the server, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import pytest
from tests.upstreams.pool_bench import addresses

from silence_gateway.core import h2_frames as h2
from silence_gateway.core.h2_frames import ErrorCode, Setting
from silence_gateway.errors import UpstreamFault, UpstreamTimeout
from silence_gateway.testing.clock import FakeClock
from silence_gateway.testing.h2_peer import H2Peer, scripted_server
from silence_gateway.upstreams.connection import GrpcConnection, connect
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.settings import UpstreamSettings

METHOD = b"/a.B/C"
WHOLE = b"\0\0\0\0\4well"


def within_seconds(scenario: Coroutine[Any, Any, None]) -> None:
    async def run() -> None:
        async with asyncio.timeout(5):
            await scenario

    asyncio.run(run())


async def unary(connection: GrpcConnection, deadline_s: float) -> Any:
    return await connection.unary(METHOD, b"hello", (), deadline_s)


async def large(connection: GrpcConnection, deadline_s: float) -> Any:
    return await connection.unary(METHOD, bytes(200_000), (), deadline_s)


async def streamed(connection: GrpcConnection, deadline_s: float) -> Any:
    return [message async for message in connection.stream(METHOD, b"hello", (), deadline_s)]


async def chatting(connection: GrpcConnection, deadline_s: float) -> Any:
    async def says() -> AsyncIterator[bytes]:
        yield b"hello"
        await asyncio.Event().wait()

    return [message async for message in connection.stream(METHOD, says(), (), deadline_s)]


Call = Callable[[GrpcConnection, float], Awaitable[Any]]


def send_nothing(_peer: H2Peer, _stream: int) -> None:
    """The server has read the request."""


def send_head(peer: H2Peer, stream: int) -> None:
    peer.send_headers(stream)


def send_half(peer: H2Peer, stream: int) -> None:
    peer.send_headers(stream)
    peer.send(h2.frame(h2.DATA, 0, stream, WHOLE[:7]))


def send_message(peer: H2Peer, stream: int) -> None:
    peer.send_headers(stream)
    peer.send(h2.frame(h2.DATA, 0, stream, WHOLE))


@pytest.mark.parametrize("call", [unary, large, streamed, chatting])
@pytest.mark.parametrize("point", [send_nothing, send_head, send_half, send_message])
def test_a_deadline_passes(call: Call, point: Callable[[H2Peer, int], None]) -> None:
    """*large* waits for a window besides, *chatting* for its caller."""
    reached = asyncio.Event()

    async def script(peer: H2Peer) -> None:
        await peer.greet()
        stream = (await peer.frame(h2.DATA))[2]
        point(peer, stream)
        peer.send(h2.ping_frame(b"heard it"))
        while (await peer.frame(h2.PING))[1] != h2.ACK:
            pass
        reached.set()
        _, _, got, content, _ = await peer.frame(h2.RST_STREAM)
        assert (got, h2.read_word(content)) == (stream, ErrorCode.CANCEL)
        peer.send(h2.window_update_frame(0, 1_000_000))
        # Late, and to be passed over.
        peer.answer(stream, b"late")
        peer.answer(await peer.request(), b"well")
        await peer.gone()

    async def scenario() -> None:
        clock = FakeClock()
        async with scripted_server(script) as address:
            connection = await connect(address, clock=clock)
            calling = asyncio.ensure_future(call(connection, 2.0))
            await reached.wait()
            await clock.advance(1.99)
            assert not calling.done()
            await clock.advance(0.02)
            with pytest.raises(UpstreamTimeout) as caught:
                await calling
            assert caught.value.sent
            assert connection.open_streams == 0
            assert connection.accepting
            assert (await connection.unary(METHOD, b"")).message == b"well"
            await connection.close()

    within_seconds(scenario())


def test_a_deadline_passes_before_anything_could_leave() -> None:
    """The peer allows no content at all: headers have left, so it may have seen the call."""

    async def script(peer: H2Peer) -> None:
        await peer.greet([(Setting.INITIAL_WINDOW_SIZE, 0)])
        _, _, stream, _, _ = await peer.frame(h2.HEADERS)
        assert (await peer.frame(h2.RST_STREAM))[2] == stream
        assert not [frame for frame in peer.received if frame[0] == h2.DATA]

    async def scenario() -> None:
        clock = FakeClock()
        async with scripted_server(script) as address:
            connection = await connect(address, clock=clock)
            calling = asyncio.ensure_future(unary(connection, 1.0))
            await clock.advance(1.01)
            with pytest.raises(UpstreamTimeout):
                await calling
            await connection.wait_closed()

    within_seconds(scenario())


def test_a_deadline_passes_before_the_call_was_written() -> None:
    """It never left: the server sees nothing of it, or its end."""

    async def script(peer: H2Peer) -> None:
        await peer.greet()
        await peer.gone()

    async def scenario() -> None:
        clock = FakeClock()
        async with scripted_server(script) as address:
            connection = await connect(address, clock=clock)
            call = connection.unary(METHOD, b"", (), 0.001)
            connection._give_up_overdue(1.0)
            with pytest.raises(UpstreamTimeout) as caught:
                await call
            assert not caught.value.sent
            await connection.close()

    within_seconds(scenario())


def test_a_deadline_passes_while_a_server_turns_the_call_away_again_and_again() -> None:
    async def script(peer: H2Peer) -> None:
        await peer.greet()
        while True:
            try:
                peer.send(h2.rst_stream_frame(await peer.request(), ErrorCode.REFUSED_STREAM))
            except AssertionError:
                return

    async def scenario() -> None:
        async with scripted_server(script) as address:
            settings = UpstreamSettings(name="shop", endpoints=addresses(address), health=None)
            async with GrpcUpstream(settings) as upstream:
                loop = asyncio.get_running_loop()
                began_s = loop.time()
                with pytest.raises(UpstreamFault) as caught:
                    await upstream.unary(METHOD, b"", (), began_s + 0.05)
                assert not caught.value.sent
                assert loop.time() - began_s < 2

    within_seconds(scenario())
