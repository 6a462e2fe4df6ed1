"""
Request heads, checked by llhttp and taken apart by `core/http_head.py`.

llhttp gets one whole head at a time and has no callbacks, so checking costs 0.3 to 0.6 us; a parser is
shared by all connections of a server, because between two heads it remembers nothing. A head that
leaves it waiting (for a body, for another protocol) or that it refuses costs a new one: 0.3 us.
"""

from __future__ import annotations

import httptools

from silence_gateway.core.http_head import Head, Rejected, read_head, read_request_line


class NoCallbacks:
    """What llhttp calls: nothing."""

    __slots__ = ()


class HeadReader:
    """Reads whole heads; one per server."""

    __slots__ = ("parser",)

    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(NoCallbacks())

    def read(self, head: bytes) -> Head:
        """
        Return what *head* says; it ends in its first empty line.

        Raises:
            Rejected: If it breaks a rule of HTTP, or one of ours.
        """
        try:
            self.parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            self.parser = httptools.HttpRequestParser(NoCallbacks())
        except httptools.HttpParserError as error:
            self.parser = httptools.HttpRequestParser(NoCallbacks())
            raise refusal(head, error) from error
        try:
            result = read_head(head)
        except Rejected:
            self.parser = httptools.HttpRequestParser(NoCallbacks())
            raise
        if not result.is_plain:
            self.parser = httptools.HttpRequestParser(NoCallbacks())
        return result


def refusal(head: bytes, error: Exception) -> Rejected:
    """Return the answer to a *head* that llhttp did not take; where the first line is wrong, in our words."""
    line = head[: head.index(b"\r\n")]
    try:
        read_request_line(line)
    except Rejected as ours:
        return ours
    if isinstance(error, httptools.HttpParserInvalidMethodError):
        return Rejected(501, "method", "no such method is known here")
    return Rejected(400, "grammar", f"the request head is malformed: {error}")


def check_beginning(buffer: bytes | bytearray, max_header_bytes: int) -> None:
    """
    Check a head that has not come whole: nobody waits for the end of what can no longer become one.

    Raises:
        Rejected: If it is too long already, or is not HTTP at all.
    """
    if not 0x41 <= buffer[0] <= 0x5A:
        raise Rejected(400, "request-line", "this is not HTTP: a request begins with an upper-case method")
    if b"\0" in buffer or buffer.count(b"\n") != buffer.count(b"\r\n"):
        raise Rejected(400, "grammar", "a NUL, or a line that does not end in CR LF")
    if len(buffer) >= max_header_bytes:
        raise too_long(buffer, max_header_bytes)


def too_long(head: bytes | bytearray, max_header_bytes: int) -> Rejected:
    """Return the answer to a head above the limit: 414 if its first line alone is."""
    end = head.find(b"\r\n", 0, max_header_bytes)
    if end < 0:
        return Rejected(414, "line-too-long", f"a request line may have {max_header_bytes} bytes")
    return Rejected(
        431, "head-too-large", f"a request line and its headers may have {max_header_bytes} bytes"
    )
