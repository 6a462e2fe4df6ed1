"""
HTTP/2 frames (RFC 9113 sections 4 and 6): reading them from bytes, and writing them.

Pure and the same for both ends of a connection: it checks what a frame alone can get wrong (its
length, its stream, its padding, the order of CONTINUATION) and knows nothing of streams' states.
Reading costs about 0.6 us a frame; DATA and HEADERS of the plain kind are looked at first.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from struct import Struct
from typing import TypeAlias

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    range(10)
)

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
WITH_PRIORITY = 0x20

DEFAULT_FRAME_SIZE = 16_384
MAX_FRAME_SIZE = 16_777_215
DEFAULT_WINDOW = 65_535
MAX_WINDOW = 2_147_483_647
MAX_STREAM_ID = 2_147_483_647

# A block this size holds every header list we accept; a longer one, or more pieces, is an attack on memory.
MAX_BLOCK_BYTES = 131_072
MAX_CONTINUATIONS = 64

Frame: TypeAlias = "tuple[int, int, int, bytes, int]"
"""Type, flags, stream, content without padding and priority, and length on the wire (for flow control)."""


class ErrorCode(IntEnum):
    """Why a stream or a connection ends (RFC 9113 section 7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class Setting(IntEnum):
    """What SETTINGS can say (RFC 9113 section 6.5.2)."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class H2Violation(ValueError):
    """The peer broke a rule that costs it the connection."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def error_name(code: int) -> str:
    """Return the name of an HTTP/2 error code, or the number if it has none."""
    try:
        return ErrorCode(code).name
    except ValueError:
        return f"error {code}"


frame_head = Struct(">HBBBI")  # length (high 16 bits, low 8 bits), type, flags, stream
_setting = Struct(">HI")
_two_words = Struct(">II")
_word = Struct(">I")

_HEAD_BYTES = frame_head.size
_FIXED_LENGTHS = {PRIORITY: 5, RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}
_ON_STREAM = frozenset((DATA, HEADERS, PRIORITY, RST_STREAM, CONTINUATION))
_ON_CONNECTION = frozenset((SETTINGS, PING, GOAWAY))


class FrameReader:
    """
    Cuts what the peer sends into frames; a HEADERS frame is given with all of its block.

    Memory is bounded by one frame plus one header block.

    Args:
        max_frame_size: The largest frame that we told the peer it may send. Its first one is no larger than
            the usual 16 KiB: nothing but SETTINGS may come first, and another protocol is found out at once.

    Attributes:
        violation: Set once the peer breaks a rule; whatever follows is not read any more.
    """

    __slots__ = (
        "_block",
        "_block_flags",
        "_block_length",
        "_block_pieces",
        "_block_stream",
        "_held",
        "_limit",
        "_max_frame_size",
        "_needed",
        "_pieces",
        "violation",
    )

    def __init__(self, max_frame_size: int = DEFAULT_FRAME_SIZE) -> None:
        self._max_frame_size = max_frame_size
        self._limit = min(DEFAULT_FRAME_SIZE, max_frame_size)
        self._pieces: list[bytes] = []
        self._held = 0
        self._needed = 0
        self._block: bytearray | None = None
        self._block_flags = self._block_length = self._block_pieces = self._block_stream = 0
        self.violation: H2Violation | None = None

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that *data* completes; look at `violation` after having used them."""
        frames: list[Frame] = []
        if self.violation is not None:
            return frames
        at = 0
        if self._pieces:
            # Only the frame that had begun is put together; a large read behind it is not copied for that.
            whole, at = self._completed(data)
            if whole is None:
                return frames
            frames = self.feed(whole)
            if self.violation is not None:
                return frames
        end, limit, needed = len(data), self._limit, _HEAD_BYTES
        unpack = frame_head.unpack_from
        while end - at >= 9:
            high, low, kind, flags, stream = unpack(data, at)
            length = high << 8 | low
            if length > limit and (not at or length > self._max_frame_size):
                self._break(ErrorCode.FRAME_SIZE_ERROR, f"a frame of {length} bytes is above {limit}")
                return frames
            stop = at + 9 + length
            if stop > end:
                needed += length
                break
            if (
                self._block is None
                and 0 < stream <= MAX_STREAM_ID
                and (
                    (kind == DATA and not flags & PADDED) or (kind == HEADERS and flags & 0x2C == END_HEADERS)
                )
            ):
                frames.append((kind, flags, stream, data[at + 9 : stop], length))
            else:
                try:
                    frame = self._checked(kind, flags, stream & MAX_STREAM_ID, data[at + 9 : stop])
                except H2Violation as violation:
                    self.violation = violation
                    return frames
                if frame is not None:
                    frames.append(frame)
            at = stop
        if at:
            self._limit = self._max_frame_size
        if at < end:
            self._keep(data[at:], needed)
        return frames

    def begun(self, data: bytes) -> tuple[list[Frame], int]:
        """Return the frame that had begun, if *data* completes it, and how much of *data* that took."""
        if not self._pieces or self.violation is not None:
            return [], 0
        whole, taken = self._completed(data)
        return [] if whole is None else self.feed(whole), taken

    @property
    def begins_anew(self) -> bool:
        """Whether what comes next begins with a frame of which everything is expected (and not the first)."""
        return not (self._pieces or self._limit != self._max_frame_size) and (
            self._block is None and self.violation is None
        )

    @property
    def unfinished(self) -> bool:
        """Whether a frame, or a header block of several frames, has begun and not ended."""
        return bool(self._pieces) or self._block is not None

    def _completed(self, data: bytes) -> tuple[bytes | None, int]:
        """Return the frame that had begun, if *data* completes it, and how much of *data* that took."""
        pieces = self._pieces
        taken = self._needed - self._held
        if self._needed == _HEAD_BYTES and taken <= len(data):
            head = b"".join((*pieces, data[:taken]))
            self._needed += int.from_bytes(head[:3], "big")
            if self._needed > _HEAD_BYTES + self._limit:
                pieces.clear()
                return head, taken
            taken = self._needed - self._held
        if taken > len(data):
            pieces.append(data)
            self._held += len(data)
            return None, len(data)
        pieces.append(data[:taken])
        whole = b"".join(pieces)
        pieces.clear()
        return whole, taken

    def _keep(self, rest: bytes, needed: int) -> None:
        self._pieces.append(rest)
        self._held = len(rest)
        self._needed = needed

    def _break(self, code: ErrorCode, message: str) -> None:
        self.violation = H2Violation(code, message)

    def _checked(self, kind: int, flags: int, stream: int, content: bytes) -> Frame | None:
        """Check one frame; None if there is nothing to tell about it (yet)."""
        length = len(content)
        if self._block is not None and (kind != CONTINUATION or stream != self._block_stream):
            raise H2Violation(ErrorCode.PROTOCOL_ERROR, "a header block is interrupted by another frame")
        if kind in _ON_STREAM and not stream:
            raise H2Violation(ErrorCode.PROTOCOL_ERROR, f"a frame of type {kind} is on stream 0")
        if kind in _ON_CONNECTION and stream:
            raise H2Violation(ErrorCode.PROTOCOL_ERROR, f"a frame of type {kind} is on stream {stream}")
        if _FIXED_LENGTHS.get(kind, length) != length:
            raise H2Violation(ErrorCode.FRAME_SIZE_ERROR, f"a frame of type {kind} has {length} bytes")
        if kind == CONTINUATION:
            return self._continued(flags, content)
        if kind == SETTINGS and (length % 6 or (flags & ACK and length)):
            raise H2Violation(ErrorCode.FRAME_SIZE_ERROR, f"a SETTINGS frame has {length} bytes")
        if kind == GOAWAY and length < 8:
            raise H2Violation(ErrorCode.FRAME_SIZE_ERROR, f"a GOAWAY frame has {length} bytes")
        if kind == PUSH_PROMISE:
            raise H2Violation(ErrorCode.PROTOCOL_ERROR, "PUSH_PROMISE, which nobody allowed")
        if kind in (DATA, HEADERS):
            content = _without_padding(kind, flags, content)
            if kind == HEADERS and not flags & END_HEADERS:
                self._block = bytearray(content)
                self._block_flags, self._block_length, self._block_stream = flags, length, stream
                self._block_pieces = 0
                return None
        return kind, flags, stream, content, length

    def _continued(self, flags: int, content: bytes) -> Frame | None:
        if self._block is None:
            raise H2Violation(ErrorCode.PROTOCOL_ERROR, "CONTINUATION without a header block before it")
        self._block += content
        self._block_length += len(content)
        self._block_pieces += 1
        if len(self._block) > MAX_BLOCK_BYTES or self._block_pieces > MAX_CONTINUATIONS:
            raise H2Violation(
                ErrorCode.ENHANCE_YOUR_CALM,
                f"a header block is above {MAX_BLOCK_BYTES} bytes or {MAX_CONTINUATIONS} pieces",
            )
        if not flags & END_HEADERS:
            return None
        block, self._block = bytes(self._block), None
        return HEADERS, self._block_flags | END_HEADERS, self._block_stream, block, self._block_length


def _without_padding(kind: int, flags: int, content: bytes) -> bytes:
    start = padding = 0
    if flags & PADDED:
        if not content:
            raise H2Violation(ErrorCode.FRAME_SIZE_ERROR, "a padded frame has no padding length")
        start, padding = 1, content[0]
    if kind == HEADERS and flags & WITH_PRIORITY:
        start += 5
    if start + padding > len(content):
        # A priority that is cut off is a length error, padding that is too long a protocol error.
        code = ErrorCode.FRAME_SIZE_ERROR if start > len(content) else ErrorCode.PROTOCOL_ERROR
        raise H2Violation(code, "a frame is shorter than its padding and priority")
    return content[start : len(content) - padding]


def read_settings(content: bytes) -> list[tuple[int, int]]:
    """
    Read the content of a SETTINGS frame, in order; unknown settings are given as they are.

    Raises:
        H2Violation: If a value is outside what RFC 9113 allows.
    """
    settings = list(_setting.iter_unpack(content))
    for name, value in settings:
        if name == Setting.ENABLE_PUSH and value > 1:
            raise H2Violation(ErrorCode.PROTOCOL_ERROR, f"ENABLE_PUSH is {value}")
        if name == Setting.INITIAL_WINDOW_SIZE and value > MAX_WINDOW:
            raise H2Violation(ErrorCode.FLOW_CONTROL_ERROR, f"INITIAL_WINDOW_SIZE is {value}")
        if name == Setting.MAX_FRAME_SIZE and not DEFAULT_FRAME_SIZE <= value <= MAX_FRAME_SIZE:
            raise H2Violation(ErrorCode.PROTOCOL_ERROR, f"MAX_FRAME_SIZE is {value}")
    return settings


def read_goaway(content: bytes) -> tuple[int, int, bytes]:
    """Read the content of a GOAWAY frame: last stream, error code, debug data."""
    last, code = _two_words.unpack_from(content)
    return last & MAX_STREAM_ID, code, content[8:]


def read_word(content: bytes) -> int:
    """Read the content of a RST_STREAM frame."""
    (word,) = _word.unpack(content)
    return int(word)


def read_increment(content: bytes) -> int:
    """Read the content of a WINDOW_UPDATE frame; zero is an error that depends on the stream."""
    return read_word(content) & MAX_WINDOW


def frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
    """Write any frame as told; nothing is checked."""
    length = len(content)
    return frame_head.pack(length >> 8, length & 0xFF, kind, flags, stream) + content


def settings_frame(settings: Iterable[tuple[int, int]]) -> bytes:
    """Write SETTINGS."""
    return frame(SETTINGS, 0, 0, b"".join([_setting.pack(name, value) for name, value in settings]))


SETTINGS_ACK = frame(SETTINGS, ACK, 0)


def headers_frames(stream: int, block: bytes, *, end_stream: bool, max_frame_size: int) -> bytes:
    """Write a header block as HEADERS and as many CONTINUATION frames as it takes."""
    flags = END_STREAM if end_stream else 0
    if len(block) <= max_frame_size:
        return frame(HEADERS, flags | END_HEADERS, stream, block)
    pieces = [block[at : at + max_frame_size] for at in range(0, len(block), max_frame_size)]
    written = [frame(HEADERS, flags, stream, pieces[0])]
    written += [frame(CONTINUATION, 0, stream, piece) for piece in pieces[1:-1]]
    written.append(frame(CONTINUATION, END_HEADERS, stream, pieces[-1]))
    return b"".join(written)


def data_frames(stream: int, content: bytes, *, end_stream: bool, max_frame_size: int) -> bytes:
    """Write *content* as DATA frames; empty content is one empty frame."""
    if len(content) <= max_frame_size:
        return frame(DATA, END_STREAM if end_stream else 0, stream, content)
    written = []
    for at in range(0, len(content), max_frame_size):
        last = at + max_frame_size >= len(content)
        flags = END_STREAM if end_stream and last else 0
        written.append(frame(DATA, flags, stream, content[at : at + max_frame_size]))
    return b"".join(written)


def window_update_frame(stream: int, increment: int) -> bytes:
    """Write WINDOW_UPDATE; stream 0 is the connection's window."""
    return frame(WINDOW_UPDATE, 0, stream, _word.pack(increment))


def ping_frame(content: bytes, *, ack: bool = False) -> bytes:
    """Write PING with eight bytes of *content*."""
    return frame(PING, ACK if ack else 0, 0, content)


def rst_stream_frame(stream: int, code: int) -> bytes:
    """Write RST_STREAM."""
    return frame(RST_STREAM, 0, stream, _word.pack(code))


def goaway_frame(last_stream: int, code: int, debug: bytes = b"") -> bytes:
    """Write GOAWAY."""
    return frame(GOAWAY, 0, 0, _two_words.pack(last_stream, code) + debug)
