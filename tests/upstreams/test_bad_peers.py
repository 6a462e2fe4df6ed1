"""Servers that break the rules: each costs a clear error, never the process, and never a hang."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from silence_gateway.core import h2_frames as h2
from silence_gateway.core.h2_frames import ErrorCode, Setting
from silence_gateway.errors import RpcError, UpstreamFault, UpstreamProtocolError, UpstreamUnavailable
from silence_gateway.testing.h2_peer import HEAD, OK, H2Peer, scripted_server
from silence_gateway.upstreams.connection import ConnectionSettings, GrpcConnection, connect

METHOD = b"/a.B/C"
HEADERS_ON_1 = h2.headers_frames(1, b"\x88", end_stream=False, max_frame_size=16_384)


def within_seconds(scenario: Coroutine[Any, Any, None]) -> None:
    async def run() -> None:
        async with asyncio.timeout(5):
            await scenario

    asyncio.run(run())


def answering(answer: Callable[[H2Peer, int], None]) -> Callable[[H2Peer], Awaitable[None]]:
    """Script a server that answers its first call so, and later ones well, until the client leaves."""

    async def script(peer: H2Peer) -> None:
        await peer.greet()
        answer(peer, await peer.request())
        while True:
            try:
                peer.answer(await peer.request(), b"well")
            except AssertionError:
                return

    return script


def without_status(peer: H2Peer, stream: int) -> None:
    peer.send_headers(stream)
    peer.send_message(stream, b"x")
    peer.send_headers(stream, [(b"x-end", b"1")], end_stream=True)


def ended_by_data(peer: H2Peer, stream: int) -> None:
    peer.send_headers(stream)
    peer.send(h2.data_frames(stream, b"\0\0\0\0\1x", end_stream=True, max_frame_size=100))


def half_a_message(peer: H2Peer, stream: int) -> None:
    peer.send_headers(stream)
    peer.send(h2.data_frames(stream, b"\0\0\0\0\5xy", end_stream=False, max_frame_size=100))
    peer.send_headers(stream, OK, end_stream=True)


def half_a_prefix(peer: H2Peer, stream: int) -> None:
    peer.send_headers(stream)
    peer.send(h2.data_frames(stream, b"\0\0", end_stream=False, max_frame_size=100))
    peer.send_headers(stream, OK, end_stream=True)


def two_messages(peer: H2Peer, stream: int) -> None:
    peer.send_headers(stream)
    peer.send_message(stream, b"one")
    peer.send_message(stream, b"two")
    peer.send_headers(stream, OK, end_stream=True)


def two_messages_in_one_frame(peer: H2Peer, stream: int) -> None:
    peer.send_headers(stream)
    peer.send(h2.data_frames(stream, b"\0\0\0\0\1a\0\0\0\0\1b", end_stream=False, max_frame_size=100))


def a_message_and_a_half(peer: H2Peer, stream: int) -> None:
    peer.send_headers(stream)
    peer.send_message(stream, b"one")
    peer.send(h2.data_frames(stream, b"\0\0\0", end_stream=False, max_frame_size=100))
    peer.send_headers(stream, OK, end_stream=True)


def no_message(peer: H2Peer, stream: int) -> None:
    peer.send_headers(stream)
    peer.send_headers(stream, OK, end_stream=True)


def nothing_but_ok(peer: H2Peer, stream: int) -> None:
    peer.send_headers(stream, [*HEAD, *OK], end_stream=True)


def data_before_headers(peer: H2Peer, stream: int) -> None:
    peer.send_message(stream, b"x")


def trailers_that_do_not_end(peer: H2Peer, stream: int) -> None:
    peer.send_headers(stream)
    peer.send_headers(stream, OK)


def odd_compressed_flag(peer: H2Peer, stream: int) -> None:
    peer.send_headers(stream)
    peer.send_message(stream, b"x", flag=7)


def false_gzip(peer: H2Peer, stream: int) -> None:
    peer.send_headers(stream, [*HEAD, (b"grpc-encoding", b"gzip")])
    peer.send_message(stream, b"not gzip", flag=1)


def cut_gzip(peer: H2Peer, stream: int) -> None:
    peer.send_headers(stream, [*HEAD, (b"grpc-encoding", b"gzip")])
    peer.send_message(stream, gzip.compress(b"x" * 100)[:-4], flag=1)


def a_web_page(peer: H2Peer, stream: int) -> None:
    peer.send_headers(stream, [(b":status", b"200"), (b"content-type", b"text/html")])
    peer.send(h2.data_frames(stream, b"<html>", end_stream=True, max_frame_size=100))


def almost_grpc(peer: H2Peer, stream: int) -> None:
    peer.send_headers(
        stream, [(b":status", b"200"), (b"content-type", b"application/grpcish")], end_stream=True
    )


def no_http_status(peer: H2Peer, stream: int) -> None:
    peer.send_headers(stream, [(b"content-type", b"application/grpc")])


def upper_case_names(peer: H2Peer, stream: int) -> None:
    peer.send_headers(stream, [*HEAD, (b"X-Upper", b"1")])


def connection_header(peer: H2Peer, stream: int) -> None:
    peer.send_headers(stream, [*HEAD, (b"connection", b"close")])


def late_pseudo_header(peer: H2Peer, stream: int) -> None:
    peer.send_headers(stream, [(b"content-type", b"application/grpc"), (b":status", b"200")])


def status_in_trailers(peer: H2Peer, stream: int) -> None:
    peer.send_headers(stream)
    peer.send_message(stream, b"x")
    peer.send_headers(stream, [(b":status", b"200"), *OK, (b":status", b"200")], end_stream=True)


def a_second_http_status(peer: H2Peer, stream: int) -> None:
    peer.send_headers(stream)
    peer.send_message(stream, b"x")
    peer.send_headers(stream, [(b":status", b"200"), *OK], end_stream=True)


def trailers_of_no_answer(peer: H2Peer, stream: int) -> None:
    peer.send_headers(stream, OK, end_stream=True)


def too_many_headers(peer: H2Peer, stream: int) -> None:
    peer.send_headers(stream, [*HEAD, *((b"x-many", b"y" * 1_000) for _ in range(70))])


@pytest.mark.parametrize(
    "answer",
    [
        without_status,
        ended_by_data,
        half_a_message,
        half_a_prefix,
        two_messages,
        two_messages_in_one_frame,
        a_message_and_a_half,
        no_message,
        nothing_but_ok,
        data_before_headers,
        trailers_that_do_not_end,
        odd_compressed_flag,
        false_gzip,
        cut_gzip,
        a_web_page,
        almost_grpc,
        no_http_status,
        upper_case_names,
        connection_header,
        late_pseudo_header,
        status_in_trailers,
        a_second_http_status,
        trailers_of_no_answer,
        too_many_headers,
    ],
)
def test_a_bad_answer_costs_its_call_only(answer: Callable[[H2Peer, int], None]) -> None:
    async def scenario() -> None:
        async with scripted_server(answering(answer)) as address:
            connection = await connect(address)
            with pytest.raises(UpstreamProtocolError):
                await connection.unary(METHOD, b"hello")

            assert (await connection.unary(METHOD, b"again")).message == b"well"
            assert connection.statistics.protocol_errors == 1
            assert connection.open_streams == 0
            await connection.close()

    within_seconds(scenario())


def test_a_stream_that_nobody_reads_may_not_outgrow_its_window() -> None:
    async def greedy(peer: H2Peer) -> None:
        await peer.greet()
        stream = await peer.request()
        peer.send_headers(stream)
        for _ in range(10):
            peer.send_message(stream, bytes(10_000))
        _, _, got, content, _ = await peer.frame(h2.RST_STREAM)
        assert (got, h2.read_word(content)) == (stream, ErrorCode.FLOW_CONTROL_ERROR)

    async def scenario() -> None:
        async with scripted_server(greedy) as address:
            connection = await connect(address, settings=ConnectionSettings(stream_window_bytes=65_535))
            stream = connection.stream(METHOD, b"")
            with pytest.raises(UpstreamProtocolError, match="more than its window"):
                await stream.trailing_metadata()
            await connection.close()

    within_seconds(scenario())


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, 13),
        (401, 16),
        (403, 7),
        (404, 12),
        (429, 14),
        (431, 13),
        (502, 14),
        (503, 14),
        (504, 14),
        (500, 2),
    ],
)
def test_an_http_error_becomes_the_status_that_grpc_gives_it(status: int, code: int) -> None:
    def answer(peer: H2Peer, stream: int) -> None:
        peer.send_headers(stream, [(b":status", b"%d" % status), (b"content-type", b"text/html")])
        peer.send(h2.data_frames(stream, b"<html>", end_stream=True, max_frame_size=100))

    async def scenario() -> None:
        async with scripted_server(answering(answer)) as address:
            connection = await connect(address)
            with pytest.raises(RpcError, match=rf"HTTP {status} \(text/html\) instead of gRPC") as caught:
                await connection.unary(METHOD, b"hello")
            assert caught.value.code == code
            assert (await connection.unary(METHOD, b"again")).message == b"well"
            await connection.close()

    within_seconds(scenario())


@pytest.mark.parametrize(
    ("reset", "error", "code"),
    [
        (ErrorCode.REFUSED_STREAM, UpstreamUnavailable, None),
        (ErrorCode.CANCEL, RpcError, 1),
        (ErrorCode.ENHANCE_YOUR_CALM, RpcError, 8),
        (ErrorCode.INADEQUATE_SECURITY, RpcError, 7),
        (ErrorCode.INTERNAL_ERROR, RpcError, 13),
        (ErrorCode.NO_ERROR, RpcError, 13),
        (77, RpcError, 13),
    ],
)
def test_a_reset_is_read_by_the_table(reset: int, error: type[Exception], code: int | None) -> None:
    async def scenario() -> None:
        script = answering(lambda peer, stream: peer.send(h2.rst_stream_frame(stream, reset)))
        async with scripted_server(script) as address:
            connection = await connect(address)
            with pytest.raises(error, match="reset the call") as caught:
                await connection.unary(METHOD, b"hello")
            if isinstance(caught.value, RpcError):
                assert caught.value.code == code
            else:
                assert isinstance(caught.value, UpstreamFault)
                assert not caught.value.sent
            await connection.close()

    within_seconds(scenario())


def test_compressed_without_saying_how_is_internal_and_unknown_is_unimplemented() -> None:
    def silent(peer: H2Peer, stream: int) -> None:
        peer.send_headers(stream)
        peer.send_message(stream, gzip.compress(b"x"), flag=1)

    def strange(peer: H2Peer, stream: int) -> None:
        peer.send_headers(stream, [*HEAD, (b"grpc-encoding", b"snappy")])
        peer.send_message(stream, b"x", flag=1)

    def bomb(peer: H2Peer, stream: int) -> None:
        peer.send_headers(stream, [*HEAD, (b"grpc-encoding", b"gzip")])
        peer.send_message(stream, gzip.compress(bytes(8_000_000)), flag=1)

    async def code_of(answer: Callable[[H2Peer, int], None]) -> int:
        async with scripted_server(answering(answer)) as address:
            connection = await connect(address)
            with pytest.raises(RpcError) as caught:
                await connection.unary(METHOD, b"hello")
            await connection.close()
            return caught.value.code

    async def scenario() -> None:
        assert [await code_of(answer) for answer in (silent, strange, bomb)] == [13, 12, 8]

    within_seconds(scenario())


def test_odd_but_legal_answers_are_understood() -> None:
    """Informational headers first, a block in pieces, padding, priority, data in crumbs, an unknown frame."""

    def answer(peer: H2Peer, stream: int) -> None:
        peer.send_headers(stream, [(b":status", b"103"), (b"link", b"x")])
        peer.send(
            h2.headers_frames(stream, b"\x88\x5f\x10application/grpc", end_stream=False, max_frame_size=3)
        )
        for byte in b"\0\0\0\0\3abc":
            peer.send(h2.frame(h2.DATA, h2.PADDED, stream, b"\4" + bytes([byte]) + bytes(4)))
        peer.send(h2.frame(h2.PRIORITY, 0, stream, bytes(5)), h2.frame(0xBE, 0, stream, b"?"))
        peer.send(h2.frame(h2.DATA, 0, stream))
        peer.send(
            h2.frame(h2.HEADERS, 0x2D, stream, b"\2" + bytes(5) + b"\x00\x0bgrpc-status\x010" + bytes(2))
        )

    async def scenario() -> None:
        async with scripted_server(answering(answer)) as address:
            connection = await connect(address)
            assert (await connection.unary(METHOD, b"hello")).message == b"abc"
            await connection.close()

    within_seconds(scenario())


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        pytest.param(b"\xff" * 64, ErrorCode.FRAME_SIZE_ERROR, id="garbage"),
        pytest.param(h2.frame(h2.HEADERS, 4, 1, b"\xff\xff\xff\xff\xff\xff"), 9, id="broken-hpack"),
        pytest.param(h2.frame(h2.HEADERS, 4, 2, b"\x88"), ErrorCode.PROTOCOL_ERROR, id="even-stream"),
        pytest.param(h2.frame(h2.HEADERS, 4, 99, b"\x88"), ErrorCode.PROTOCOL_ERROR, id="stream-not-opened"),
        pytest.param(h2.frame(h2.DATA, 0, 99, b"x"), ErrorCode.PROTOCOL_ERROR, id="data-not-asked-for"),
        pytest.param(h2.rst_stream_frame(99, 0), ErrorCode.PROTOCOL_ERROR, id="reset-of-nothing"),
        pytest.param(h2.frame(h2.PUSH_PROMISE, 4, 1, b"\0\0\0\2\x88"), ErrorCode.PROTOCOL_ERROR, id="push"),
        pytest.param(h2.window_update_frame(0, 0), ErrorCode.PROTOCOL_ERROR, id="window-by-zero"),
        pytest.param(
            h2.window_update_frame(0, h2.MAX_WINDOW), ErrorCode.FLOW_CONTROL_ERROR, id="window-overflow"
        ),
        pytest.param(
            h2.settings_frame([(Setting.MAX_FRAME_SIZE, 1)]), ErrorCode.PROTOCOL_ERROR, id="bad-setting"
        ),
        pytest.param(
            HEADERS_ON_1[:3] + b"\x01\x00" + HEADERS_ON_1[5:] + h2.SETTINGS_ACK, 1, id="block-broken-off"
        ),
        pytest.param(h2.settings_frame([]) * 5_000, ErrorCode.ENHANCE_YOUR_CALM, id="settings-flood"),
        pytest.param(h2.ping_frame(b"12345678") * 5_000, ErrorCode.ENHANCE_YOUR_CALM, id="ping-flood"),
        pytest.param(h2.frame(h2.DATA, 0, 1) * 5_000, ErrorCode.ENHANCE_YOUR_CALM, id="empty-data-flood"),
        pytest.param(h2.frame(h2.PRIORITY, 0, 1, bytes(5)) * 5_000, 11, id="priority-flood"),
        pytest.param(h2.window_update_frame(1, 1) * 40_000, 11, id="window-flood"),
        pytest.param(h2.window_update_frame(0, 1) * 40_000, 11, id="window-flood-of-the-connection"),
        pytest.param(h2.frame(h2.SETTINGS, h2.ACK, 0) * 5_000, 11, id="acknowledgement-flood"),
        pytest.param(h2.ping_frame(b"12345678", ack=True) * 5_000, 11, id="pong-flood"),
        pytest.param(h2.frame(0xAA, 0, 1, b"?") * 5_000, 11, id="flood-of-unknown-frames"),
        pytest.param(h2.goaway_frame(h2.MAX_STREAM_ID, 0) * 5_000, 11, id="goaway-flood"),
        pytest.param(
            h2.headers_frames(5, b"\x48\x03103", end_stream=False, max_frame_size=100) * 5_000,
            ErrorCode.ENHANCE_YOUR_CALM,
            id="flood-of-informational-headers",
        ),
        pytest.param(h2.settings_frame([(4, 2**31)]), ErrorCode.FLOW_CONTROL_ERROR, id="window-too-large"),
        pytest.param(
            HEADERS_ON_1[:4] + b"\0" + HEADERS_ON_1[5:] + h2.frame(h2.CONTINUATION, 0, 1) * 100,
            ErrorCode.ENHANCE_YOUR_CALM,
            id="continuation-flood",
        ),
    ],
)
def test_a_broken_connection_is_ended_with_a_reason_for_every_call(wire: bytes, code: int) -> None:
    async def script(peer: H2Peer) -> None:
        await peer.greet()
        await peer.request()
        peer.send_headers(1)
        peer.send(wire)
        goaway = await peer.frame(h2.GOAWAY)
        assert h2.read_goaway(goaway[3])[1] == code
        await peer.gone()

    async def scenario() -> None:
        lost: list[str] = []
        async with scripted_server(script) as address:
            connection = await connect(address, on_lost=lambda _, reason: lost.append(reason))
            calls = [connection.unary(METHOD, b"hello") for _ in range(3)]
            results = await asyncio.gather(*calls, return_exceptions=True)

            assert all(isinstance(result, UpstreamProtocolError) and result.sent for result in results)
            assert not connection.accepting
            assert lost == [connection.stopped_because]
            with pytest.raises(UpstreamUnavailable) as caught:
                await connection.unary(METHOD, b"hello")
            assert not caught.value.sent
            await connection.wait_closed()

    within_seconds(scenario())


@pytest.mark.parametrize(
    "late",
    [
        pytest.param(h2.rst_stream_frame(3, ErrorCode.CANCEL), id="resets"),
        pytest.param(h2.frame(h2.DATA, 0, 3, b"x"), id="data"),
        pytest.param(h2.headers_frames(3, b"\x88", end_stream=False, max_frame_size=100), id="headers"),
    ],
)
def test_a_flood_for_a_call_that_is_over_ends_the_connection(late: bytes) -> None:
    async def script(peer: H2Peer) -> None:
        await peer.greet()
        for _ in range(2):
            await peer.request()
        peer.send(h2.rst_stream_frame(3, ErrorCode.CANCEL), late * 5_000)
        goaway = await peer.frame(h2.GOAWAY)
        assert h2.read_goaway(goaway[3])[1] == ErrorCode.ENHANCE_YOUR_CALM

    async def scenario() -> None:
        async with scripted_server(script) as address:
            connection = await connect(address)
            calls = [connection.unary(METHOD, b"hello") for _ in range(2)]
            first, second = await asyncio.gather(*calls, return_exceptions=True)
            assert isinstance(first, UpstreamProtocolError)
            assert "a flood of strays" in str(first)
            assert isinstance(second, RpcError)
            await connection.wait_closed()

    within_seconds(scenario())


def test_a_server_that_vanishes_fails_what_was_sent() -> None:
    async def script(peer: H2Peer) -> None:
        await peer.greet()
        await peer.request()
        peer.hang_up()

    async def scenario() -> None:
        async with scripted_server(script) as address:
            connection = await connect(address)
            with pytest.raises(UpstreamUnavailable) as caught:
                await connection.unary(METHOD, b"hello")
            assert caught.value.sent
            await connection.wait_closed()

    within_seconds(scenario())


@pytest.mark.parametrize(
    ("hello", "complaint"),
    [
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", "speaks HTTP/1", id="http-1"),
        pytest.param(b"SSH-2.0-x\r\n" * 10, "above 16384", id="another-protocol"),
        pytest.param(h2.ping_frame(b"12345678"), "not SETTINGS", id="ping-first"),
        pytest.param(h2.frame(h2.HEADERS, 4, 1, b"\x88"), "nobody opened", id="headers-first"),
    ],
)
def test_what_does_not_speak_http2_is_named(hello: bytes, complaint: str) -> None:
    async def script(peer: H2Peer) -> None:
        peer.send(hello)
        await peer.gone()

    async def scenario() -> None:
        async with scripted_server(script) as address:
            with pytest.raises(UpstreamProtocolError, match=complaint) as caught:
                await connect(address)
            assert not caught.value.sent
            assert address in str(caught.value)

    within_seconds(scenario())


def test_a_server_that_says_nothing_is_given_up() -> None:
    async def scenario() -> None:
        async with scripted_server(H2Peer.gone) as address:
            with pytest.raises(UpstreamUnavailable, match="connect_timeout_s"):
                await connect(address, settings=ConnectionSettings(connect_timeout_s=0.05))

    within_seconds(scenario())


def test_late_frames_of_a_cancelled_call_are_passed_over() -> None:
    arrived = asyncio.Event()

    async def script(peer: H2Peer) -> None:
        await peer.greet()
        first = await peer.request()
        arrived.set()
        await peer.frame(h2.RST_STREAM)
        peer.answer(first, b"late")
        peer.send(h2.rst_stream_frame(first, 0), h2.window_update_frame(first, 5))
        peer.answer(await peer.request(), b"well")
        await peer.gone()

    async def scenario() -> None:
        async with scripted_server(script) as address:
            connection: GrpcConnection = await connect(address)
            call = asyncio.ensure_future(connection.unary(METHOD, b"hello"))
            await arrived.wait()
            call.cancel()
            assert (await connection.unary(METHOD, b"again")).message == b"well"
            await connection.close()

    within_seconds(scenario())
