"""However what a server sends is cut into reads, and whatever it is, the calls end the same."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.core import h2_frames as frames
from silence_gateway.core import hpack
from silence_gateway.core.h2_frames import ErrorCode
from silence_gateway.errors import GatewayError
from silence_gateway.testing.clock import FakeClock, settle
from silence_gateway.upstreams.connection import ConnectionSettings, GrpcConnection

METHOD = b"/shop.Orders/Get"
SETTINGS = ConnectionSettings(max_message_bytes=35)
WITHIN = ConnectionSettings(connection_window_bytes=65_535)
FIRST = (1, 3, 5)
STREAMS = (7, 9, 11, 13, 15, 17)
HEAD = hpack.encode(((b":status", b"200"), (b"content-type", b"application/grpc")))
HINT = hpack.encode(((b":status", b"103"), (b"link", b"</x>")))
WELL = hpack.encode(((b"grpc-status", b"0"),))
NEWS = b"\x40\x04news\x01x"  # goes into the header table, so its bytes mean something else the next time
ILL = hpack.encode(((b"grpc-status", b"5"), (b"grpc-message", b"no such order")))
BOTH = hpack.encode(((b":status", b"200"), (b"content-type", b"application/grpc"), (b"grpc-status", b"7")))
ENDS = frames.END_HEADERS | frames.END_STREAM


def message(content: bytes) -> bytes:
    return b"\0" + len(content).to_bytes(4, "big") + content


def answers(stream: int) -> st.SearchStrategy[bytes]:
    """Give one frame that a server may send on *stream*, in its place or not."""
    content = st.binary(max_size=40).map(message)
    return st.one_of(
        st.sampled_from([HEAD, HEAD, HINT]).map(
            lambda block: frames.frame(frames.HEADERS, frames.END_HEADERS, stream, block)
        ),
        st.sampled_from([WELL, WELL, WELL, ILL, BOTH]).map(
            lambda block: frames.frame(frames.HEADERS, ENDS, stream, block)
        ),
        content.map(lambda data: frames.frame(frames.DATA, 0, stream, data)),
        content.map(lambda data: frames.frame(frames.DATA, 0, stream, data[:3])),
        content.map(lambda data: frames.frame(frames.DATA, frames.PADDED, stream, b"\x02" + data + b"\0\0")),
        st.just(frames.frame(frames.DATA, frames.END_STREAM, stream, b"")),
        st.just(frames.rst_stream_frame(stream, ErrorCode.CANCEL)),
        st.just(frames.window_update_frame(stream, 100)),
    )


def usual(stream: int, content: bytes) -> bytes:
    return b"".join(
        (
            frames.frame(frames.HEADERS, frames.END_HEADERS, stream, HEAD),
            frames.frame(frames.DATA, 0, stream, message(content)),
            frames.frame(frames.HEADERS, ENDS, stream, WELL),
        )
    )


@st.composite
def nearly_usual(draw: st.DrawFn) -> bytes:
    """Give three frames like those of a usual answer, of which one thing or two are not as they should be."""
    stream, content = draw(st.sampled_from(STREAMS[:4])), draw(st.binary(max_size=20))
    others: dict[str, list[Any]] = {
        "kind": [frames.HEADERS],
        "flags": [frames.END_STREAM, frames.PADDED],
        "stream": [9, 15, 2, 99],
        "prefixed": [
            b"\1" + message(content)[1:],
            message(content) + b"more",
            message(content)[:-1],
            message(content)[:4],
            message(bytes(40)),
            message(content) + message(b"second"),
        ],
        "last_kind": [frames.DATA, frames.PING],
        "last_flags": [frames.END_HEADERS, frames.END_STREAM, 0],
        "last_stream": [9, 15, 2, 99],
        "trailers": [ILL, BOTH, HEAD, NEWS],
    }
    parts: dict[str, Any] = {
        "kind": frames.DATA,
        "flags": 0,
        "stream": stream,
        "prefixed": message(content),
        "last_kind": frames.HEADERS,
        "last_flags": ENDS,
        "last_stream": stream,
        "trailers": WELL,
    }
    for name in draw(st.lists(st.sampled_from(sorted(others)), max_size=2)):
        parts[name] = draw(st.sampled_from(others[name]))
    return b"".join(
        (
            frames.frame(frames.HEADERS, frames.END_HEADERS, stream, HEAD),
            frames.frame(parts["kind"], parts["flags"], parts["stream"], parts["prefixed"]),
            frames.frame(parts["last_kind"], parts["last_flags"], parts["last_stream"], parts["trailers"]),
        )
    )


of_connection = st.one_of(
    st.just(frames.ping_frame(b"12345678")),
    st.just(frames.window_update_frame(0, 1_000)),
    st.just(frames.goaway_frame(13, ErrorCode.NO_ERROR)),
)
one = st.one_of(
    st.builds(usual, st.sampled_from(STREAMS), st.binary(max_size=30)),
    st.builds(usual, st.sampled_from(STREAMS), st.binary(max_size=30)),
    nearly_usual(),
    nearly_usual(),
    st.sampled_from(STREAMS).flatmap(answers),
    of_connection,
)


class Socket(asyncio.Transport):
    """Takes everything and sends it nowhere."""

    closed = False
    written = b""

    def write(self, data: Any) -> None:
        """Take *data*."""
        self.written += data

    def close(self) -> None:
        """Bring nothing any more."""
        self.closed = True

    def abort(self) -> None:
        """Stay as it is."""

    def get_write_buffer_size(self) -> int:
        """Nothing waits."""
        return 0


async def outcome(reads: Sequence[bytes]) -> list[str]:
    """Return how four unary calls and two streams end when a server sends *reads*."""
    connection = GrpcConnection("here", b"here", b"http", SETTINGS, FakeClock())
    wire = Socket()
    connection.connection_made(wire)
    connection.data_received(frames.settings_frame(()))
    # What has been read once is looked up by its bytes from then on.
    for first, block in zip(FIRST, (WELL, ILL, BOTH), strict=True):
        call = connection.unary(METHOD, b"?")
        await settle()
        if block != BOTH:
            connection.data_received(frames.frame(frames.HEADERS, frames.END_HEADERS, first, HEAD))
        connection.data_received(frames.frame(frames.HEADERS, ENDS, first, block))
        assert isinstance(call, asyncio.Future)
        assert call.exception() is not None
    unary = [asyncio.ensure_future(connection.unary(METHOD, b"?")) for _ in STREAMS[:4]]
    streams = [connection.stream(METHOD, b"?") for _ in STREAMS[4:]]
    await settle()
    for read in reads:
        if wire.closed:
            break
        connection.data_received(read)
    connection.connection_lost(None)
    ends = []
    for call in unary:
        try:
            reply = await call
        except GatewayError as error:
            ends.append(repr(error))
        else:
            ends.append(f"{reply.message!r} {reply.initial_metadata} {reply.trailing_metadata}")
    for stream in streams:
        got: list[bytes] = []
        try:
            async for each in stream:
                got.append(each)  # noqa: PERF401 - what came before an error counts too
        except GatewayError as error:
            ends.append(f"{got} {error!r}")
        else:
            ends.append(str(got))
    counts = connection.statistics.as_dict()
    # How much came, and was answered, before the end depends on the reads.
    for name in ("bytes_in", "bytes_out", "flushes", "pings_answered", "pings_sent"):
        del counts[name]
    return [*ends, str(counts)]


@settings(max_examples=300, deadline=None)
@given(st.lists(one, max_size=14), st.lists(st.integers(1, 300), max_size=10))
def test_the_ends_of_calls_do_not_depend_on_how_the_answers_are_cut_into_reads(
    sent: list[bytes], lengths: list[int]
) -> None:
    async def scenario() -> None:
        data = b"".join(sent)
        reads, at = [], 0
        for length in lengths:
            reads.append(data[at : at + length])
            at += length
        reads.append(data[at:])
        # Byte by byte nothing is ever found whole in a read, so that all of it goes the long way.
        assert await outcome([read for read in reads if read]) == await outcome(
            [data[index : index + 1] for index in range(len(data))]
        )

    asyncio.run(scenario())


@settings(max_examples=400, deadline=None)
@given(st.lists(nearly_usual(), min_size=1, max_size=2))
def test_an_answer_that_is_not_quite_a_usual_one_ends_the_same_when_it_comes_whole(sent: list[bytes]) -> None:
    async def scenario() -> None:
        data = b"".join(sent)
        assert await outcome(sent) == await outcome([data[at : at + 1] for at in range(len(data))])

    asyncio.run(scenario())


def test_what_whole_answers_took_of_the_connections_window_is_given_back() -> None:
    async def scenario() -> None:
        connection, wire = GrpcConnection("here", b"here", b"http", WITHIN, FakeClock()), Socket()
        connection.connection_made(wire)
        connection.data_received(frames.settings_frame(()))
        content = bytes(2_000)
        for stream in range(1, 41, 2):
            call = connection.unary(METHOD, b"?")
            await settle()
            connection.data_received(usual(stream, content))
            assert (await call).message == content
        await settle()
        half = 17 * len(message(content))  # the first number of answers that is more than half of the window
        assert frames.window_update_frame(0, half) in wire.written

    asyncio.run(scenario())
