"""
What it means to ask an HTTP upstream, whoever carries the request.

A request is bytes already: what may go on was decided by `core/forwarding.py`. Its body is whole, or comes
in pieces from somebody who is held up while the upstream does not take them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from silence_gateway.core.http import IncomingBody
from silence_gateway.core.http_answer_head import AnswerHead
from silence_gateway.core.http_head import CHUNKED


class KeptBody:
    """
    A body in pieces that can be begun again as long as little of it has been taken.

    Attributes:
        is_chunked: Whether only its end tells how long it is.
    """

    __slots__ = ("_kept", "_kept_bytes", "_limit", "_pieces", "_source", "is_chunked")

    def __init__(self, source: IncomingBody, limit: int) -> None:
        """Keep the first *limit* bytes of *source*."""
        self.is_chunked = source.size == CHUNKED
        self._source = source
        self._pieces: AsyncIterator[bytes] | None = None
        self._limit = limit
        self._kept: list[bytes] = []
        self._kept_bytes = 0

    @property
    def can_repeat(self) -> bool:
        """Whether everything that was taken is still here."""
        return self._kept_bytes <= self._limit

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._all()

    async def _all(self) -> AsyncIterator[bytes]:
        for piece in tuple(self._kept):
            yield piece
        if self._pieces is None:
            self._pieces = aiter(self._source)
        async for piece in self._pieces:
            self._kept_bytes += len(piece)
            if self.can_repeat:
                self._kept.append(piece)
            else:
                self._kept.clear()
            yield piece


class HttpAsk:
    """
    One request, ready to be sent any number of times. Made for every request, so slots.

    Attributes:
        method: Upper-case.
        start: The request line, with its line end.
        host: What Host says; None for the endpoint's own address.
        lines: Every other header line.
        body: The whole body; empty where it comes in pieces.
        pieces: The body in pieces, or None.
        repeatable: Whether it may run twice.
        upgrade: The Sec-WebSocket-Accept that agrees to the WebSocket it asks for; empty if it asks for none.
    """

    __slots__ = ("body", "host", "lines", "method", "pieces", "repeatable", "start", "upgrade")

    def __init__(
        self,
        method: str,
        start: bytes,
        host: bytes | None,
        lines: bytes,
        body: bytes = b"",
        pieces: KeptBody | None = None,
        *,
        repeatable: bool = False,
        upgrade: bytes = b"",
    ) -> None:
        self.method = method
        self.start = start
        self.host = host
        self.lines = lines
        self.body = body
        self.pieces = pieces
        self.repeatable = repeatable
        self.upgrade = upgrade

    @property
    def can_repeat(self) -> bool:
        """Whether it may be sent once more after it may have been seen: it is idempotent, and all there."""
        return self.repeatable and (self.pieces is None or self.pieces.can_repeat)

    def message(self, authority: bytes) -> bytes:
        """Return its head, and its body if that is whole, for an endpoint whose address is *authority*."""
        host = authority if self.host is None else self.host
        return b"%bhost: %b\r\n%b\r\n%b" % (self.start, host, self.lines, self.body)


def head_only(method: str, head: AnswerHead) -> bool:
    """Whether no body follows *head* when *method* was asked for."""
    return method == "HEAD" or head.body_size == 0
