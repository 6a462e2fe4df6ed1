"""
The head of an HTTP/1.1 answer, strictly (RFC 9112): what a client side must know before it reads a body.

Nothing here awaits or reads a clock. As with requests (`http_head.py`), llhttp has checked the grammar
first (`upstreams/http_heads.py`), what is wrong is refused and never repaired, and the rest is decided here:
above all where the body ends, because whoever disagrees with the sender about that hands one caller's
answer to another.
"""

from __future__ import annotations

import re

from silence_gateway.core.http import HeaderList
from silence_gateway.core.http_head import CHUNKED, list_items

UNTIL_CLOSE = -2
"""As a body size: it ends when the connection does."""

MAX_ANSWER_FIELDS = 200
"""Header lines of one answer. Twice what a request may have: some applications set dozens of cookies."""

BODILESS = frozenset((204, 304))

STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: .*)?")
KEEP_ALIVE_TIMEOUT = re.compile(rb"timeout\s*=\s*\"?([0-9]{1,6})")


class MalformedAnswer(ValueError):
    """An upstream's answer breaks a rule of HTTP; the text says which."""


class AnswerHead:
    """
    What a head says. It is remembered by its bytes and shared, so it is never changed.

    Attributes:
        status: 100 to 999.
        fields: Lower-case names and values, in order, repeated ones each for itself.
        body_size: Bytes of the body, `CHUNKED` or `UNTIL_CLOSE`; what HEAD was asked for has none anyway.
        length: The Content-Length, also where no body follows; None if there is none.
        keep_alive: Whether the connection can be used again.
        idle_s: For how long, if the upstream said so; else None.
    """

    __slots__ = ("body_size", "fields", "idle_s", "keep_alive", "length", "status")

    def __init__(
        self,
        status: int,
        fields: HeaderList,
        body_size: int,
        length: int | None,
        *,
        keep_alive: bool,
        idle_s: float | None,
    ) -> None:
        self.status = status
        self.fields = fields
        self.body_size = body_size
        self.length = length
        self.keep_alive = keep_alive
        self.idle_s = idle_s

    @property
    def informational(self) -> bool:
        """Whether the real head is still to come."""
        return 100 <= self.status < 200 and self.status != 101

    def value(self, name: bytes) -> bytes | None:
        """Return the first value of the field *name*."""
        return next((value for known, value in self.fields if known == name), None)


def read_answer_head(head: bytes) -> AnswerHead:
    """
    Take apart *head*, which ends in its first empty line and whose grammar llhttp has checked.

    Raises:
        MalformedAnswer: If the connection cannot be gone on with after this.
    """
    lines = head.split(b"\r\n")
    if len(lines) > MAX_ANSWER_FIELDS + 3:
        raise MalformedAnswer(f"more than {MAX_ANSWER_FIELDS} header lines")
    found = STATUS_LINE.fullmatch(lines[0])
    if found is None:
        raise MalformedAnswer("the status line is not one of HTTP/1.0 or HTTP/1.1")
    is_old, status = found[1] == b"0", int(found[2])
    fields: HeaderList = []
    for line in lines[1:-2]:
        name, _, value = line.partition(b":")
        fields.append((name.lower(), value.strip()))
    length = content_length(fields)
    options = [option for name, value in fields if name == b"connection" for option in list_items(value)]
    keep_alive = b"close" not in options and (not is_old or b"keep-alive" in options)
    size = body_size(status, fields, length, is_old=is_old)
    idle_s: float | None = None
    for name, value in fields:
        if name == b"keep-alive" and (said := KEEP_ALIVE_TIMEOUT.search(value.lower())) is not None:
            idle_s = float(said[1])
    return AnswerHead(
        status, fields, size, length, keep_alive=keep_alive and size != UNTIL_CLOSE, idle_s=idle_s
    )


def content_length(fields: HeaderList) -> int | None:
    """
    Return the length that *fields* say, None if they say nothing.

    Raises:
        MalformedAnswer: If it is no plain number, or said twice.
    """
    said = [value for name, value in fields if name == b"content-length"]
    if not said:
        return None
    if len(said) > 1 or not said[0].isdigit() or len(said[0]) > 18:
        raise MalformedAnswer("Content-Length is not one plain number")
    return int(said[0])


def body_size(status: int, fields: HeaderList, length: int | None, *, is_old: bool) -> int:
    """
    Return where the body ends (RFC 9112 section 6.3).

    Raises:
        MalformedAnswer: If the fields contradict each other, or ask for a coding that we do not have.
    """
    codings = [value for name, value in fields if name == b"transfer-encoding"]
    if codings:
        if length is not None:
            raise MalformedAnswer("Content-Length and Transfer-Encoding exclude each other")
        if is_old:
            raise MalformedAnswer("HTTP/1.0 has no Transfer-Encoding")
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            raise MalformedAnswer("the only Transfer-Encoding is chunked")
    if status in BODILESS or 100 <= status < 200:
        return 0
    if codings:
        return CHUNKED
    return UNTIL_CLOSE if length is None else length
