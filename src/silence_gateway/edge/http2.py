"""
One HTTP/2 connection of a client: what comes in, and what each frame does (RFC 9113).

Runs for every frame, so: one loop over the frames of a read, heads looked up by their bytes, no task, no
timer and one object per request, one write per loop tick. What a request means is the business of the
application above (`http2_streams.Application`), how answers leave that of `http2_sending.py`, and time
that of `http2_sweep.py`. An idle connection takes 6 KB, the transport not counted.

A client is heard for `TURN_BYTES` at a time, then it is everybody else's turn: the event loop reads one
socket up to 32 times in a row as long as it is full, 8 MiB altogether.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from silence_gateway.core import h2_frames as h2
from silence_gateway.core.h2_flood import Noise
from silence_gateway.core.h2_frames import ErrorCode, H2Violation, Setting
from silence_gateway.core.hpack import BlockReader, HeaderBomb, HeaderListTooLarge, HpackError
from silence_gateway.edge.http2_control import Http2Control
from silence_gateway.edge.http2_link import CLOSED, GREETING, LAST, LINGERING, Capped
from silence_gateway.edge.http2_statistics import Cap
from silence_gateway.edge.http2_streams import Http2Head
from silence_gateway.events import Noticed

if TYPE_CHECKING:
    from silence_gateway.edge.http2_server import Http2Server

# A turn of the smallest requests takes about 6 ms.
TURN_BYTES = 32_768

# How many times larger than we keep a header list may be to cost only its stream.
BOMB_FACTOR = 4

HTTP1_BEGINNINGS = (b"GET ", b"POST ", b"HEAD ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ")
NOT_HTTP2 = (
    b"HTTP/1.1 505 HTTP Version Not Supported\r\nconnection: close\r\ncontent-type: text/plain\r\n"
    b"content-length: 37\r\n\r\nThis port speaks HTTP/2 (gRPC) only.\n"
)


class Http2Connection(Http2Control):
    """The protocol of one accepted socket."""

    def __init__(self, server: Http2Server) -> None:
        super().__init__(server)
        settings = self.settings
        self.max_streams = settings.max_streams
        self.frames = h2.FrameReader(settings.max_frame_bytes)
        self.blocks: BlockReader[Http2Head] = BlockReader(
            server.application.read_head,
            max_list_size=settings.max_header_list_bytes,
            bomb_size=BOMB_FACTOR * settings.max_header_list_bytes,
        )
        self.preface = b""
        self.frames_seen = 0
        self.owed = 0  # bytes of DATA not given back to the connection's window yet
        self.unread = b""  # received, but not looked at before our next turn
        self.unread_at = 0

    # The beginning.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say what we allow, or turn the client away."""
        # A cast, not a check: uvloop's transports do not inherit from asyncio's.
        self.transport = cast("asyncio.Transport", transport)
        settings = self.settings
        self.transport.set_write_buffer_limits(settings.write_high_bytes, settings.write_low_bytes)
        address = transport.get_extra_info("peername")
        if isinstance(address, tuple):
            self.peer = address[0].removeprefix("::ffff:")
        tls = transport.get_extra_info("ssl_object")
        if not self.server.admit(self):
            # Without SETTINGS: a client that has got them takes itself for connected, and comes back at once
            # instead of after a pause.
            self.server.count_capped(Cap.CONNECTIONS, self.peer, "it was turned away")
            self.transport.abort()
            return
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            self.say_goodbye(ErrorCode.HTTP_1_1_REQUIRED, "this server speaks HTTP/2 (ALPN h2) only")
            return
        if self.server.draining:
            self.leave()
            return
        self.write(
            h2.settings_frame(
                (
                    (Setting.MAX_CONCURRENT_STREAMS, settings.max_streams),
                    (Setting.INITIAL_WINDOW_SIZE, settings.stream_window_bytes),
                    (Setting.MAX_FRAME_SIZE, settings.max_frame_bytes),
                    (Setting.MAX_HEADER_LIST_SIZE, settings.max_header_list_bytes),
                )
            )
        )
        if settings.connection_window_bytes > h2.DEFAULT_WINDOW:
            self.write(h2.window_update_frame(0, settings.connection_window_bytes - h2.DEFAULT_WINDOW))

    # Reading.

    def data_received(self, data: bytes) -> None:
        """Look at what came, as much as is one turn."""
        self.statistics.bytes_in += len(data)
        if self.in_turn:
            # It was on its way when the turn ended.
            self.unread = self.unread[self.unread_at :] + data
            self.unread_at = 0
        elif len(data) <= TURN_BYTES:
            self.read(data)
        else:
            self.unread, self.unread_at = data, TURN_BYTES
            self.in_turn = True
            self.hear()
            self.server.loop.call_soon(self.next_turn)
            self.read(data[:TURN_BYTES])

    def next_turn(self) -> None:
        """Look at a further piece of what has been received."""
        if self.phase >= LINGERING:
            self.unread = b""
            return
        at = self.unread_at
        piece = self.unread[at : at + TURN_BYTES]
        self.unread_at = at + TURN_BYTES
        if self.unread_at < len(self.unread):
            self.server.loop.call_soon(self.next_turn)
        else:
            self.unread = b""
            self.in_turn = False
            self.hear()
        self.read(piece)

    def read(self, data: bytes) -> None:
        """Carry out every frame that is complete."""
        if self.phase == GREETING and len(self.preface) < len(h2.PREFACE):
            data = self.take_preface(data)
        if self.phase >= LINGERING:
            return
        frames = self.frames.feed(data)
        self.frames_seen += len(frames)
        streams = self.streams
        known = self.blocks.known
        got = 0
        try:
            for kind, flags, stream_id, content, length in frames:
                if kind == h2.HEADERS:
                    head = known.get(content) or self.read_block(content)
                    stream = streams.get(stream_id)
                    if stream is not None:
                        self.on_trailers(stream, flags, head)
                    elif head is not None and not head.malformed and self.admits(stream_id):
                        stream = head.open(self, stream_id, head)
                        streams[stream_id] = stream
                        if flags & h2.END_STREAM:
                            stream.receiving = False
                            stream.on_begin()
                            if not stream.answered:
                                stream.on_end()
                        else:
                            stream.on_begin()
                    else:
                        self.refuse(stream_id, flags, head)
                elif kind == h2.DATA:
                    got += length
                    stream = streams.get(stream_id)
                    if stream is None or stream.answered or not stream.receiving:
                        self.on_late_data(stream_id, stream, flags)
                        continue
                    size = len(content)
                    stream.received += size
                    stream.room -= length
                    if stream.room < 0:
                        self.reset_for_fault(stream, ErrorCode.FLOW_CONTROL_ERROR)
                    elif flags & h2.END_STREAM:
                        stream.receiving = False
                        announced = stream.head.content_length
                        if announced >= 0 and announced != stream.received:
                            self.reset_for_fault(stream, ErrorCode.PROTOCOL_ERROR)
                        else:
                            stream.on_data(content)
                    elif size:
                        if length > size:
                            self.give_room(stream, length - size)
                        stream.on_data(content)
                    else:
                        if length:
                            self.give_room(stream, length)
                        self.count_noise(Noise.EMPTY_FRAMES)
                else:
                    self.on_control(kind, flags, stream_id, content)
                    if self.phase >= LINGERING:
                        return
            if got:
                self.work += got >> 10
                self.give_back(got)
            if self.frames.violation is not None:
                raise self.frames.violation
        except H2Violation as violation:
            self.break_off(self.named(violation))
        except Exception as error:  # noqa: BLE001 - a bug ends the connection it hit, and nothing else
            self.server.observer(Noticed(what=f"an HTTP/2 connection ended in {error!r}", loudness="error"))
            self.break_off(H2Violation(ErrorCode.INTERNAL_ERROR, "something went wrong in this server"))

    def take_preface(self, data: bytes) -> bytes:
        """Check the first bytes of the client, and return what follows them."""
        missing = len(h2.PREFACE) - len(self.preface)
        self.preface += data[:missing]
        if not h2.PREFACE.startswith(self.preface):
            if self.preface.startswith(HTTP1_BEGINNINGS):
                # Somebody with a browser or curl, who deserves an answer that can be read.
                self.pieces.clear()
                self.pieces.append(NOT_HTTP2)
                self.statistics.violate(ErrorCode.PROTOCOL_ERROR)
                self.linger()
            else:
                self.break_off(H2Violation(ErrorCode.PROTOCOL_ERROR, "the preface of HTTP/2 is wrong"))
        return data[missing:]

    def named(self, violation: H2Violation) -> H2Violation:
        """Say which bound it was that the reader of frames found."""
        if violation is self.frames.violation and violation.code == ErrorCode.ENHANCE_YOUR_CALM:
            return Capped(Cap.CONTINUATION, str(violation))
        return violation

    def read_block(self, block: bytes) -> Http2Head | None:
        """
        Read a block that is not known; None if it is too large.

        Raises:
            H2Violation: The block cannot be read, or was made to cost us time.
        """
        if self.phase == GREETING:
            raise H2Violation(ErrorCode.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        try:
            return self.blocks.read(block)
        except HeaderBomb as error:
            raise Capped(Cap.HEADER_BOMB, str(error)) from error
        except HpackError as error:
            raise H2Violation(ErrorCode.COMPRESSION_ERROR, str(error)) from error
        except HeaderListTooLarge:
            return None

    def admits(self, stream_id: int) -> bool:
        """Whether a new stream of that number may be opened now; counts it if so."""
        if (
            stream_id & 1
            and stream_id > self.last_stream
            and len(self.streams) + len(self.lingering) < self.max_streams
            and self.phase < LAST
            and self.unsent <= self.settings.max_unsent_bytes
        ):
            self.last_stream = stream_id
            self.statistics.streams_total += 1
            return True
        return False

    def give_back(self, got: int) -> None:
        """
        Give the connection's window back: what a client may send is bounded stream by stream.

        Raises:
            H2Violation: There was more DATA than the window had.
        """
        window = self.settings.connection_window_bytes
        self.owed += got
        if self.owed > window:
            raise H2Violation(ErrorCode.FLOW_CONTROL_ERROR, "more DATA than the connection's window")
        if self.owed >= window // 2:
            self.write(h2.window_update_frame(0, self.owed))
            self.owed = 0

    # The end.

    def eof_received(self) -> None:
        """
        The client will send no more; what waits is sent, and the connection ends.

        A client that only shuts down its sending side is taken for one that left, as over HTTP/1.
        """
        if self.phase != CLOSED:
            self.flush()

    def connection_lost(self, _error: Exception | None) -> None:
        """The socket is closed, and with it everything on it."""
        self.phase = CLOSED
        self.pieces.clear()
        self.forget_time()
        self.drop_all()
        self.server.forget(self)
