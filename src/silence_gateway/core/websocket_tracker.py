"""
Where the frames of a WebSocket end that is passed on unread (RFC 6455 section 5.2).

Nothing here awaits, reads a clock or writes. A tunnel passes bytes; only to say something itself, such as
goodbye, it must know that it is not in the middle of somebody's frame. About 0.6 us a frame.
"""

from __future__ import annotations

from silence_gateway.core.websocket import CLOSE

LONGEST_HEAD = 14


class FrameTracker:
    """
    The bytes of one direction.

    Attributes:
        closed: Whether a close frame has begun; nothing that follows it means anything.
    """

    __slots__ = ("_head", "_payload_left", "closed")

    def __init__(self) -> None:
        self.closed = False
        self._head = b""
        self._payload_left = 0

    @property
    def at_boundary(self) -> bool:
        """Whether everything so far is whole frames."""
        return not self._payload_left and not self._head

    def advance(self, data: bytes, *, stop: bool = False) -> int:
        """Follow *data*, or with *stop* only what completes a frame that has begun; return how many bytes."""
        at, end = 0, len(data)
        if stop and self.at_boundary:
            return 0
        while at < end:
            if self._payload_left:
                step = min(self._payload_left, end - at)
                self._payload_left -= step
                at += step
            else:
                at += self._take_head(data, at)
            if stop and self.at_boundary:
                break
        return at

    def _take_head(self, data: bytes, at: int) -> int:
        """Read as much of a frame's head as is at *at*; return how many bytes that was."""
        before = len(self._head)
        head = self._head + data[at : at + LONGEST_HEAD - before]
        size = 2
        if len(head) >= 2:
            length = head[1] & 0x7F
            size += (0 if length < 126 else 2 if length == 126 else 8) + (4 if head[1] & 0x80 else 0)
        if len(head) < size:
            self._head = head
            return len(head) - before
        length = head[1] & 0x7F
        if length == 126:
            length = int.from_bytes(head[2:4], "big")
        elif length == 127:
            length = int.from_bytes(head[2:10], "big")
        self._head = b""
        self._payload_left = length
        if head[0] & 0x0F == CLOSE:
            self.closed = True
        return size - before
