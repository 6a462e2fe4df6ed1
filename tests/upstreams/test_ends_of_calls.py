"""However a server ends a call, at whatever point: the caller sees what gRPC says that means, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import pytest

from silence_gateway.core import h2_frames as h2
from silence_gateway.core.h2_frames import ErrorCode
from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError, UpstreamFault, UpstreamProtocolError, UpstreamUnavailable
from silence_gateway.testing.h2_peer import HEAD, OK, H2Peer, scripted_server
from silence_gateway.upstreams.connection import GrpcConnection, connect

METHOD = b"/a.B/C"
Answer = Callable[[H2Peer, int], None]


def within_seconds(scenario: Coroutine[Any, Any, None]) -> None:
    async def run() -> None:
        async with asyncio.timeout(5):
            await scenario

    asyncio.run(run())


def answering(*answers: Answer) -> Callable[[H2Peer], Awaitable[None]]:
    """Script a server that answers its calls so, one after the other, and later ones well."""

    async def script(peer: H2Peer) -> None:
        await peer.greet()
        left = list(answers)
        while True:
            try:
                stream = await peer.request()
            except AssertionError:
                return
            if left:
                left.pop(0)(peer, stream)
            else:
                peer.answer(stream, b"well")

    return script


async def unary(connection: GrpcConnection) -> list[bytes]:
    return [(await connection.unary(METHOD, b"hello")).message]


async def streamed(connection: GrpcConnection) -> list[bytes]:
    return [message async for message in connection.stream(METHOD, b"hello")]


KINDS = pytest.mark.parametrize("call", [unary, streamed])
Call = Callable[[GrpcConnection], Awaitable[list[bytes]]]

# Where an answer can be when it ends.


def at_once(_peer: H2Peer, _stream: int) -> None:
    """Nothing was sent."""


def after_head(peer: H2Peer, stream: int) -> None:
    peer.send_headers(stream, [*HEAD, (b"x-a", b"1")])


def after_message(peer: H2Peer, stream: int) -> None:
    after_head(peer, stream)
    peer.send_message(stream, b"one")


def inside_message(peer: H2Peer, stream: int) -> None:
    after_head(peer, stream)
    peer.send(h2.data_frames(stream, b"\0\0\0\0\5on", end_stream=False, max_frame_size=100))


POINTS = pytest.mark.parametrize("point", [at_once, after_head, after_message, inside_message])


@KINDS
@pytest.mark.parametrize("point", [at_once, after_head, after_message])
@pytest.mark.parametrize("code", range(1, 17))
def test_every_status_is_told_wherever_it_comes(call: Call, point: Answer, code: int) -> None:
    def answer(peer: H2Peer, stream: int) -> None:
        point(peer, stream)
        pairs = [(b"grpc-status", b"%d" % code), (b"grpc-message", b"why%3F 100%25"), (b"x-end", b"2")]
        peer.send_headers(stream, pairs if point is not at_once else [*HEAD, *pairs], end_stream=True)

    async def scenario() -> None:
        async with scripted_server(answering(answer)) as address:
            connection = await connect(address)
            with pytest.raises(RpcError) as caught:
                await call(connection)
            assert (caught.value.code, caught.value.details) == (code, "why? 100%")
            assert dict(caught.value.trailing_metadata) == {b"x-end": b"2"}
            assert dict(caught.value.initial_metadata) == ({} if point is at_once else {b"x-a": b"1"})
            assert connection.statistics.by_code[code] == 1
            assert await call(connection) == [b"well"]
            await connection.close()

    within_seconds(scenario())


@KINDS
@pytest.mark.parametrize("status", [b"17", b"99", b"-1", b"", b"abc", b"1000000000000", b"1.0"])
def test_a_status_that_is_none_is_unknown(call: Call, status: bytes) -> None:
    def answer(peer: H2Peer, stream: int) -> None:
        peer.send_headers(stream, [*HEAD, (b"grpc-status", status)], end_stream=True)

    async def scenario() -> None:
        async with scripted_server(answering(answer)) as address:
            connection = await connect(address)
            with pytest.raises(RpcError) as caught:
                await call(connection)
            assert caught.value.code == Code.UNKNOWN
            await connection.close()

    within_seconds(scenario())


RESETS = dict.fromkeys((*range(14), 14, 4294967295), Code.INTERNAL) | {
    # Once a server has begun to answer it has seen the call, whatever it says.
    ErrorCode.REFUSED_STREAM: Code.UNAVAILABLE,
    ErrorCode.CANCEL: Code.CANCELLED,
    ErrorCode.ENHANCE_YOUR_CALM: Code.RESOURCE_EXHAUSTED,
    ErrorCode.INADEQUATE_SECURITY: Code.PERMISSION_DENIED,
}


@KINDS
@POINTS
@pytest.mark.parametrize("reset", RESETS)
def test_every_reset_is_told_by_the_table_wherever_it_comes(call: Call, point: Answer, reset: int) -> None:
    def answer(peer: H2Peer, stream: int) -> None:
        point(peer, stream)
        peer.send(h2.rst_stream_frame(stream, reset))

    async def scenario() -> None:
        async with scripted_server(answering(answer)) as address:
            connection = await connect(address)
            with pytest.raises((RpcError, UpstreamUnavailable), match="reset the call") as caught:
                await call(connection)
            error = caught.value
            if reset == ErrorCode.REFUSED_STREAM and point is at_once:
                assert isinstance(error, UpstreamUnavailable)
                assert error.refused
                assert not error.sent
            else:
                assert isinstance(error, RpcError)
                assert error.code == RESETS[reset]
            assert connection.accepting
            assert connection.open_streams == 0
            assert await call(connection) == [b"well"]
            await connection.close()

    within_seconds(scenario())


def test_a_reset_after_the_whole_answer_changes_nothing() -> None:
    """Servers say so that they do not want the rest of a request (RFC 9113 section 8.1)."""

    def answer(peer: H2Peer, stream: int) -> None:
        peer.answer(stream, b"one")
        peer.send(h2.rst_stream_frame(stream, ErrorCode.NO_ERROR))

    async def scenario() -> None:
        async with scripted_server(answering(answer, answer)) as address:
            connection = await connect(address)
            assert await unary(connection) == [b"one"]
            assert await streamed(connection) == [b"one"]
            assert await unary(connection) == [b"well"]
            await connection.close()

    within_seconds(scenario())


# Trailers-only.


@pytest.mark.parametrize(
    ("pairs", "unary_error", "stream_error"),
    [
        pytest.param([*HEAD, *OK], UpstreamProtocolError, None, id="ok-without-a-message"),
        pytest.param([*HEAD, (b"grpc-status", b"5")], RpcError, RpcError, id="a-status"),
        pytest.param(HEAD, UpstreamProtocolError, UpstreamProtocolError, id="no-status"),
        pytest.param(
            [(b":status", b"200"), (b"grpc-status", b"5")], RpcError, RpcError, id="no-content-type"
        ),
        pytest.param(
            [(b":status", b"503"), (b"grpc-status", b"5")], RpcError, RpcError, id="503-with-a-status"
        ),
        pytest.param([(b":status", b"503")], RpcError, RpcError, id="503"),
        pytest.param(OK, UpstreamProtocolError, UpstreamProtocolError, id="no-http-status"),
    ],
)
def test_an_answer_of_nothing_but_trailers(
    pairs: Sequence[tuple[bytes, bytes]],
    unary_error: type[Exception],
    stream_error: type[Exception] | None,
) -> None:
    def answer(peer: H2Peer, stream: int) -> None:
        peer.send_headers(stream, pairs, end_stream=True)

    async def scenario() -> None:
        async with scripted_server(answering(answer, answer)) as address:
            connection = await connect(address)
            with pytest.raises(unary_error):
                await unary(connection)
            if stream_error is None:
                assert await streamed(connection) == []
            else:
                with pytest.raises(stream_error):
                    await streamed(connection)
            assert await unary(connection) == [b"well"]
            await connection.close()

    within_seconds(scenario())


# Binary metadata.


@pytest.mark.parametrize(
    ("wire", "values"),
    [
        pytest.param(b"AQI=", [b"\1\2"], id="padded"),
        pytest.param(b"AQI", [b"\1\2"], id="not-padded"),
        pytest.param(b"AQI=,AwQ", [b"\1\2", b"\3\4"], id="joined"),
        pytest.param(b"AQI= , AwQ=", [b"\1\2", b"\3\4"], id="joined-with-spaces"),
        pytest.param(b"", [b""], id="empty"),
        pytest.param(b"AQI,,AwQ", [b"\1\2", b"", b"\3\4"], id="an-empty-one-between"),
        pytest.param(b"!?", [b"!?"], id="not-base64"),
    ],
)
def test_binary_metadata_is_read_as_every_server_writes_it(wire: bytes, values: list[bytes]) -> None:
    def answer(peer: H2Peer, stream: int) -> None:
        peer.send_headers(stream, [*HEAD, (b"x-raw-bin", wire), (b"x-raw-bin", b"/w")])
        peer.send_message(stream, b"x")
        peer.send_headers(stream, [*OK, (b"x-end-bin", wire)], end_stream=True)

    async def scenario() -> None:
        async with scripted_server(answering(answer)) as address:
            connection = await connect(address)
            reply = await connection.unary(METHOD, b"")
            assert [value for _, value in reply.initial_metadata] == [*values, b"\xff"]
            assert list(reply.trailing_metadata) == [(b"x-end-bin", value) for value in values]
            await connection.close()

    within_seconds(scenario())


def test_binary_metadata_is_sent_without_padding_each_value_by_itself() -> None:
    async def script(peer: H2Peer) -> None:
        await peer.greet()
        stream, headers = await peer.headers()
        assert [value for name, value in headers if name == b"x-raw-bin"] == [b"AQI", b"", b"AwQF"]
        await peer.request()
        peer.answer(stream)
        await peer.gone()

    async def scenario() -> None:
        async with scripted_server(script) as address:
            connection = await connect(address)
            values = [b"\1\2", b"", b"\3\4\5"]
            await connection.unary(METHOD, b"", [(b"x-raw-bin", value) for value in values])
            await connection.close()

    within_seconds(scenario())


# Halves that close in either order.


async def words() -> Any:
    for _ in range(3):
        yield b"word"


async def without_end(began: asyncio.Event) -> Any:
    yield b"word"
    began.set()
    await asyncio.Event().wait()


def test_a_server_may_go_on_after_the_client_has_ended() -> None:
    async def script(peer: H2Peer) -> None:
        await peer.greet()
        stream = await peer.request()
        peer.send_headers(stream)
        for number in range(3):
            peer.send_message(stream, b"%d" % number)
            peer.send(h2.ping_frame(b"and then"))
            await peer.frame(h2.PING)
        peer.send_headers(stream, OK, end_stream=True)
        await peer.gone()
        assert not [frame for frame in peer.received if frame[0] == h2.RST_STREAM]

    async def scenario() -> None:
        async with scripted_server(script) as address:
            connection = await connect(address)
            assert [one async for one in connection.stream(METHOD, words())] == [b"0", b"1", b"2"]
            await connection.close()

    within_seconds(scenario())


@pytest.mark.parametrize("end", ["trailers", "status", "data", "reset"])
def test_a_server_may_end_before_the_client_has(end: str) -> None:
    """What is left of the request is not sent; the iterator it came from is closed."""
    closed = asyncio.Event()

    async def script(peer: H2Peer) -> None:
        await peer.greet()
        stream = (await peer.frame(h2.DATA))[2]
        peer.send_headers(stream)
        peer.send_message(stream, b"enough")
        if end == "data":
            peer.send(h2.frame(h2.DATA, h2.END_STREAM, stream))
        elif end == "reset":
            peer.send(h2.rst_stream_frame(stream, ErrorCode.NO_ERROR))
        else:
            status = OK if end == "trailers" else [(b"grpc-status", b"8")]
            peer.send_headers(stream, status, end_stream=True)
        if end != "reset":
            assert h2.read_word((await peer.frame(h2.RST_STREAM))[3]) == ErrorCode.CANCEL
        peer.answer(await peer.request(), b"well")
        await peer.gone()

    async def scenario() -> None:
        began = asyncio.Event()

        async def requests() -> Any:
            try:
                async for word in without_end(began):
                    yield word
            finally:
                closed.set()

        async with scripted_server(script) as address:
            connection = await connect(address)
            stream = connection.stream(METHOD, requests())
            assert await anext(stream) == b"enough"
            with pytest.raises(StopAsyncIteration if end == "trailers" else (RpcError, UpstreamFault)):
                await anext(stream)
            await closed.wait()
            assert connection.open_streams == 0
            assert await unary(connection) == [b"well"]
            await connection.close()

    within_seconds(scenario())
