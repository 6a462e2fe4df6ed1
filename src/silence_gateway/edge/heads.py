"""
Request heads, checked by llhttp and taken apart by `core/http_head.py`.

llhttp gets one whole head at a time and has no callbacks, so checking costs 0.3 to 0.6 us; a parser is
shared by all connections of a server, because between two heads it remembers nothing. A head that
leaves it waiting (for a body, for another protocol) or that it refuses costs a new one: 0.3 us.

Clients repeat themselves line by line. A line that was part of a head which both checks let pass is
remembered with what it says, and a head of such lines only is put together without reading it again:
1.5 us instead of 3.9 for a POST with four fields. That is sound because both judge every line by itself,
but for what `join_head` judges anew for every head: which fields may come together.
"""

from __future__ import annotations

import httptools

from silence_gateway.core.http_head import (
    MAX_FIELDS,
    Head,
    Rejected,
    join_head,
    read_field,
    read_head,
    read_request_line,
)

MAX_REMEMBERED = 2048
"""Lines of each kind; all are forgotten when there is no more room. At most 2 MiB of what clients sent."""

MAX_REMEMBERED_BYTES = 512
"""The longest line remembered."""


class NoCallbacks:
    """What llhttp calls: nothing."""

    __slots__ = ()


class HeadReader:
    """Reads whole heads; one per server."""

    __slots__ = ("field_of", "fields", "parser", "request_lines")

    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(NoCallbacks())
        self.request_lines: dict[bytes, tuple[str, bytes, str]] = {}
        self.fields: dict[bytes, tuple[bytes, bytes]] = {}
        self.field_of = self.fields.__getitem__

    def read(self, head: bytes) -> Head:
        """
        Return what *head* says; it ends in its first empty line.

        Raises:
            Rejected: If it breaks a rule of HTTP, or one of ours.
        """
        lines = head.split(b"\r\n")
        known = self.request_lines.get(lines[0])
        if known is not None:
            try:
                fields = dict(map(self.field_of, lines[1:-2]))
            except KeyError:
                pass  # one of them is new
            else:
                # Fewer fields than lines: one came twice, which is for `read_head` to judge.
                if len(fields) == len(lines) - 3 <= MAX_FIELDS:
                    return join_head(*known, fields)
        return self.read_all(head, lines)

    def read_all(self, head: bytes, lines: list[bytes]) -> Head:
        """
        Read *head*, which has *lines* that are not known, and remember them.

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
        self.remember(lines)
        return result

    def remember(self, lines: list[bytes]) -> None:
        """Remember the *lines* of a head that is sound."""
        line = lines[0]
        if len(line) <= MAX_REMEMBERED_BYTES and line not in self.request_lines:
            if len(self.request_lines) >= MAX_REMEMBERED:
                self.request_lines.clear()
            self.request_lines[line] = read_request_line(line)
        fields = self.fields
        for line in lines[1:-2]:
            if line in fields or len(line) > MAX_REMEMBERED_BYTES:
                continue
            known = read_field(line)
            if b"_" in known[0]:
                continue  # dropped and counted, each time
            if len(fields) >= MAX_REMEMBERED:
                fields.clear()
            fields[line] = known


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
