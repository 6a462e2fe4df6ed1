"""Whatever frames a server sends, in whatever order: no call ends but in our own errors, and none hangs."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.core import h2_frames as h2
from silence_gateway.core.h2_frames import Setting
from silence_gateway.core.hpack import encode
from silence_gateway.errors import RpcError, UpstreamFault
from silence_gateway.testing.clock import FakeClock
from silence_gateway.testing.h2_peer import HEAD, OK
from silence_gateway.upstreams.connection import ConnectionSettings, GrpcConnection
from silence_gateway.upstreams.contracts import Reply


class Wire(asyncio.Transport):
    """A socket that keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True


MESSAGE = b"\0\0\0\0\2ok"
CONTENTS = st.one_of(
    st.sampled_from(
        [
            encode(HEAD),
            encode(OK),
            encode([*HEAD, *OK]),
            encode([*HEAD, (b"grpc-encoding", b"gzip")]),
            b"\x40\x01a\x01b",
            b"\xbe",
            MESSAGE,
            MESSAGE * 2,
            MESSAGE[:4],
            b"\1" + MESSAGE[1:],
            b"\0\0\0\0",
            b"\0\0\0\x08",
            b"\0\0\0\1\0\0\0\0",
            h2.settings_frame([(Setting.INITIAL_WINDOW_SIZE, 10)])[9:],
            h2.settings_frame([(Setting.MAX_CONCURRENT_STREAMS, 1)])[9:],
            b"",
        ]
    ),
    st.binary(max_size=12),
)
FRAMES = st.one_of(
    st.builds(
        h2.frame,
        st.integers(0, 10),
        st.sampled_from([0, 1, 4, 5, 8, 9, 0x20, 0x2D]),
        st.sampled_from([0, 1, 1, 3, 3, 5, 7, 2, 99]),
        CONTENTS,
    ),
    st.builds(
        lambda stream, end: h2.frame(h2.HEADERS, 4 | end, stream, encode(HEAD)),
        st.sampled_from([1, 3, 5]),
        st.just(0),
    ),
    st.builds(lambda stream: h2.frame(h2.DATA, 0, stream, MESSAGE), st.sampled_from([1, 3, 5])),
    st.builds(lambda stream: h2.frame(h2.HEADERS, 5, stream, encode(OK)), st.sampled_from([1, 3, 5])),
)


@settings(max_examples=200, deadline=None)
@given(sent=st.lists(FRAMES, max_size=15), cut=st.integers(1, 60))
def test_any_frames_end_calls_properly(sent: list[bytes], cut: int) -> None:
    async def scenario() -> None:
        wire, data = Wire(), b"".join(sent)
        connection = GrpcConnection("test:1", b"test:1", b"http", ConnectionSettings(), FakeClock())
        connection.connection_made(wire)
        connection.data_received(h2.settings_frame([(Setting.INITIAL_WINDOW_SIZE, 70_000)]))
        calls = [connection.unary(b"/a.B/C", b"x"), connection.unary(b"/a.B/C", bytes(100_000))]
        stream = connection.stream(b"/a.B/C", b"x")

        async def read() -> list[bytes]:
            return [message async for message in stream]

        reading = asyncio.ensure_future(read())
        await asyncio.sleep(0)
        for at in range(0, len(data), cut):
            connection.data_received(data[at : at + cut])
            await asyncio.sleep(0)
        connection.connection_lost(None)

        results = await asyncio.gather(*calls, reading, return_exceptions=True)
        assert all(isinstance(each, Reply | list | RpcError | UpstreamFault) for each in results)
        assert connection.open_streams == 0
        assert not connection.accepting
        reader = h2.FrameReader()
        reader.feed(bytes(wire.written[len(h2.PREFACE) :]))
        assert reader.violation is None

    asyncio.run(scenario())
