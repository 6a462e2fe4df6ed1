"""GOAWAY at every point: calls that were taken finish, the others say that they never left, nothing hangs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from tests.upstreams.pool_bench import addresses

from silence_gateway.core import h2_frames as h2
from silence_gateway.core.h2_frames import ErrorCode
from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError, UpstreamUnavailable
from silence_gateway.testing.h2_peer import HEAD, OK, H2Peer, scripted_server
from silence_gateway.upstreams.connection import GrpcConnection, connect
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.retry_settings import RetrySettings
from silence_gateway.upstreams.settings import UpstreamSettings

METHOD = b"/a.B/C"
ALL = h2.MAX_STREAM_ID
WHOLE = b"\0\0\0\0\4well"


def within_seconds(scenario: Coroutine[Any, Any, None]) -> None:
    async def run() -> None:
        async with asyncio.timeout(5):
            await scenario

    asyncio.run(run())


async def unary(connection: GrpcConnection) -> list[bytes]:
    return [(await connection.unary(METHOD, b"hello")).message]


async def streamed(connection: GrpcConnection) -> list[bytes]:
    return [message async for message in connection.stream(METHOD, b"hello")]


KINDS = pytest.mark.parametrize("call", [unary, streamed])
Call = Callable[[GrpcConnection], Awaitable[list[bytes]]]


async def heard(peer: H2Peer) -> None:
    """Wait until the client has read all that was sent."""
    peer.send(h2.ping_frame(b"heard it"))
    while (await peer.frame(h2.PING))[1] != h2.ACK:
        pass


@pytest.mark.parametrize("last", [0, ALL])
def test_a_goodbye_with_the_greeting_leaves_a_connection_that_takes_nothing(last: int) -> None:
    async def script(peer: H2Peer) -> None:
        await peer.greet()
        peer.send(h2.goaway_frame(last, ErrorCode.NO_ERROR))
        await peer.gone()

    async def scenario() -> None:
        async with scripted_server(script) as address:
            # Whether the goodbye is read with the greeting or after it is chance.
            with pytest.raises(UpstreamUnavailable, match="going away") as caught:
                await unary(await connect(address))
            assert not caught.value.sent

    within_seconds(scenario())


@KINDS
@pytest.mark.parametrize(
    "code", [ErrorCode.NO_ERROR, ErrorCode.INTERNAL_ERROR, ErrorCode.ENHANCE_YOUR_CALM, 99]
)
@pytest.mark.parametrize("point", range(5))
@pytest.mark.parametrize("last", [1, ALL])
def test_a_call_that_was_taken_is_answered_wherever_the_goodbye_comes(
    call: Call, code: int, point: int, last: int
) -> None:
    """Before its headers, between them and its message, inside the message, before and after the trailers."""

    async def script(peer: H2Peer) -> None:
        await peer.greet()
        stream = await peer.request()
        steps: tuple[Callable[[], None], ...] = (
            lambda: peer.send_headers(stream),
            lambda: peer.send(h2.frame(h2.DATA, 0, stream, WHOLE[:6])),
            lambda: peer.send(h2.frame(h2.DATA, 0, stream, WHOLE[6:])),
            lambda: peer.send_headers(stream, OK, end_stream=True),
        )
        for number, step in enumerate(steps):
            if number == point:
                peer.send(h2.goaway_frame(last, code, b"so long"))
                await heard(peer)
            step()
        if point == len(steps):
            peer.send(h2.goaway_frame(last, code, b"so long"))
        await peer.gone()

    async def scenario() -> None:
        lost: list[str] = []
        async with scripted_server(script) as address:
            connection = await connect(address, on_lost=lambda _, reason: lost.append(reason))
            assert await call(connection) == [b"well"]
            await connection.wait_closed()
            assert lost == [connection.stopped_because]
            assert "so long" in lost[0]
            assert connection.dismissed is (code == ErrorCode.NO_ERROR)

    within_seconds(scenario())


@KINDS
@pytest.mark.parametrize("code", [ErrorCode.NO_ERROR, ErrorCode.INTERNAL_ERROR])
def test_a_call_that_was_not_taken_never_left(call: Call, code: int) -> None:
    async def script(peer: H2Peer) -> None:
        await peer.greet()
        await peer.request()
        peer.send(h2.goaway_frame(0, code))
        await peer.gone()

    async def scenario() -> None:
        async with scripted_server(script) as address:
            connection = await connect(address)
            with pytest.raises(UpstreamUnavailable, match="going away") as caught:
                await call(connection)
            assert not caught.value.sent
            assert not caught.value.refused
            await connection.wait_closed()

    within_seconds(scenario())


@KINDS
def test_a_goodbye_in_two_steps_loses_nothing(call: Call) -> None:
    """First all streams are kept, so that those on the way count; then the last one is named."""

    async def script(peer: H2Peer) -> None:
        await peer.greet()
        streams = [await peer.request() for _ in range(3)]
        peer.send(h2.goaway_frame(ALL, ErrorCode.NO_ERROR))
        await heard(peer)
        peer.answer(streams[0], b"1")
        peer.send(h2.goaway_frame(3, ErrorCode.NO_ERROR))
        peer.answer(streams[1], b"3")
        await peer.gone()

    async def scenario() -> None:
        lost: list[str] = []
        async with scripted_server(script) as address:
            connection = await connect(address, on_lost=lambda _, reason: lost.append(reason))
            ends = await asyncio.gather(*(call(connection) for _ in range(3)), return_exceptions=True)
            assert ends[:2] == [[b"1"], [b"3"]]
            assert isinstance(ends[2], UpstreamUnavailable)
            assert not ends[2].sent
            assert len(lost) == 1
            await connection.wait_closed()

    within_seconds(scenario())


def test_a_second_goodbye_cannot_bring_back_what_the_first_gave_up() -> None:
    async def script(peer: H2Peer) -> None:
        await peer.greet()
        streams = [await peer.request() for _ in range(2)]
        peer.send(h2.goaway_frame(1, ErrorCode.NO_ERROR), h2.goaway_frame(ALL, ErrorCode.NO_ERROR))
        for stream in streams:
            peer.answer(stream, b"%d" % stream)
        await peer.gone()

    async def scenario() -> None:
        async with scripted_server(script) as address:
            connection = await connect(address)
            ends = await asyncio.gather(*(unary(connection) for _ in range(2)), return_exceptions=True)
            assert ends[0] == [b"1"]
            assert isinstance(ends[1], UpstreamUnavailable)
            await connection.wait_closed()

    within_seconds(scenario())


@pytest.mark.parametrize("last", [1, ALL])
def test_a_server_that_hangs_up_after_its_goodbye_leaves_the_rest_in_doubt(last: int) -> None:
    """What it said it took may have run."""

    async def script(peer: H2Peer) -> None:
        await peer.greet()
        stream = await peer.request()
        peer.send_headers(stream)
        peer.send(h2.frame(h2.DATA, 0, stream, WHOLE[:6]), h2.goaway_frame(last, ErrorCode.NO_ERROR))
        peer.hang_up()

    async def scenario() -> None:
        async with scripted_server(script) as address:
            connection = await connect(address)
            with pytest.raises(UpstreamUnavailable) as caught:
                await unary(connection)
            assert caught.value.sent
            await connection.wait_closed()

    within_seconds(scenario())


def test_a_request_goes_on_after_the_goodbye_until_it_is_whole() -> None:
    async def script(peer: H2Peer) -> None:
        await peer.greet()
        got = (await peer.frame(h2.DATA))[4]
        peer.send(h2.goaway_frame(1, ErrorCode.NO_ERROR))
        peer.send(h2.window_update_frame(0, 1_000_000), h2.window_update_frame(1, 1_000_000))
        while got < 300_005:
            got += (await peer.frame(h2.DATA))[4]
        peer.answer(1, b"well")
        await peer.gone()

    async def scenario() -> None:
        async with scripted_server(script) as address:
            connection = await connect(address)
            assert (await connection.unary(METHOD, bytes(300_000))).message == b"well"
            await connection.wait_closed()

    within_seconds(scenario())


CANCELLED = (*HEAD, (b"grpc-status", b"1"), (b"grpc-message", b"CANCELLED"))


def leaving(said: tuple[tuple[bytes, bytes], ...], *, dismissed: bool = True) -> Callable[[H2Peer], Any]:
    """Serve as a server whose shutdown began before the first call reached it; later connections are well."""
    connections = 0

    async def script(peer: H2Peer) -> None:
        nonlocal connections
        connections += 1
        await peer.greet()
        stream = await peer.request()
        if connections == 1:
            if dismissed:
                peer.send(h2.goaway_frame(ALL, ErrorCode.NO_ERROR, b"Server shutdown"))
            peer.send_headers(stream, said, end_stream=True)
        else:
            peer.answer(stream, b"well")
        await peer.gone()

    return script


@KINDS
def test_a_call_that_a_leaving_server_cancels_was_not_cancelled_by_its_caller(call: Call) -> None:
    """Servers on gRPC's C core do that to what arrives before their goodbye is heard; it may have run."""

    async def scenario() -> None:
        async with scripted_server(leaving(CANCELLED)) as address:
            with pytest.raises(UpstreamUnavailable, match="cancelled the call because it is going") as caught:
                await call(await connect(address))
            assert caught.value.sent

    within_seconds(scenario())


@KINDS
@pytest.mark.parametrize(
    ("said", "dismissed"),
    [
        pytest.param(CANCELLED, False, id="a-server-that-stays"),
        pytest.param((*CANCELLED[:-1], (b"grpc-message", b"sold out")), True, id="a-handler-with-a-reason"),
        pytest.param((*CANCELLED, (b"reason", b"sold out")), True, id="a-handler-with-metadata"),
    ],
)
def test_a_server_that_means_cancelled_is_taken_at_its_word(
    call: Call, said: tuple[tuple[bytes, bytes], ...], dismissed: bool
) -> None:
    async def scenario() -> None:
        async with scripted_server(leaving(said, dismissed=dismissed)) as address:
            connection = await connect(address)
            with pytest.raises(RpcError) as caught:
                await call(connection)
            assert caught.value.code == Code.CANCELLED
            await connection.close()

    within_seconds(scenario())


@pytest.mark.parametrize("may_run_twice", [True, False])
def test_a_call_that_a_leaving_server_cancels_is_made_again_if_it_may_run_twice(may_run_twice: bool) -> None:
    async def scenario() -> None:
        async with scripted_server(leaving(CANCELLED)) as address:
            retry = RetrySettings(methods=frozenset({"a.B/*"}) if may_run_twice else frozenset())
            settings = UpstreamSettings(name="shop", endpoints=addresses(address), health=None, retry=retry)
            async with GrpcUpstream(settings) as upstream:
                if may_run_twice:
                    assert (await upstream.unary(METHOD, b"")).message == b"well"
                else:
                    with pytest.raises(UpstreamUnavailable):
                        await upstream.unary(METHOD, b"")
                assert upstream.statistics.retries == may_run_twice
                assert upstream.statistics.endpoints[0].breaker == "closed"

    within_seconds(scenario())


def test_a_call_that_a_goodbye_did_not_take_is_made_on_the_next_connection() -> None:
    first_connection = True

    async def script(peer: H2Peer) -> None:
        nonlocal first_connection
        await peer.greet()
        if first_connection:
            first_connection = False
            first = await peer.request()
            await peer.request()
            peer.send(h2.goaway_frame(first, ErrorCode.NO_ERROR))
            peer.answer(first, b"first")
        else:
            peer.answer(await peer.request(), b"second")
        await peer.gone()

    async def scenario() -> None:
        async with scripted_server(script) as address:
            settings = UpstreamSettings(name="shop", endpoints=addresses(address), health=None)
            async with GrpcUpstream(settings) as upstream:
                replies = await asyncio.gather(*(upstream.unary(METHOD, b"") for _ in range(2)))
                assert [reply.message for reply in replies] == [b"first", b"second"]
                assert upstream.statistics.failovers == 1

    within_seconds(scenario())
