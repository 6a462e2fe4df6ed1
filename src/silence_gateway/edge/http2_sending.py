"""
What leaves an HTTP/2 connection of a client under flow control: answers, and how their streams end.

A small answer is written at once, as the windows allow (`grpc_unary.py` does it by itself where it can).
What does not fit waits in an outbox of its stream; outboxes take turns, one frame each, so that a large
answer holds up no other. Nothing here knows what is sent.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from silence_gateway.core import h2_frames as h2
from silence_gateway.core import hpack
from silence_gateway.core.h2_flood import Noise
from silence_gateway.core.h2_frames import ErrorCode, H2Violation, Setting
from silence_gateway.core.h2_grants import Grants
from silence_gateway.edge.http2_link import GREETING, LAST, OPEN, Http2Link
from silence_gateway.edge.http2_streams import Http2Stream, Outbox

if TYPE_CHECKING:
    from silence_gateway.edge.http2_server import Http2Server

# Content given to the socket in one loop tick: enough to keep a fast client busy until the next one.
TICK_BYTES = 262_144

# A client that pads cannot send the last byte of a message without room for the padding.
PADDING_BYTES = 256

# Streams that we ended before their client did, whose late frames are no fault of the client's.
MAX_REMEMBERED_STREAMS = 1_024


class Http2Sending(Http2Link):
    """A connection that can answer, but does not read."""

    def __init__(self, server: Http2Server) -> None:
        super().__init__(server)
        settings = self.settings
        self.window = h2.DEFAULT_WINDOW
        self.initial_window = h2.DEFAULT_WINDOW
        self.max_frame = h2.DEFAULT_FRAME_SIZE
        self.max_list_bytes = h2.MAX_WINDOW  # the header list that the client takes
        self.stream_window = settings.stream_window_bytes
        self.unsent = 0  # bytes in all outboxes
        self.sent = 0  # bytes of content, altogether
        self.tick_bytes = TICK_BYTES
        self.ready: deque[Http2Stream] = deque()
        self.grants: Grants[Http2Stream] = Grants(settings.max_held_bytes)
        self.ended_early: OrderedDict[int, None] = OrderedDict()
        # Our blocks use no table; a client that allows less than the default has to be told so once.
        self.table_told = False

    # What streams ask for.

    def send_headers(self, stream: Http2Stream, block: bytes) -> None:
        """Send the head of an answer."""
        self.write(self.header_frames(stream.id, block, end_stream=False))

    def send_data(self, stream: Http2Stream, data: bytes) -> None:
        """Send content as soon as the windows allow; `stream.outbox` has what had to wait."""
        outbox = stream.outbox
        if outbox is None:
            if len(data) <= min(self.window, stream.window, self.max_frame) and self.may_send():
                self.count_sent(stream, len(data))
                self.write(h2.frame(h2.DATA, 0, stream.id, data))
                return
            outbox = stream.outbox = Outbox()
        outbox.put(data)
        self.unsent += len(data)
        self.make_ready(stream, outbox)
        self.pump()

    def send_end(self, stream: Http2Stream, block: bytes = b"") -> None:
        """Send the trailers, or without them the end, once all content has left."""
        stream.answered = True
        if stream.outbox is None:
            self.write_end(stream, block)
        else:
            stream.outbox.end = block

    def discard_unsent(self, stream: Http2Stream) -> None:
        """Forget content that waits to be sent: its stream is about to end otherwise than planned."""
        outbox, stream.outbox = stream.outbox, None
        if outbox is not None:
            self.unsent -= outbox.size
            outbox.size = 0
            outbox.wake()

    def reset(self, stream: Http2Stream, code: ErrorCode) -> None:
        """Break a stream off; whoever answers it is told, if it has not answered."""
        if self.streams.get(stream.id) is stream:
            self.write(h2.rst_stream_frame(stream.id, code))
            self.statistics.resets_sent += 1
            if stream.receiving:
                self.remember(stream.id)
            self.drop(stream)
            if not stream.answered:
                stream.on_gone()

    def reset_for_fault(self, stream: Http2Stream, code: ErrorCode) -> None:
        """
        Break a stream off for a fault of the client.

        That throws work away as a reset of the client does, so it costs the same.

        Raises:
            Capped: If that was one too many.
        """
        self.reset(stream, code)
        self.count_noise(Noise.RESETS)

    def give_room(self, stream: Http2Stream, size: int) -> None:
        """Allow the client to send *size* bytes more."""
        if stream.receiving and not stream.answered:
            stream.room += size
            self.write(h2.window_update_frame(stream.id, size))

    def make_room(self, stream: Http2Stream, missing: int) -> None:
        """Let the client send *missing* bytes, above the usual window if need be and when others allow."""
        size = missing + PADDING_BYTES - stream.room
        if (
            size > 0
            and not stream.borrowed
            and not any(each is stream for each, _ in self.grants.waiting)
            and self.grants.ask(stream, size)
        ):
            self.lend(stream, size)

    def take_back_room(self, stream: Http2Stream) -> int:
        """End a loan, and return how large it was."""
        size, stream.borrowed = stream.borrowed, 0
        if size:
            for other, more in self.grants.give_back(size):
                self.lend(other, more)
        return size

    def lend(self, stream: Http2Stream, size: int) -> None:
        """Carry out a loan."""
        stream.borrowed += size
        self.give_room(stream, size)

    # Writing.

    def header_frames(self, stream_id: int, block: bytes, *, end_stream: bool) -> bytes:
        """Return the frames of a header block."""
        if not self.table_told:
            self.table_told = True
            block = hpack.NO_TABLE + block
        return h2.headers_frames(stream_id, block, end_stream=end_stream, max_frame_size=self.max_frame)

    def write_end(self, stream: Http2Stream, block: bytes) -> None:
        """Write the end of a stream."""
        if block:
            self.write(self.header_frames(stream.id, block, end_stream=True))
        else:
            self.write(h2.frame(h2.DATA, h2.END_STREAM, stream.id))
        self.work += 1
        if not stream.receiving:
            self.drop(stream)
        elif stream.received:
            # More of its content would be for nobody (RFC 9113 section 8.1).
            self.write(h2.rst_stream_frame(stream.id, ErrorCode.NO_ERROR))
            self.remember(stream.id)
            self.drop(stream)
        # Else the rest of a short request is most likely on its way; see `Http2Connection.on_late_data`.

    def drop(self, stream: Http2Stream) -> None:
        """Forget a stream, and give back what it held."""
        super().drop(stream)
        self.discard_unsent(stream)
        if stream.borrowed:
            self.take_back_room(stream)
        if self.grants.waiting:
            for other, size in self.grants.leave(stream):
                self.lend(other, size)
        if self.phase == LAST:
            self.check_done()

    def remember(self, stream_id: int) -> None:
        """Expect late frames on a stream that its client has not ended."""
        self.ended_early[stream_id] = None
        if len(self.ended_early) > MAX_REMEMBERED_STREAMS:
            self.ended_early.popitem(last=False)

    # Flow control.

    def may_send(self) -> bool:
        """Whether content may leave in this tick."""
        return not self.paused and self.tick_bytes > 0 and not self.ready

    def count_sent(self, stream: Http2Stream, size: int) -> None:
        """Take *size* bytes of content out of the windows."""
        self.window -= size
        stream.window -= size
        self.tick_bytes -= size
        self.sent += size
        self.work += size >> 10

    def make_ready(self, stream: Http2Stream, outbox: Outbox) -> None:
        """Let a stream take its turn."""
        if not outbox.ready and outbox.size and stream.window > 0:
            outbox.ready = True
            self.ready.append(stream)

    def pump(self) -> None:
        """Send what fits, one frame per stream in turn."""
        ready = self.ready
        while ready and self.window > 0 and self.tick_bytes > 0 and not self.paused:
            stream = ready.popleft()
            outbox = stream.outbox
            if outbox is None or not outbox.ready:  # what it had to send was discarded
                continue
            room = min(self.window, stream.window, self.max_frame)
            if room <= 0:
                outbox.ready = False
                continue
            piece = outbox.take(room)
            size = len(piece)
            self.unsent -= size
            self.count_sent(stream, size)
            self.write(h2.frame_head.pack(size >> 8, size & 0xFF, h2.DATA, 0, stream.id))
            self.pieces.append(piece)
            if outbox.size:
                ready.append(stream)
                continue
            stream.outbox = None
            if outbox.end is not None:
                self.write_end(stream, outbox.end)
            outbox.wake()

    def flush(self) -> None:
        """Give everything to the socket, and make ready what it may have next."""
        super().flush()
        self.tick_bytes = TICK_BYTES
        if self.ready:
            self.pump()

    def resume_writing(self) -> None:
        """The client has caught up."""
        super().resume_writing()
        self.pump()

    def on_window_update(self, stream_id: int, increment: int) -> None:
        """
        Take in an increment.

        Raises:
            H2Violation: The connection's window got an impossible one, or the stream never was.
            Capped: Too many streams had to be broken off for theirs.
        """
        if not stream_id:
            self.window += increment
            if not increment:
                raise H2Violation(ErrorCode.PROTOCOL_ERROR, "WINDOW_UPDATE of the connection by zero")
            if self.window > h2.MAX_WINDOW:
                raise H2Violation(ErrorCode.FLOW_CONTROL_ERROR, "the connection's window is above its limit")
            self.pump()
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            self.check_not_idle(stream_id)
        elif not increment:
            self.reset_for_fault(stream, ErrorCode.PROTOCOL_ERROR)
        elif stream.window + increment > h2.MAX_WINDOW:
            self.reset_for_fault(stream, ErrorCode.FLOW_CONTROL_ERROR)
        else:
            stream.window += increment
            if stream.outbox is not None:
                self.make_ready(stream, stream.outbox)
                self.pump()

    def check_not_idle(self, stream_id: int) -> None:
        """
        Let a late frame pass.

        Raises:
            H2Violation: Nobody ever opened that stream.
        """
        if not stream_id & 1 or (stream_id > self.last_stream and self.phase != LAST):
            raise H2Violation(ErrorCode.PROTOCOL_ERROR, f"a frame on stream {stream_id}, which nobody opened")

    def on_settings(self, content: bytes) -> None:
        """
        Take in SETTINGS; windows of open streams move by the difference and may become negative.

        Raises:
            H2Violation: A value is impossible, or moves a window above its limit.
        """
        # Of a setting that is there more than once the last counts; 2,700 of them cost no more than one.
        for name, value in dict(h2.read_settings(content)).items():
            if name == Setting.INITIAL_WINDOW_SIZE:
                self.on_initial_window(value)
            elif name == Setting.MAX_FRAME_SIZE:
                self.max_frame = min(value, TICK_BYTES)
            elif name == Setting.MAX_HEADER_LIST_SIZE:
                self.max_list_bytes = value
            # HEADER_TABLE_SIZE bounds a table that we do not keep; the rest is not for servers.
        self.write(h2.SETTINGS_ACK)
        if self.phase == GREETING:
            self.phase = OPEN
        self.pump()

    def on_initial_window(self, value: int) -> None:
        """
        Move every stream's window.

        Raises:
            H2Violation: One would be above its limit.
        """
        change = value - self.initial_window
        self.initial_window = value
        for stream in self.streams.values():
            stream.window += change
            if stream.window > h2.MAX_WINDOW:
                raise H2Violation(
                    ErrorCode.FLOW_CONTROL_ERROR, f"INITIAL_WINDOW_SIZE {value} overflows a stream"
                )
            if stream.outbox is not None:
                self.make_ready(stream, stream.outbox)
