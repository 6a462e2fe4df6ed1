"""
What leaves a connection under HTTP/2 flow control: requests that do not fit into the windows at once.

Small unary requests never get here; they only take from `window`. Nothing here knows what is sent.
"""

from __future__ import annotations

from asyncio import Future, get_running_loop
from collections import deque
from typing import Protocol

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


class Write(Protocol):
    """Takes what is to be sent, in order."""

    def __call__(self, frames: bytes, content: bytes | memoryview = b"", /) -> None:
        """Send whole frames, or the head of one and its *content*."""


class Outbox:
    """The part of one request that has not left yet."""

    __slots__ = ("end", "pieces", "size", "stream_id", "waiter", "window")

    def __init__(self, stream_id: int, window: int) -> None:
        self.stream_id = stream_id
        self.window = window
        self.pieces: deque[bytes | memoryview] = deque()
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

    def take(self, most: int) -> bytes | memoryview:
        """Remove and return up to *most* bytes."""
        piece = self.pieces.popleft()
        if len(piece) > most:
            self.pieces.appendleft(piece[most:])
            piece = piece[:most]
        self.size -= len(piece)
        return piece


class Outflow:
    """
    Windows of the peer, and the requests that wait for them.

    Args:
        write: Takes whole frames, or a frame's head and content, to be sent in order.

    Attributes:
        window: What the connection may still send.
        limit: The largest request that may be sent at once on a new stream: one frame within its window.
        paused: The socket is full; nothing leaves until it is not.
        outboxes: Open requests by stream: unsent bytes, or not ended yet.
    """

    __slots__ = ("_write", "initial_window", "limit", "max_frame_size", "outboxes", "paused", "window")

    def __init__(self, write: Write) -> None:
        self._write = write
        self.window = DEFAULT_WINDOW
        self.initial_window = DEFAULT_WINDOW
        self.max_frame_size = DEFAULT_FRAME_SIZE
        self.limit = DEFAULT_FRAME_SIZE
        self.paused = False
        self.outboxes: dict[int, Outbox] = {}

    def open(self, stream_id: int) -> Outbox:
        """Begin a request that will be sent in parts."""
        outbox = self.outboxes[stream_id] = Outbox(stream_id, self.initial_window)
        return outbox

    def put(self, outbox: Outbox, data: bytes, *, end: bool = False) -> None:
        """Send *data* as soon as the windows allow."""
        step = self.max_frame_size
        if len(data) > step:
            # In frame-sized pieces that are not copied; nobody changes a message that was given to a call.
            view = memoryview(data)
            outbox.pieces.extend([view[at : at + step] for at in range(0, len(data), step)])
        elif data:
            outbox.pieces.append(data)
        outbox.size += len(data)
        outbox.end = outbox.end or end
        self._send(outbox, most_frames=len(outbox.pieces) if len(self.outboxes) == 1 else 1)
        if outbox.size and len(self.outboxes) > 1:
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
        while busy and self.window > 0 and not self.paused:
            busy = [outbox for outbox in busy if self._send(outbox, most_frames=1) and outbox.size]

    def _send(self, outbox: Outbox, most_frames: int) -> bool:
        """Send up to *most_frames* frames; tell whether anything left."""
        sent = 0
        while outbox.size and sent < most_frames and not self.paused:
            room = min(self.window, outbox.window, self.max_frame_size)
            if room <= 0:
                break
            piece = outbox.take(room)
            size = len(piece)
            self.window -= size
            outbox.window -= size
            last = outbox.end and not outbox.size
            head = frame_head.pack(size >> 8, size & 0xFF, DATA, END_STREAM if last else 0, outbox.stream_id)
            self._write(head, piece)
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
            self.max_frame_size = max_frame_size
        self.limit = min(self.initial_window, self.max_frame_size)
        self.pump()
