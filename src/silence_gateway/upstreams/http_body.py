"""
The body of an answer on its way from an upstream's connection to whoever reads it.

The connection puts pieces in, the reader takes them out, and past a bound the socket is not read: a reader
that takes nothing costs that bound and one read of the socket, however long the answer is. A body that is
cut short raises, so that no part is taken for the whole.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from silence_gateway.core.http import HeaderList
from silence_gateway.core.http_answer_head import AnswerHead
from silence_gateway.errors import UpstreamFault
from silence_gateway.upstreams.statistics import TrafficCounts

HIGH_BYTES = 64 * 1024
LOW_BYTES = 16 * 1024


def unheard(_error: BaseException | None) -> None:
    """Nobody has asked to be told of the end."""


class BodySource(Protocol):
    """The connection that an answer comes from."""

    def flow(self, *, on: bool) -> None:
        """Read the socket, or do not."""

    def abort(self) -> None:
        """End it at once."""


class HttpAnswer:
    """
    The head of an answer, and its body as it comes: iterate once, and `close` what is left unread.

    Attributes:
        head: What the head says.
        trailers: Header lines after the body, once it has ended.
        done: Whether all of it has come.
        error: Why it ended early; None if it did not.
        on_end: Called once, when the last byte has come (None), or will not come (the reason).
        traffic: Where the bytes of a switched socket are counted.
        switched: The socket that speaks another protocol from here on, and what it has said in it already.
    """

    __slots__ = (
        "_buffered",
        "_held_up",
        "_pieces",
        "_source",
        "_turn",
        "done",
        "error",
        "head",
        "on_end",
        "switched",
        "traffic",
        "trailers",
    )

    def __init__(self, head: AnswerHead, source: BodySource, traffic: TrafficCounts | None = None) -> None:
        self.head = head
        self.traffic = traffic or TrafficCounts()
        self.trailers: HeaderList = []
        self.done = False
        self.error: BaseException | None = None
        self.on_end: Callable[[BaseException | None], None] = unheard
        self.switched: tuple[asyncio.Transport, bytes] | None = None
        self._source = source
        self._pieces: deque[bytes] = deque()
        self._buffered = 0
        self._held_up = False
        self._turn: asyncio.Future[None] | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will come, in whatever way it ended."""
        return self.done or self.error is not None

    @property
    def has_piece(self) -> bool:
        """Whether the next piece is here already."""
        return bool(self._pieces)

    def whole(self) -> bytes:
        """Return all of the body, which has come and of which nothing was taken."""
        pieces = self._pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._buffered = 0
        return body

    # What the connection calls.

    def feed(self, piece: bytes) -> None:
        """Add a *piece*, which is not empty."""
        self._pieces.append(piece)
        self._buffered += len(piece)
        if self._buffered > HIGH_BYTES and not self._held_up:
            self._held_up = True
            self._source.flow(on=False)
        self._wake()

    def finish(self) -> None:
        """All of it has come."""
        if not self.ended:
            self.done = True
            self._ended(None)

    def fail(self, error: BaseException) -> None:
        """It breaks off; whoever reads it is told after what has come."""
        if not self.ended:
            self.error = error
            self._ended(error)

    # What the reader calls.

    def __aiter__(self) -> HttpAnswer:
        return self

    async def __anext__(self) -> bytes:
        while not self._pieces:
            if self.error is not None:
                raise self.error
            if self.done:
                raise StopAsyncIteration
            self._turn = asyncio.get_running_loop().create_future()
            await self._turn
        piece = self._pieces.popleft()
        self._buffered -= len(piece)
        if self._held_up and self._buffered <= LOW_BYTES:
            self._held_up = False
            if not self.ended:
                self._source.flow(on=True)
        return piece

    def close(self, error: UpstreamFault | None = None) -> None:
        """Take no more of it; the upstream is told by the end of the connection unless all has come."""
        self._pieces.clear()
        self._buffered = 0
        if self.switched is not None:
            self.switched[0].abort()
        if not self.ended:
            self.fail(error or asyncio.CancelledError())
            self._source.abort()

    def _ended(self, error: BaseException | None) -> None:
        on_end, self.on_end = self.on_end, unheard
        on_end(error)
        self._wake()

    def _wake(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None and not turn.done():
            turn.set_result(None)
