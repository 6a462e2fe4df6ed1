"""
WebSocket frames from bytes (RFC 6455), for the side that serves.

Nothing here awaits, reads a clock or writes. The reader keeps no more than one message and one frame
head, whatever it is fed, and raises nothing: what the client did wrong becomes `failure`, and from
then on the reader is deaf. The same bytes give the same events however they are cut.

A whole small frame in one piece, the usual case, costs about 2 us.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from silence_gateway.core.websocket import (
    BAD_PAYLOAD,
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    MAX_CONTROL_BYTES,
    MESSAGE_TOO_BIG,
    NO_CODE,
    PING,
    PONG,
    PROTOCOL_ERROR,
    TEXT,
    apply_mask,
    is_close_code,
)

FrameEvent: TypeAlias = tuple[int, bytes]
"""Opcode and payload: a whole TEXT or BINARY message, or a PING, PONG or CLOSE frame."""

MAX_FRAGMENTS = 1024
"""Frames in one message. A sender that streams in 64-byte pieces fits; one that never ends does not."""


class Failure(NamedTuple):
    """What the client did wrong: the close code it is told, and why."""

    code: int
    reason: str


class FrameReader:
    """
    Bytes of one client in, messages and control frames out.

    Attributes:
        failure: What the client did wrong, once it has; nothing is read after it.
        closed: Whether a close frame came; nothing is read after it either.
    """

    __slots__ = ("closed", "failure", "fragments", "held", "kind", "max_bytes", "message", "wanted")

    def __init__(self, max_message_bytes: int) -> None:
        self.max_bytes = max_message_bytes
        self.failure: Failure | None = None
        self.closed = False
        self.held: bytearray | None = None  # the start of a frame that has not come whole
        self.wanted = 0  # bytes of `held` before it is worth another look
        self.kind = 0  # opcode of the message that is being put together
        self.message: bytearray | None = None
        self.fragments = 0

    def feed(self, data: bytes) -> list[FrameEvent]:
        """Return what *data* completes, in order; check `failure` afterwards."""
        if self.failure is not None or self.closed:
            return []
        source: bytes | bytearray = data
        if self.held is not None:
            self.held += data
            if len(self.held) < self.wanted:
                return []
            source = self.held
        events: list[FrameEvent] = []
        at = 0
        end = len(source)
        while at < end:
            size = self.read_frame(source, at, end, events)
            if size == 0:
                break
            at += size
            if self.closed:
                at = end
        self.keep(source, at, end)
        return events

    def keep(self, source: bytes | bytearray, at: int, end: int) -> None:
        """Hold on to what has not been read of *source*, and to nothing else."""
        if at == end or self.failure is not None:
            self.held = None
        elif source is self.held:
            del self.held[:at]
        else:
            self.held = bytearray(memoryview(source)[at:])

    def read_frame(self, source: bytes | bytearray, at: int, end: int, events: list[FrameEvent]) -> int:
        """Read the frame at *at* and return its size; 0 if it is not whole or not allowed."""
        if end - at < 2:
            self.wanted = 2
            return 0
        first = source[at]
        second = source[at + 1]
        size = second & 0x7F
        if not self.is_allowed(first, second, size):
            return 0
        head = 6
        if size >= 126:
            head = 8 if size == 126 else 14
            if end - at < head:
                self.wanted = head
                return 0
            size = int.from_bytes(source[at + 2 : at + head - 4], "big")
            if size < (126 if head == 8 else 65536):
                return self.fail(PROTOCOL_ERROR, "a length was not written in its shortest form")
        if size > self.max_bytes - (len(self.message) if self.message is not None else 0) and not first & 8:
            return self.fail(MESSAGE_TOO_BIG, f"a message may have {self.max_bytes} bytes")
        if end - at < head + size:
            self.wanted = head + size
            return 0
        body = at + head
        payload = apply_mask(source[body : body + size], bytes(source[body - 4 : body])) if size else b""
        self.take(first, payload, events)
        return 0 if self.failure is not None else head + size

    def is_allowed(self, first: int, second: int, size: int) -> bool:
        """Check the first two bytes of a frame against what came before it."""
        opcode = first & 0x0F
        if first & 0x70:
            self.fail(PROTOCOL_ERROR, "a reserved bit is set and no extension was agreed on")
        elif not second & 0x80:
            self.fail(PROTOCOL_ERROR, "a client must mask its frames")
        elif opcode in {TEXT, BINARY}:
            if self.message is not None:
                self.fail(PROTOCOL_ERROR, "a message began inside another")
        elif opcode == CONTINUATION:
            if self.message is None:
                self.fail(PROTOCOL_ERROR, "a continuation without a message")
        elif opcode not in {CLOSE, PING, PONG}:
            self.fail(PROTOCOL_ERROR, f"opcode {opcode} means nothing")
        elif not first & FIN or size > MAX_CONTROL_BYTES:
            self.fail(PROTOCOL_ERROR, "a control frame is one frame of at most 125 bytes")
        return self.failure is None

    def take(self, first: int, payload: bytes, events: list[FrameEvent]) -> None:
        """Add a whole frame to what is known."""
        opcode = first & 0x0F
        if opcode & 8:
            if opcode == CLOSE:
                self.take_close(payload, events)
            else:
                events.append((opcode, payload))
            return
        if self.message is None:
            if first & FIN:
                self.finish(opcode, payload, events)
                return
            self.kind = opcode
            self.message = bytearray(payload)
            self.fragments = 1
            return
        self.message += payload
        self.fragments += 1
        if first & FIN:
            whole = bytes(self.message)
            self.message = None
            self.finish(self.kind, whole, events)
        elif self.fragments >= MAX_FRAGMENTS:
            self.fail(MESSAGE_TOO_BIG, f"a message may come in {MAX_FRAGMENTS} frames")

    def finish(self, opcode: int, payload: bytes, events: list[FrameEvent]) -> None:
        """Hand out a whole message; text must be UTF-8."""
        if opcode == TEXT and not is_utf8(payload):
            self.fail(BAD_PAYLOAD, "a text message must be UTF-8")
        else:
            events.append((opcode, payload))

    def take_close(self, payload: bytes, events: list[FrameEvent]) -> None:
        """Check a close frame (RFC 6455 section 5.5.1)."""
        if len(payload) == 1 or (payload and not is_close_code(int.from_bytes(payload[:2], "big"))):
            self.fail(PROTOCOL_ERROR, "a close frame with a code that may not be used")
        elif not is_utf8(payload[2:]):
            self.fail(BAD_PAYLOAD, "the reason of a close frame must be UTF-8")
        else:
            self.closed = True
            events.append((CLOSE, payload))

    def fail(self, code: int, reason: str) -> int:
        """Remember what is wrong and let go of everything else."""
        self.failure = Failure(code, reason)
        self.message = None
        return 0


def is_utf8(data: bytes) -> bool:
    """Whether *data* is UTF-8; plain ASCII is recognised without decoding it."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def read_close(payload: bytes) -> tuple[int, str]:
    """Return code and reason of a close frame's *payload* that the reader let through."""
    if not payload:
        return NO_CODE, ""
    return int.from_bytes(payload[:2], "big"), payload[2:].decode()
