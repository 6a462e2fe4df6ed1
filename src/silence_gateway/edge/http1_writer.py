"""
Answers as bytes (RFC 9112): status line, header lines, chunks.

Runs for every answer, so it works on bytes and a cache: about 1 us for an answer with two header lines.
No socket is touched here. A header line that would end early and begin another is refused, whoever
made it: upstreams put what they like into their metadata.
"""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus

from silence_gateway.core.http import HeaderList
from silence_gateway.core.http_status import CLIENT_LEFT

COLON = b": "
UNSAFE = b"\r\n\0"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
CLOSE_LINE = b"connection: close\r\n"
KEEP_ALIVE_LINE = b"connection: keep-alive\r\n"
CHUNKED_LINE = b"transfer-encoding: chunked\r\n"
BODILESS = frozenset((204, 304))

PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus} | {
    CLIENT_LEFT: b"Client Closed Request"
}


class UnsafeHeader(ValueError):
    """A header line of an answer contains a line end or NUL; sending it would let its maker write answers."""


class Prefixes:
    """
    The lines that every answer of this second begins with.

    Attributes:
        of_status: Status to its line, Server and Date; whoever finds none asks `make`.
    """

    __slots__ = ("date", "of_status")

    def __init__(self) -> None:
        self.of_status: dict[int, bytes] = {}
        self.date = b""

    def tick(self, now_s: float) -> None:
        """Note the time; call about once a second."""
        date = formatdate(now_s, usegmt=True).encode()
        if date != self.date:
            self.date = date
            self.of_status.clear()

    def make(self, status: int) -> bytes:
        """Return the first lines of an answer with *status*, and remember them for this second."""
        phrase = PHRASES.get(status, b"Status")
        lines = b"HTTP/1.1 %d %b\r\nserver: silence\r\ndate: %b\r\n" % (status, phrase, self.date)
        self.of_status[status] = lines
        return lines


def header_lines(headers: HeaderList) -> bytes:
    """
    Return *headers* as lines.

    Raises:
        UnsafeHeader: If one of them contains a line end or NUL.
    """
    lines = b"\r\n".join([*map(COLON.join, headers), b""])
    # Without all line ends and NULs there are two bytes less per header, if they are only ours.
    if len(lines.translate(None, UNSAFE)) != len(lines) - 2 * len(headers):
        raise UnsafeHeader("a header of an answer contains a line end or NUL")
    return lines


def chunk(piece: bytes) -> bytes:
    """Return *piece*, which is not empty, as one chunk."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def last_chunk(trailers: HeaderList) -> bytes:
    """
    Return the end of a chunked body, with *trailers*.

    Raises:
        UnsafeHeader: If one of them contains a line end or NUL.
    """
    return b"0\r\n%b\r\n" % header_lines(trailers) if trailers else LAST_CHUNK
