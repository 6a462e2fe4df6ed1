"""
A scripted HTTP/2 client in memory: it gives a server's connection exactly the bytes that a test wants.

For testing servers against what no real client would do on purpose. There is no socket: bytes are handed
to the protocol, and what it writes is kept. It decides nothing by itself, keeps no windows, and checks
nothing but that what the server sends can be read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from silence_gateway.core import h2_frames as h2
from silence_gateway.core.grpc_messages import framed
from silence_gateway.core.hpack import BlockReader, HeaderPairs, encode
from silence_gateway.testing.clock import settle

Pairs = Sequence[tuple[bytes, bytes]]


def head_of(path: bytes, *more: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """Return the header list of a gRPC call."""
    return [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"test"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        *more,
    ]


def headers(stream: int, pairs: Pairs, *, end: bool = False) -> bytes:
    """Return a header block as frames."""
    return h2.headers_frames(stream, encode(pairs), end_stream=end, max_frame_size=h2.DEFAULT_FRAME_SIZE)


def data(stream: int, content: bytes, *, end: bool = False) -> bytes:
    """Return content as frames."""
    return h2.data_frames(stream, content, end_stream=end, max_frame_size=h2.DEFAULT_FRAME_SIZE)


def call(stream: int, path: bytes, message: bytes = b"", *more: tuple[bytes, bytes]) -> bytes:
    """Return a whole unary call as frames."""
    return headers(stream, head_of(path, *more)) + data(stream, framed(message), end=True)


class MemoryTransport(asyncio.Transport):
    """
    What a protocol writes to.

    Attributes:
        written: Everything so far.
        reading: Whether the protocol wants to be given bytes.
        eof: Whether the protocol has said that it will write no more.
        stuck: While set, nothing that is written leaves: the client does not read.
        waiting: Bytes that have not left.
    """

    def __init__(self, extra: dict[str, Any] | None = None) -> None:
        super().__init__(extra)
        self.written = bytearray()
        self.reading = True
        self.eof = False
        self.closed = False
        self.stuck = False
        self.waiting = 0
        self.high = 65_536
        self.low = 16_384
        self.protocol: asyncio.Protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Remember from where on the protocol is told to pause, and to go on."""
        self.high = self.high if high is None else high
        self.low = self.low if low is None else low

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep *data*."""
        if self.closed or self.eof:
            raise AssertionError("written after the end")
        self.written += data
        if self.stuck:
            before, self.waiting = self.waiting, self.waiting + len(data)
            if before <= self.high < self.waiting:
                self.protocol.pause_writing()

    def take(self, size: int) -> None:
        """Let *size* bytes leave."""
        before, self.waiting = self.waiting, max(0, self.waiting - size)
        if self.waiting <= self.low < before:
            self.protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes have not left."""
        return self.waiting

    def pause_reading(self) -> None:
        """The protocol wants no bytes now."""
        self.reading = False

    def resume_reading(self) -> None:
        """The protocol wants bytes again."""
        self.reading = True

    def can_write_eof(self) -> bool:
        """As a TCP socket."""
        return True

    def write_eof(self) -> None:
        """The protocol writes no more."""
        self.eof = True

    def is_closing(self) -> bool:
        """Whether it is closed."""
        return self.closed

    def close(self) -> None:
        """Close, and tell the protocol on the loop's next turn."""
        self.abort()

    def abort(self) -> None:
        """Close, and tell the protocol on the loop's next turn."""
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)


class H2Client:
    """
    The client's end of one connection.

    Attributes:
        transport: What the server writes to.
        received: Every frame of the server so far, in order.
    """

    def __init__(self, make: Callable[[], asyncio.Protocol], extra: dict[str, Any] | None = None) -> None:
        self.transport = MemoryTransport(extra)
        self.protocol = self.transport.protocol = make()
        self.received: list[h2.Frame] = []
        self._frames = h2.FrameReader(h2.MAX_FRAME_SIZE)
        self._blocks: BlockReader[HeaderPairs] = BlockReader(lambda pairs: pairs)
        self._headers: dict[int, list[HeaderPairs]] = {}
        self._read = 0
        self.protocol.connection_made(self.transport)

    def greet(self, settings: Pairs | Sequence[tuple[int, int]] = ()) -> None:
        """Send the preface and SETTINGS."""
        self.send(h2.PREFACE, h2.settings_frame(settings))  # type: ignore[arg-type]

    def send(self, *pieces: bytes) -> None:
        """Hand bytes to the server as they are; each piece is one read of its socket."""
        for piece in pieces:
            if not self.transport.closed:
                self.protocol.data_received(piece)

    def leave(self) -> None:
        """Close the connection from this end."""
        self.transport.abort()

    async def hear(self) -> list[h2.Frame]:
        """Let the server do what it has to, and return every frame that came since this was last asked."""
        await settle()
        new = bytes(self.transport.written[self._read :])
        self._read += len(new)
        frames = self._frames.feed(new)
        if self._frames.violation is not None:
            raise AssertionError(f"the server broke HTTP/2: {self._frames.violation}")
        for kind, _, stream, content, _ in frames:
            if kind == h2.HEADERS:
                self._headers.setdefault(stream, []).append(self._blocks.read(content))
        self.received += frames
        return frames

    async def all_of(self, kind: int, stream: int | None = None) -> list[h2.Frame]:
        """Return every frame of *kind* so far, on *stream* or on any."""
        await self.hear()
        return [frame for frame in self.received if frame[0] == kind and stream in (None, frame[2])]

    async def goaway(self) -> tuple[int, int, bytes] | None:
        """Return last stream, code and debug data of the last GOAWAY; None if there was none."""
        frames = await self.all_of(h2.GOAWAY)
        return h2.read_goaway(frames[-1][3]) if frames else None

    async def reset(self, stream: int) -> int | None:
        """Return the code of the RST_STREAM of *stream*; None if there was none."""
        frames = await self.all_of(h2.RST_STREAM, stream)
        return h2.read_word(frames[0][3]) if frames else None

    async def blocks(self, stream: int) -> list[dict[bytes, bytes]]:
        """Return the header blocks of *stream* so far."""
        await self.hear()
        return [dict(pairs) for pairs in self._headers.get(stream, [])]

    async def content(self, stream: int) -> bytes:
        """Return the DATA of *stream* so far."""
        return b"".join([frame[3] for frame in await self.all_of(h2.DATA, stream)])

    async def status(self, stream: int) -> int | None:
        """Return the gRPC status of *stream*; None if it has none yet."""
        for block in await self.blocks(stream):
            if b"grpc-status" in block:
                return int(block[b"grpc-status"])
        return None

    async def ended(self, stream: int) -> bool:
        """Return whether the server has ended its side of *stream*."""
        await self.hear()
        return any(
            frame[2] == stream and frame[0] in (h2.DATA, h2.HEADERS) and frame[1] & h2.END_STREAM
            for frame in self.received
        )
