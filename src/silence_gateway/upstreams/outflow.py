"""
What leaves a connection under HTTP/2 flow control: requests that do not fit into the windows at once.

Small unary requests never get here; they only take from `window`. Nothing here knows what is sent, and
nothing copies it: a large message is cut into views of it.
"""

from __future__ import annotations

from asyncio import Future, get_running_loop
from collections import deque
from collections.abc import Callable
from sys import maxsize
from typing import TypeAlias

from silence_gateway.core.h2_frames import (
    DATA,
    DEFAULT_FRAME_SIZE,
    DEFAULT_WINDOW,
    END_STREAM,
    MAX_WINDOW,
    ErrorCode,
    H2Violation,
    frame,
    frame_head,
)

MAX_FRAME = 131_072
"""Frames are never larger, whatever the peer allows, so that a large request holds up no other for long."""

MAX_BURST = 262_144
"""So much is given to the socket at once; the rest stays where it is until the socket has taken that."""

Piece: TypeAlias = "bytes | memoryview"


class Outbox:
    """The part of one request that has not left yet."""

    __slots__ = ("end", "pieces", "size", "stream_id", "waiter", "window")

    def __init__(self, stream_id: int, window: int) -> None:
        self.stream_id = stream_id
        self.window = window
        self.pieces: deque[Piece] = deque()
        self.size = 0
        self.end = False
        self.waiter: Future[None] | None = None

    async def emptied(self) -> None:
        """Return once everything has left, or the call is over. One waiter at a time."""
        if self.size:
            self.waiter = get_running_loop().create_future()
            await self.waiter

    def wake(self) -> None:
        """Let the waiter go on."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)
        self.waiter = None

    def take(self, most: int) -> list[Piece]:
        """Remove and return up to *most* bytes, as pieces; none of them is copied."""
        taken: list[Piece] = []
        left = min(most, self.size)
        self.size -= left
        while left:
            piece = self.pieces.popleft()
            if len(piece) > left:
                view = memoryview(piece)
                self.pieces.appendleft(view[left:])
                piece = view[:left]
            left -= len(piece)
            taken.append(piece)
        return taken


class Outflow:
    """
    Windows of the peer, and the requests that wait for them.

    Args:
        write: Takes whole frames in pieces, to be sent in order.

    Attributes:
        window: What the connection may still send.
        limit: The largest request that may be sent at once on a new stream: one frame within its window.
        burst: What may still be written before the socket has been given what was.
        paused: The socket is full; nothing leaves until it is not.
        outboxes: Open requests by stream: unsent bytes, or not ended yet.
    """

    __slots__ = (
        "_write", "burst", "initial_window", "limit", "max_frame_size", "outboxes", "paused", "window",
    )  # fmt: skip

    def __init__(self, write: Callable[..., None]) -> None:
        self._write = write
        self.window = DEFAULT_WINDOW
        self.initial_window = DEFAULT_WINDOW
        self.max_frame_size = DEFAULT_FRAME_SIZE
        self.limit = DEFAULT_FRAME_SIZE
        self.burst = MAX_BURST
        self.paused = False
        self.outboxes: dict[int, Outbox] = {}

    def open(self, stream_id: int) -> Outbox:
        """Begin a request that will be sent in parts."""
        outbox = self.outboxes[stream_id] = Outbox(stream_id, self.initial_window)
        return outbox

    def put(self, outbox: Outbox, *pieces: bytes, end: bool = False) -> None:
        """Send *pieces* as soon as the windows allow."""
        for piece in pieces:
            if piece:
                outbox.pieces.append(piece)
                outbox.size += len(piece)
        outbox.end = outbox.end or end
        self._send(outbox, most_frames=maxsize if len(self.outboxes) == 1 else 1)
        if outbox.size and len(self.outboxes) > 1:
            self.pump()

    def written(self) -> None:
        """Take note that the socket was given all that was written."""
        self.burst = MAX_BURST
        if self.outboxes:
            self.pump()

    def drop(self, stream_id: int) -> bool:
        """Forget what has not been sent on a stream; tell whether its request was still open."""
        outbox = self.outboxes.pop(stream_id, None)
        if outbox is None:
            return False
        outbox.size = 0
        outbox.wake()
        return True

    def pump(self) -> None:
        """Send what fits, one frame per request in turn, so that a large one holds up no other."""
        busy = [outbox for outbox in self.outboxes.values() if outbox.size]
        while busy and self.window > 0 and self.burst > 0 and not self.paused:
            busy = [outbox for outbox in busy if self._send(outbox, most_frames=1) and outbox.size]

    def _send(self, outbox: Outbox, most_frames: int) -> bool:
        """Send up to *most_frames* frames; tell whether anything left."""
        sent = 0
        while outbox.size and sent < most_frames and self.burst > 0 and not self.paused:
            room = min(self.window, outbox.window, self.max_frame_size, outbox.size)
            if room <= 0:
                break
            pieces = outbox.take(room)
            self.window -= room
            outbox.window -= room
            self.burst -= room
            last = outbox.end and not outbox.size
            flags = END_STREAM if last else 0
            self._write(frame_head.pack(room >> 8, room & 0xFF, DATA, flags, outbox.stream_id), *pieces)
            sent += 1
            if last:
                del self.outboxes[outbox.stream_id]
        if not outbox.size:
            if outbox.end and outbox.stream_id in self.outboxes:
                del self.outboxes[outbox.stream_id]
                self._write(frame(DATA, END_STREAM, outbox.stream_id))
            outbox.wake()
        return sent > 0

    def on_window_update(self, stream_id: int, increment: int) -> bool:
        """
        Take in an increment; tell whether it was sound, if it was for a stream.

        Raises:
            H2Violation: The connection's window got an impossible increment.
        """
        if not stream_id:
            self.window += increment
            if not increment or self.window > MAX_WINDOW:
                raise H2Violation(
                    ErrorCode.FLOW_CONTROL_ERROR if increment else ErrorCode.PROTOCOL_ERROR,
                    f"WINDOW_UPDATE of the connection by {increment}",
                )
            if self.outboxes:
                self.pump()
            return True
        outbox = self.outboxes.get(stream_id)
        if outbox is None:
            return increment > 0
        outbox.window += increment
        if not increment or outbox.window > MAX_WINDOW:
            return False
        self.pump()
        return True

    def resize(self, *, initial_window: int | None = None, max_frame_size: int | None = None) -> None:
        """
        Take in SETTINGS; windows of open streams move by the difference and may become negative.

        Raises:
            H2Violation: A window would become too large.
        """
        if initial_window is not None:
            change = initial_window - self.initial_window
            self.initial_window = initial_window
            for outbox in self.outboxes.values():
                outbox.window += change
                if outbox.window > MAX_WINDOW:
                    raise H2Violation(
                        ErrorCode.FLOW_CONTROL_ERROR,
                        f"INITIAL_WINDOW_SIZE {initial_window} overflows a stream",
                    )
        if max_frame_size is not None:
            self.max_frame_size = min(max_frame_size, MAX_FRAME)
        self.limit = min(self.initial_window, self.max_frame_size)
        self.pump()
