"""HTTP/2 kept to the letter, one rule each: what the client sends, and what the server makes of it."""

from __future__ import annotations

import pytest
from tests.edge.http2_scene import CHAT, ECHO, LATER, run, scene

from silence_gateway.core import h2_frames as h2
from silence_gateway.core.grpc_messages import framed
from silence_gateway.core.h2_frames import ErrorCode, Setting
from silence_gateway.core.hpack import encode
from silence_gateway.edge.http2 import NOT_HTTP2, TURN_BYTES
from silence_gateway.testing.h2_client import call, data, head_of, headers


def test_a_call_is_answered_with_head_message_and_trailers() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(call(1, ECHO, b"hello"))

            assert await client.blocks(1) == [
                {b":status": b"200", b"content-type": b"application/grpc"},
                {b"grpc-status": b"0"},
            ]
            assert await client.content(1) == framed(b"hello")
            assert await client.ended(1)

    run(scenario())


def test_the_server_says_what_it_allows_and_acknowledges() -> None:
    async def scenario() -> None:
        async with scene(max_streams=7, max_header_list_bytes=5_000) as served:
            client = served.client()
            ours, ack = await client.all_of(h2.SETTINGS)

            assert dict(h2.read_settings(ours[3])) == {
                Setting.MAX_CONCURRENT_STREAMS: 7,
                Setting.INITIAL_WINDOW_SIZE: 65_535,
                Setting.MAX_FRAME_SIZE: 16_384,
                Setting.MAX_HEADER_LIST_SIZE: 5_000,
            }
            assert ack[1] & h2.ACK
            (update,) = await client.all_of(h2.WINDOW_UPDATE)
            assert h2.read_increment(update[3]) == 4_194_304 - 65_535

    run(scenario())


def test_all_answers_of_a_read_leave_in_one_write() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(call(1, ECHO))
            await client.hear()
            flushes = served.server.statistics.flushes

            client.send(b"".join(call(stream, ECHO, b"x") for stream in range(3, 101, 2)))
            await client.hear()

            assert served.server.statistics.flushes == flushes + 1
            assert served.server.by_code()[0] == 50

    run(scenario())


CONNECTION_ERRORS = [
    pytest.param(h2.frame(h2.DATA, 0, 1, b"x"), ErrorCode.PROTOCOL_ERROR, id="data-on-idle-stream"),
    pytest.param(h2.rst_stream_frame(1, 8), ErrorCode.PROTOCOL_ERROR, id="reset-of-idle-stream"),
    pytest.param(h2.window_update_frame(1, 8), ErrorCode.PROTOCOL_ERROR, id="window-of-idle-stream"),
    pytest.param(h2.window_update_frame(2, 8), ErrorCode.PROTOCOL_ERROR, id="window-of-even-stream"),
    pytest.param(headers(2, head_of(ECHO)), ErrorCode.PROTOCOL_ERROR, id="even-stream"),
    pytest.param(
        call(5, ECHO) + headers(3, head_of(ECHO)), ErrorCode.STREAM_CLOSED, id="stream-number-goes-back"
    ),
    pytest.param(call(1, ECHO) + headers(1, head_of(ECHO)), ErrorCode.STREAM_CLOSED, id="stream-used-twice"),
    pytest.param(h2.frame(h2.DATA, 0, 0, b"x"), ErrorCode.PROTOCOL_ERROR, id="data-on-0"),
    pytest.param(headers(0, head_of(ECHO)), ErrorCode.PROTOCOL_ERROR, id="headers-on-0"),
    pytest.param(h2.frame(h2.RST_STREAM, 0, 1, b"x"), ErrorCode.FRAME_SIZE_ERROR, id="short-reset"),
    pytest.param(h2.frame(h2.PING, 0, 0, b"short"), ErrorCode.FRAME_SIZE_ERROR, id="short-ping"),
    pytest.param(h2.frame(h2.PING, 0, 3, b"8 bytes!"), ErrorCode.PROTOCOL_ERROR, id="ping-on-stream"),
    pytest.param(h2.frame(h2.SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR, id="settings-on-stream"),
    pytest.param(h2.frame(h2.SETTINGS, 0, 0, b"12345"), ErrorCode.FRAME_SIZE_ERROR, id="settings-length"),
    pytest.param(
        h2.frame(h2.SETTINGS, h2.ACK, 0, b"123456"),
        ErrorCode.FRAME_SIZE_ERROR,
        id="acknowledgement-with-content",
    ),
    pytest.param(h2.settings_frame([(2, 2)]), ErrorCode.PROTOCOL_ERROR, id="push-neither-on-nor-off"),
    pytest.param(
        h2.settings_frame([(4, 2**31)]), ErrorCode.FLOW_CONTROL_ERROR, id="initial-window-too-large"
    ),
    pytest.param(h2.settings_frame([(5, 100)]), ErrorCode.PROTOCOL_ERROR, id="frame-size-too-small"),
    pytest.param(h2.window_update_frame(0, 0), ErrorCode.PROTOCOL_ERROR, id="connection-window-by-zero"),
    pytest.param(
        h2.window_update_frame(0, 2**31 - 1), ErrorCode.FLOW_CONTROL_ERROR, id="connection-window-overflows"
    ),
    pytest.param(
        h2.frame(h2.DATA, 0, 1, bytes(16_385)), ErrorCode.FRAME_SIZE_ERROR, id="frame-above-what-is-allowed"
    ),
    pytest.param(h2.frame(h2.PUSH_PROMISE, 4, 1, b"1234"), ErrorCode.PROTOCOL_ERROR, id="push-by-a-client"),
    pytest.param(h2.frame(h2.CONTINUATION, 4, 1), ErrorCode.PROTOCOL_ERROR, id="continuation-of-nothing"),
    pytest.param(
        h2.frame(h2.HEADERS, 0, 1, encode(head_of(ECHO))) + h2.frame(h2.PING, 0, 0, b"8 bytes!"),
        ErrorCode.PROTOCOL_ERROR,
        id="block-interrupted",
    ),
    pytest.param(h2.frame(h2.HEADERS, 4, 1, b"\xff\xff\xff"), ErrorCode.COMPRESSION_ERROR, id="block-broken"),
    pytest.param(h2.frame(h2.HEADERS, 4, 1, b"\xc6"), ErrorCode.COMPRESSION_ERROR, id="index-not-in-table"),
    pytest.param(h2.frame(h2.DATA, 8, 1, b""), ErrorCode.FRAME_SIZE_ERROR, id="padded-without-length"),
    pytest.param(h2.frame(h2.DATA, 8, 1, b"\x05abc"), ErrorCode.PROTOCOL_ERROR, id="padding-too-long"),
]


@pytest.mark.parametrize(("wire", "code"), CONNECTION_ERRORS)
def test_a_broken_rule_ends_the_connection_and_says_why(wire: bytes, code: ErrorCode) -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(wire)
            goaway = await client.goaway()

            assert goaway is not None
            assert goaway[1] == code
            assert goaway[2], "it says what was wrong"
            assert client.transport.eof
            assert served.server.statistics.violations == {code: 1}

    run(scenario())


STREAM_ERRORS = [
    pytest.param(headers(1, head_of(ECHO)[1:]), ErrorCode.PROTOCOL_ERROR, id="no-method"),
    pytest.param(headers(1, head_of(ECHO, (b"X-A", b"b"))), ErrorCode.PROTOCOL_ERROR, id="upper-case"),
    pytest.param(headers(1, head_of(ECHO, (b"connection", b"x"))), ErrorCode.PROTOCOL_ERROR, id="connection"),
    pytest.param(headers(1, head_of(ECHO, (b"te", b"gzip"))), ErrorCode.PROTOCOL_ERROR, id="te"),
    pytest.param(headers(1, [(b"a", b"b"), *head_of(ECHO)]), ErrorCode.PROTOCOL_ERROR, id="pseudo-late"),
    pytest.param(
        headers(1, head_of(LATER)) + headers(1, [(b"x", b"y")]),
        ErrorCode.PROTOCOL_ERROR,
        id="trailers-no-end",
    ),
    pytest.param(
        headers(1, head_of(LATER)) + headers(1, [(b":path", b"/")], end=True),
        ErrorCode.PROTOCOL_ERROR,
        id="pseudo-in-trailers",
    ),
    pytest.param(
        headers(1, head_of(ECHO, (b"content-length", b"9"))) + data(1, framed(b""), end=True),
        ErrorCode.PROTOCOL_ERROR,
        id="less-than-announced",
    ),
    pytest.param(
        headers(1, head_of(LATER, (b"content-length", b"9")))
        + data(1, framed(b""))
        + headers(1, [], end=True),
        ErrorCode.PROTOCOL_ERROR,
        id="less-than-announced-with-trailers",
    ),
    pytest.param(
        headers(1, head_of(LATER)) + h2.window_update_frame(1, 0),
        ErrorCode.PROTOCOL_ERROR,
        id="window-by-zero",
    ),
    pytest.param(
        headers(1, head_of(LATER)) + h2.window_update_frame(1, 2**31 - 1),
        ErrorCode.FLOW_CONTROL_ERROR,
        id="window-overflows",
    ),
    pytest.param(call(1, LATER) + data(1, b"x"), ErrorCode.STREAM_CLOSED, id="data-after-the-end"),
    pytest.param(
        call(1, LATER) + headers(1, [(b"x", b"y")], end=True),
        ErrorCode.STREAM_CLOSED,
        id="trailers-after-the-end",
    ),
    pytest.param(
        headers(1, head_of(CHAT)) + data(1, bytes(65_536)),
        ErrorCode.FLOW_CONTROL_ERROR,
        id="more-than-the-window",
    ),
    pytest.param(call(1, ECHO) + data(1, b"x"), ErrorCode.STREAM_CLOSED, id="data-on-a-finished-stream"),
    pytest.param(
        call(1, LATER) + h2.rst_stream_frame(1, 8) + data(1, b"x"),
        ErrorCode.STREAM_CLOSED,
        id="data-after-its-own-reset",
    ),
]


@pytest.mark.parametrize(("wire", "code"), STREAM_ERRORS)
def test_a_broken_request_costs_only_its_stream(wire: bytes, code: ErrorCode) -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(wire)

            assert await client.reset(1) == code
            client.send(call(3, ECHO, b"still here"))
            assert await client.content(3) == framed(b"still here")
            assert await client.goaway() is None
            assert served.running == []

    run(scenario())


FINE = [
    pytest.param(h2.frame(h2.PRIORITY, 0, 1, bytes(5)) + call(1, ECHO, b"x"), id="priority"),
    pytest.param(h2.frame(h2.PRIORITY, 0, 9, b"\0\0\0\x09\0") + call(1, ECHO, b"x"), id="priority-on-itself"),
    pytest.param(h2.frame(0x99, 0, 1, b"what") + call(1, ECHO, b"x"), id="unknown-frame"),
    pytest.param(h2.settings_frame([(0x99, 7)]) + call(1, ECHO, b"x"), id="unknown-setting"),
    pytest.param(
        h2.frame(h2.HEADERS, 0x2C, 1, b"\x03" + bytes(5) + encode(head_of(ECHO)) + bytes(3))
        + data(1, framed(b"x"), end=True),
        id="padded-headers-with-priority",
    ),
    pytest.param(
        headers(1, head_of(ECHO)) + h2.frame(h2.DATA, 0x9, 1, b"\x05" + framed(b"x") + bytes(5)),
        id="padded-data",
    ),
    pytest.param(
        h2.frame(h2.HEADERS, 0, 1, encode(head_of(ECHO))[:3])
        + h2.frame(h2.CONTINUATION, 0, 1)
        + h2.frame(h2.CONTINUATION, h2.END_HEADERS, 1, encode(head_of(ECHO))[3:])
        + data(1, framed(b"x"), end=True),
        id="continuation",
    ),
    pytest.param(
        headers(1, head_of(ECHO)) + data(1, framed(b"x")) + headers(1, [(b"x", b"y")], end=True),
        id="trailers",
    ),
    pytest.param(
        headers(1, head_of(ECHO)) + data(1, framed(b"x")) + data(1, b"", end=True), id="empty-last-data"
    ),
    pytest.param(
        headers(1, head_of(ECHO, (b"content-length", b"6"))) + data(1, framed(b"x"), end=True),
        id="length-as-said",
    ),
    pytest.param(call(1, ECHO, b"x") + h2.window_update_frame(1, 5), id="window-of-a-finished-stream"),
    pytest.param(call(1, ECHO, b"x") + h2.rst_stream_frame(1, 8), id="reset-of-a-finished-stream"),
    pytest.param(h2.goaway_frame(0, 0, b"bye") + call(1, ECHO, b"x"), id="goaway-of-the-client"),
    pytest.param(h2.SETTINGS_ACK + call(1, ECHO, b"x"), id="acknowledgement"),
    pytest.param(call(1, ECHO, b"x") + call(2**31 - 1, ECHO, b"y"), id="last-stream-number"),
]


@pytest.mark.parametrize("wire", FINE)
def test_what_is_allowed_is_taken_without_a_word(wire: bytes) -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(wire)

            assert await client.content(1) == framed(b"x")
            assert await client.status(1) == 0
            assert await client.all_of(h2.RST_STREAM) == []
            assert await client.goaway() is None
            assert served.noticed == []

    run(scenario())


def test_ping_is_answered_with_its_content() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(h2.ping_frame(b"12345678"))

            ((_, flags, _, content, _),) = await client.all_of(h2.PING)
            assert (flags, content) == (h2.ACK, b"12345678")
            client.send(h2.ping_frame(b"12345678", ack=True))
            assert len(await client.all_of(h2.PING)) == 1

    run(scenario())


@pytest.mark.parametrize(
    ("wire", "answer"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", NOT_HTTP2, id="http-1"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00", b"the preface of HTTP/2 is wrong", id="tls"),
        pytest.param(h2.PREFACE[:-1] + b"x", b"the preface of HTTP/2 is wrong", id="preface-wrong"),
        pytest.param(
            h2.PREFACE + h2.ping_frame(b"12345678"), b"the first frame is not SETTINGS", id="ping-first"
        ),
        pytest.param(h2.PREFACE + call(1, ECHO), b"the first frame is not SETTINGS", id="call-first"),
        pytest.param(
            h2.PREFACE + h2.SETTINGS_ACK, b"the first frame is not SETTINGS", id="acknowledgement-first"
        ),
    ],
)
def test_a_connection_must_begin_as_http2(wire: bytes, answer: bytes) -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client(greet=False)
            client.send(wire)
            await served.clock.advance(0)

            assert answer in client.transport.written
            assert client.transport.eof

    run(scenario())


def test_the_length_of_the_answer_to_http1_is_true() -> None:
    head, _, body = NOT_HTTP2.partition(b"\r\n\r\n")
    assert b"content-length: %d" % len(body) in head


def test_a_client_that_sends_without_end_is_heard_in_turns() -> None:
    async def scenario() -> None:
        async with scene(max_streams=1_000) as served:
            client = served.client()
            wire = b"".join(call(stream, ECHO) for stream in range(1, 20_001, 2))

            client.send(wire[:150_000])
            done = served.server.by_code()[0]
            assert 0 < done <= TURN_BYTES // len(call(1, ECHO))
            assert not client.transport.reading
            client.send(wire[150_000:])  # it was on its way
            while served.server.by_code()[0] < 10_000:
                before = served.server.by_code()[0]
                await client.hear()
                assert served.server.by_code()[0] > before
            assert client.transport.reading
            assert await client.status(19_999) == 0

    run(scenario())


def test_a_bug_in_a_stream_ends_its_connection_and_is_told() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client, other = served.client(), served.client()
            client.send(headers(1, head_of(CHAT)))
            await client.hear()
            (stream,) = client.protocol.streams.values()  # type: ignore[attr-defined]
            stream.inbox = None

            client.send(data(1, b"x"))

            goaway = await client.goaway()
            assert goaway is not None
            assert goaway[1] == ErrorCode.INTERNAL_ERROR
            assert any("an HTTP/2 connection ended in" in text for text in served.said())
            other.send(call(1, ECHO))
            assert await other.status(1) == 0

    run(scenario())
