"""
Bodies that come in chunks (RFC 9112 section 7.1), strictly.

Nothing here awaits or reads a clock. The reader takes exactly its message out of the buffer and leaves
what follows, so that the next request is read from its own first byte. llhttp could decode chunks too,
but does not say where they end; the tests hold both against each other.

Chunk extensions are checked for what does not belong there, counted, and dropped. Trailers are checked
likewise and kept apart: no trailer becomes a header.
"""

from __future__ import annotations

import re

from silence_gateway.core.http_head import Rejected

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
QUOTED = rb'"(?:[\t !#-\[\]-~]|\\[\t -~])*"'
# Without the blanks around ";" and "=" that the RFC lets old senders write: llhttp refuses them too.
EXTENSION = rb";%b(?:=(?:%b|%b))?" % (TOKEN, TOKEN, QUOTED)
SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:%b)*" % EXTENSION)
TRAILER_LINE = re.compile(rb"%b:[\t -~\x80-\xff]*" % TOKEN)
FRAMING_FIELDS = (b"content-length:", b"transfer-encoding:", b"host:")

MAX_LINE_BYTES = 4096

FREE_OVERHEAD_BYTES = 65536
"""
Bytes of framing that any body may have. Past this, framing may be twice the body: chunks of four bytes
and more pass, a flood of one-byte chunks ends here, after 0.1 s of our time at most.
"""

MAX_TRAILERS = 100
"""As many as a head may have lines."""

SIZE = 0
DATA = 1
DATA_END = 2
TRAILER = 3


class ChunkReader:
    """
    One chunked body. Whoever does not wait for all of it takes what is there with `take_body`.

    Attributes:
        body: What has come so far and was not taken.
        received: Bytes of the body that have come.
        trailers: The lines after the last chunk.
    """

    __slots__ = (
        "body",
        "free_overhead",
        "max_bytes",
        "overhead",
        "received",
        "remaining",
        "state",
        "trailers",
    )

    def __init__(self, max_body_bytes: int, free_overhead_bytes: int = FREE_OVERHEAD_BYTES) -> None:
        self.max_bytes = max_body_bytes
        self.free_overhead = free_overhead_bytes
        self.body = bytearray()
        self.received = 0
        self.trailers: list[bytes] = []
        self.overhead = 0
        self.remaining = 0
        self.state = SIZE

    def take_body(self) -> bytes:
        """Return what has come since the last time, and forget it."""
        body, self.body = bytes(self.body), bytearray()
        return body

    def take_from(self, buffer: bytearray) -> bool:
        """
        Take what belongs to this body off the front of *buffer*; return whether the body is complete.

        Raises:
            Rejected: If it is not chunked as it should be, or too large.
        """
        at = 0
        done = False
        while not done:
            if self.state == DATA:
                piece = buffer[at : at + self.remaining]
                self.body += piece
                self.received += len(piece)
                at += len(piece)
                self.remaining -= len(piece)
                if self.remaining:
                    break
                self.state = DATA_END
            end = self.line_end(buffer, at)
            if end < 0:
                break
            self.overhead += end + 2 - at
            if self.overhead > self.free_overhead + 2 * self.received:
                raise Rejected(400, "chunks", "the chunks are too small for what they carry")
            done = self.take_line(bytes(buffer[at:end]))
            at = end + 2
        del buffer[:at]
        return done

    def line_end(self, buffer: bytearray, at: int) -> int:
        """
        Return where the line at *at* ends, or -1 if it has not come whole.

        Raises:
            Rejected: If it can no longer become a line.
        """
        limit = 2 if self.state == DATA_END else MAX_LINE_BYTES
        end = buffer.find(b"\r\n", at, at + limit)
        if end < 0 and (len(buffer) - at >= limit or buffer.find(b"\n", at) >= 0):
            raise Rejected(400, "chunks", "a chunk does not end where it said, or a line of it is too long")
        return end

    def take_line(self, line: bytes) -> bool:
        """
        Act on a line between chunks; return whether it was the last of the body.

        Raises:
            Rejected: If the line may not be here.
        """
        if self.state == DATA_END:
            self.state = SIZE
        elif self.state == SIZE:
            match = SIZE_LINE.fullmatch(line)
            if match is None:
                raise Rejected(400, "chunks", "a chunk size is not a plain hexadecimal number")
            size = int(match[1], 16)
            if size > self.max_bytes - self.received:
                raise Rejected(413, "body-too-large", f"a body may have {self.max_bytes} bytes")
            self.remaining = size
            self.state = DATA if size else TRAILER
        elif not line:
            return True
        elif TRAILER_LINE.fullmatch(line) is None or line.lower().startswith(FRAMING_FIELDS):
            raise Rejected(400, "chunks", "a line after the last chunk is not a trailer field")
        elif len(self.trailers) >= MAX_TRAILERS:
            raise Rejected(400, "chunks", f"a body may have {MAX_TRAILERS} trailer lines")
        else:
            self.trailers.append(line)
        return False
