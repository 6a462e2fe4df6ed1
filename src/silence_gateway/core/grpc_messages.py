"""
Length-prefixed messages inside the DATA of a call: putting them together, (un)packing, the size cap.

Pure, and the same for both directions: what a fault means to a caller or an upstream is for whoever reads.
A message that comes whole in one frame, as most do, never gets here.
"""

from __future__ import annotations

import sys
import zlib
from enum import Enum
from typing import TypeAlias

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PREFIX_BYTES = 5

# Pieces below the first are collected up to the second: as objects of their own they would take forty
# times their size, and a peer may send single bytes.
SMALL_BYTES = 1_024
CHUNK_BYTES = 16_384

# A message below this is copied behind its prefix rather than sent beside it.
APART_BYTES = 16_384

_GZIP_WBITS = zlib.MAX_WBITS | 16

RawMessage: TypeAlias = "tuple[bool, bytes]"
"""Whether it is compressed, and its bytes as they came."""


class Fault(Enum):
    """What can be wrong with a message."""

    TOO_LARGE = "too large, packed or unpacked"
    BROKEN = "not framed or not packed as it says"
    UNNAMED = "compressed without saying how"
    UNKNOWN = "compressed in a way we do not know"


class MessageFault(ValueError):
    """
    A message cannot be read.

    Attributes:
        fault: What kind of fault it is.
        text: What is wrong, as the end of a sentence that begins with who sent it.
    """

    def __init__(self, fault: Fault, text: str) -> None:
        super().__init__(text)
        self.fault = fault
        self.text = text


class MessageInbox:
    """
    What has come of a stream of messages, cut into them one at a time.

    A message is cut off when it is taken and not before, and small pieces are put together, so that what
    waits takes about as much memory as it took of the window, however it was sent.

    Attributes:
        pending: Bytes that have come and were not taken.
    """

    __slots__ = ("_at", "_chunks", "_encoding", "_max_bytes", "_needed", "pending")

    def __init__(self, encoding: bytes, max_bytes: int) -> None:
        self._encoding = encoding
        self._max_bytes = max_bytes
        self._chunks: list[bytes | bytearray] = []
        self._at = 0  # where in the first chunk the next message begins
        self._needed = PREFIX_BYTES
        self.pending = 0

    @property
    def missing(self) -> int:
        """How many bytes the message that has begun still needs, as far as `take` has seen."""
        return max(0, self._needed - self.pending) if self.pending else 0

    def put(self, data: bytes) -> None:
        """Take in what has come."""
        self.pending += len(data)
        chunks = self._chunks
        if len(data) < SMALL_BYTES and chunks:
            last = chunks[-1]
            if type(last) is bytearray and len(last) < CHUNK_BYTES:
                last += data
            else:
                chunks.append(bytearray(data))
        else:
            chunks.append(data)

    def take(self) -> RawMessage | None:
        """
        Remove and return the next message, still packed; None if it has not come whole.

        Raises:
            MessageFault: It is too large, or its prefix is broken. Nothing can be taken afterwards.
        """
        while self.pending >= self._needed:
            size = self._needed - PREFIX_BYTES
            if not size:
                prefix = self._look(PREFIX_BYTES)
                size = int.from_bytes(prefix[1:], "big")
                self._check(prefix[0], size)
                if size:
                    self._needed = PREFIX_BYTES + size
                    continue
            packed = self._cut(PREFIX_BYTES)[0] == 1
            message = self._cut(size) if size else b""
            self.pending -= self._needed
            self._needed = PREFIX_BYTES
            return packed, message
        return None

    def _look(self, count: int) -> bytes:
        """Return the first *count* bytes, which are there."""
        seen = bytes(self._chunks[0][self._at : self._at + count])
        index = 1
        while len(seen) < count:
            seen += bytes(self._chunks[index][: count - len(seen)])
            index += 1
        return seen

    def _cut(self, count: int) -> bytes:
        """Remove and return the first *count* bytes, which are there, with a single copy."""
        chunks, stop = self._chunks, self._at + count
        if stop < len(chunks[0]):
            cut = bytes(chunks[0][self._at : stop])
            self._at = stop
            return cut
        views = [memoryview(chunks[0])[self._at :]]
        stop -= len(chunks[0])
        used = 1
        while stop and stop >= len(chunks[used]):
            views.append(memoryview(chunks[used]))
            stop -= len(chunks[used])
            used += 1
        if stop:
            views.append(memoryview(chunks[used])[:stop])
        cut = b"".join(views)
        del chunks[:used]
        self._at = stop
        return cut

    def _check(self, flag: int, size: int) -> None:
        if size > self._max_bytes:
            raise MessageFault(Fault.TOO_LARGE, f"message of {size} bytes is above {self._max_bytes} bytes")
        if flag > 1:
            raise MessageFault(Fault.BROKEN, f"a message whose first byte is {flag}, not 0 or 1")

    def unpack(self, raw: RawMessage) -> bytes:
        """
        Unpack a message; only now, so that what waits in a queue takes no more room than it took on the wire.

        Raises:
            MessageFault: It is too large, compressed in a way we do not know, or broken.
        """
        packed, message = raw
        if not packed:
            return message
        if self._encoding == b"gzip":
            return gunzip(message, self._max_bytes)
        if self._encoding == b"deflate":
            return inflate(message, self._max_bytes)
        if self._encoding == b"zstd":
            return unzstd(message, self._max_bytes)
        if self._encoding in (b"", b"identity"):
            raise MessageFault(Fault.UNNAMED, "a compressed message without naming its grpc-encoding")
        raise MessageFault(Fault.UNKNOWN, repr(self._encoding[:40].decode("ascii", "replace")))


def gunzip(packed: bytes, limit: int) -> bytes:
    """
    Unpack gzip, but never more than *limit* bytes.

    Raises:
        MessageFault: It unpacks to more, is not gzip, is cut off, or something follows it.
    """
    return _unzip("gzip", _GZIP_WBITS, packed, limit)


def inflate(packed: bytes, limit: int) -> bytes:
    """
    Unpack what gRPC calls deflate, which is the format of zlib (RFC 1950), but never more than *limit* bytes.

    Raises:
        MessageFault: It unpacks to more, is not deflate, is cut off, or something follows it.
    """
    return _unzip("deflate", zlib.MAX_WBITS, packed, limit)


def _unzip(name: str, wbits: int, packed: bytes, limit: int) -> bytes:
    unpacker = zlib.decompressobj(wbits=wbits)
    try:
        message = unpacker.decompress(packed, limit + 1)
    except zlib.error as exc:
        raise MessageFault(Fault.BROKEN, f"a message that is not {name}: {exc}") from exc
    if len(message) > limit:
        raise MessageFault(Fault.TOO_LARGE, f"message unpacks to more than {limit} bytes")
    if not unpacker.eof or unpacker.unused_data:
        raise MessageFault(Fault.BROKEN, f"a {name} message that is cut off or has a tail")
    return message


def unzstd(packed: bytes, limit: int) -> bytes:
    """
    Unpack one zstd frame, but never more than *limit* bytes, with a window of at most 8 MiB (RFC 8878).

    Raises:
        MessageFault: It unpacks to more, is not zstd, is cut off, or something follows it.
    """
    unpacker = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: 23})
    try:
        message = unpacker.decompress(packed, limit + 1)
    except zstd.ZstdError as exc:
        raise MessageFault(Fault.BROKEN, f"a message that is not zstd: {exc}") from exc
    if len(message) > limit:
        raise MessageFault(Fault.TOO_LARGE, f"message unpacks to more than {limit} bytes")
    if not unpacker.eof or unpacker.unused_data:
        raise MessageFault(Fault.BROKEN, "a zstd message that is cut off or has a tail")
    return message


def pack(encoding: bytes, message: bytes) -> bytes:
    """
    Pack *message* by gzip, deflate or zstd, quickly rather than well: it is done while everybody else waits.

    Raises:
        ValueError: If *encoding* is none of them.
    """
    if encoding == b"gzip":
        return zlib.compress(message, 1, wbits=_GZIP_WBITS)
    if encoding == b"deflate":
        return zlib.compress(message, 1)
    if encoding == b"zstd":
        return zstd.compress(message, 1)
    raise ValueError(f"nothing is packed by {encoding!r}")


def framed(message: bytes, *, packed: bool = False) -> bytes:
    """Put the length before *message*, and whether it is *packed*."""
    return (b"\x01" if packed else b"\x00") + len(message).to_bytes(4, "big") + message


def in_pieces(message: bytes, *, packed: bool = False) -> tuple[bytes, ...]:
    """Do as `framed`, but do not copy a large message: it is the last of the pieces."""
    if len(message) < APART_BYTES:
        return (framed(message, packed=packed),)
    return (b"\x01" if packed else b"\x00") + len(message).to_bytes(4, "big"), message
