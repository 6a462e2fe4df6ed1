"""
The socket of one HTTP/2 connection of a client: what leaves it, and how it ends.

One write per loop tick, whoever asked for it. What comes in is read by `http2.py`, answers leave through
`http2_sending.py`; both build on this class, and this file knows neither.
"""

from __future__ import annotations

import asyncio
from enum import IntEnum
from typing import TYPE_CHECKING

from silence_gateway.clock import Timer
from silence_gateway.core import h2_frames as h2
from silence_gateway.core.h2_flood import FloodBudget, Noise
from silence_gateway.core.h2_frames import ErrorCode, H2Violation
from silence_gateway.core.progress import UNSET, Progress
from silence_gateway.edge.http2_statistics import Cap
from silence_gateway.edge.http2_streams import Http2Stream

if TYPE_CHECKING:
    from silence_gateway.edge.http2_server import Http2Server

# Beyond this much that a client leaves unread, it is not read either: what it asks for would only pile up.
MAX_UNREAD = 1_048_576

GOODBYE = b"goodbye?"
"""The content of the PING behind the first GOAWAY; its answer says that the client has read both."""

CAP_OF_NOISE: dict[Noise, Cap] = {noise: Cap[noise.name] for noise in Noise}


class Phase(IntEnum):
    """How far a connection is."""

    GREETING = 0  # the client's preface and SETTINGS are still to come
    OPEN = 1
    LEAVING = 2  # the client was told to open no more streams; what it has sent meanwhile is answered
    LAST = 3  # streams after the last one named are ignored
    LINGERING = 4  # everything is said; the client may read it
    CLOSED = 5


GREETING, OPEN, LEAVING, LAST, LINGERING, CLOSED = Phase


class Capped(H2Violation):
    """The client ran into a bound that costs it the connection."""

    def __init__(self, cap: Cap, message: str, code: ErrorCode = ErrorCode.ENHANCE_YOUR_CALM) -> None:
        super().__init__(code, message)
        self.cap = cap


class Watch:
    """
    What the sweep remembers of a connection (`http2_sweep.py`).

    Attributes:
        lingers_since_s: When it saw that everything is said.
        frame_since_s: When it saw the frame that is unfinished.
        frames: How many frames had been complete then.
        idle_since_s: When it saw that there is no request.
        streams: The last stream there had been then.
        socket: How the client reads its socket.
        content: How the client opens the connection's window.
        retire_s: When the connection's age is up, or afterwards its grace; 0 until it has an age.
    """

    __slots__ = (
        "content",
        "frame_since_s",
        "frames",
        "idle_since_s",
        "lingers_since_s",
        "retire_s",
        "socket",
        "streams",
    )

    def __init__(self) -> None:
        self.lingers_since_s = self.frame_since_s = self.idle_since_s = UNSET
        self.frames = self.streams = -1
        self.socket = Progress()
        self.content = Progress()
        self.retire_s = 0.0


class Http2Link(asyncio.Protocol):
    """A connection that can send and end, but neither read nor answer."""

    transport: asyncio.Transport

    def __init__(self, server: Http2Server) -> None:
        self.server = server
        self.settings = server.settings
        self.statistics = server.statistics
        self.phase = GREETING
        self.peer = ""
        self.streams: dict[int, Http2Stream] = {}
        self.lingering: set[asyncio.Future[object]] = set()  # work of streams that are gone
        self.last_stream = 0
        self.pieces: list[bytes | memoryview] = []
        self.flush_due = False
        self.paused = False  # the socket's buffer is full
        self.stuffed = False  # so full that we do not read either
        self.in_turn = False  # what was read is not looked at yet
        self.work = 0  # units of work done for this client, see core/h2_flood.py
        self.bytes_out = 0
        self.begun_s = server.clock.monotonic_s()
        self.budget = FloodBudget(self.begun_s, self.settings.allowances)
        self.watch = Watch()
        self.goodbye: Timer | None = None

    # Sending.

    def write(self, frames: bytes) -> None:
        """Send *frames* at the end of this loop tick, behind what is to be sent already."""
        self.pieces.append(frames)
        if not self.flush_due:
            self.flush_due = True
            self.server.loop.call_soon(self.flush)

    def flush(self) -> None:
        """Give everything to the socket."""
        self.flush_due = False
        if not self.pieces or self.phase >= LINGERING or self.transport.is_closing():
            # uvloop raises for a client that left meanwhile.
            self.pieces.clear()
            return
        data = b"".join(self.pieces)
        self.pieces.clear()
        self.bytes_out += len(data)
        statistics = self.statistics
        statistics.bytes_out += len(data)
        statistics.flushes += 1
        self.transport.write(data)
        if self.paused and not self.stuffed and self.transport.get_write_buffer_size() > MAX_UNREAD:
            self.stuffed = True
            self.hear()

    def pause_writing(self) -> None:
        """The client does not keep up: no more content leaves until it does."""
        self.paused = True

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.paused = self.stuffed = False
        self.hear()

    def hear(self) -> None:
        """Read the socket, or do not."""
        if self.phase == CLOSED or self.transport.is_closing():
            return
        if self.stuffed or self.in_turn:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    # Judging.

    def count_noise(self, noise: Noise) -> None:
        """
        Count something that brings nobody forward.

        Raises:
            Capped: If that was too much.
        """
        if not self.budget.spend(noise, self.server.clock.monotonic_s(), self.work):
            cap = CAP_OF_NOISE[noise]
            raise Capped(cap, f"{cap.value.replace('_', ' ')}: more than is allowed")

    def count_reset(self, stream: Http2Stream) -> None:
        """
        Count a request that was taken back; one that its client had waited for long enough costs nothing.

        Raises:
            Capped: If that was one too many.
        """
        now_s = self.server.clock.monotonic_s()
        if not stream.was_waited_for(now_s) and not self.budget.spend(Noise.RESETS, now_s, self.work):
            raise Capped(Cap.RESETS, "more requests are taken back than is allowed")

    # The end.

    def leave(self) -> None:
        """
        Begin a graceful end: the client opens no more streams, those that are open are finished.

        The first GOAWAY names no last stream, because streams may be on their way. The second, when the
        client has shown that it read the first, names the last one that we answer.
        """
        if self.phase == GREETING:
            self.say_goodbye(ErrorCode.NO_ERROR, "this server is going away")
        elif self.phase == OPEN:
            self.phase = LEAVING
            self.statistics.goaways += 1
            self.write(h2.goaway_frame(h2.MAX_STREAM_ID, ErrorCode.NO_ERROR) + h2.ping_frame(GOODBYE))
            self.goodbye = self.server.clock.call_later(self.settings.goodbye_s, self.take_no_more)

    def take_no_more(self) -> None:
        """Name the last stream that will be answered, and end when all are."""
        if self.goodbye is not None:
            self.goodbye.cancel()
            self.goodbye = None
        if self.phase == LEAVING:
            self.phase = LAST
            self.write(h2.goaway_frame(self.last_stream, ErrorCode.NO_ERROR))
            self.check_done()

    def check_done(self) -> None:
        """End a connection that is told to go once its last stream is finished."""
        if self.phase == LAST and not self.streams:
            self.linger()

    def break_off(self, violation: H2Violation) -> None:
        """End the connection for a broken rule or a bound, with every stream on it."""
        if self.phase >= LINGERING:
            return
        if isinstance(violation, Capped):
            self.server.count_capped(violation.cap, self.peer, str(violation))
        else:
            self.statistics.violate(violation.code)
        self.say_goodbye(violation.code, str(violation))

    def say_goodbye(self, code: ErrorCode, reason: str) -> None:
        """Tell the client why, and end."""
        debug = reason.encode("ascii", "replace")[:200]
        self.write(h2.goaway_frame(self.last_stream, code, debug))
        self.linger()
        self.drop_all()

    def drop_all(self) -> None:
        """Let go of every stream; those who answer them are told."""
        for stream in list(self.streams.values()):
            self.drop(stream)
            if not stream.answered:
                stream.on_gone()

    def drop(self, stream: Http2Stream) -> None:
        """Forget a stream."""
        self.streams.pop(stream.id, None)

    def linger(self) -> None:
        """
        End without reading further, so that the client can still read the last frames.

        Closing a socket that has unread bytes resets the connection, and those frames are lost with it:
        so what still comes is thrown away for a while (`linger_s`, watched by the sweep).
        """
        if self.phase >= LINGERING:
            return
        self.flush()
        self.phase = LINGERING
        self.stuffed = self.in_turn = False
        self.forget_time()
        self.hear()
        if self.transport.is_closing():
            return
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    def forget_time(self) -> None:
        """Cancel what was to happen later."""
        if self.goodbye is not None:
            self.goodbye.cancel()
            self.goodbye = None
