"""
One request on an HTTP/2 connection: what the connection keeps of it, and what it tells whoever answers it.

A protocol above HTTP/2 (gRPC: `grpc_calls.py`) subclasses `Http2Head`, which says what a request is, and
`Http2Stream`, which answers it. Neither knows frames; the connection knows nothing of them but this.
"""

from __future__ import annotations

from asyncio import Future, get_running_loop
from collections import deque
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from silence_gateway.core.h2_requests import RequestHead
from silence_gateway.core.hpack import HeaderPairs
from silence_gateway.core.progress import UNSET, Progress

if TYPE_CHECKING:
    from silence_gateway.edge.http2 import Http2Connection

Open: TypeAlias = "Callable[[Http2Connection, int, Any], Http2Stream]"


class Http2Head(RequestHead):
    """
    The head of a request, and who answers it. Shared by all requests with the same bytes.

    Attributes:
        open: Makes the stream for one request with this head: connection, stream number, this head.
    """

    __slots__ = ("open",)

    open: Open


class Application(Protocol):
    """
    What speaks over HTTP/2.

    Attributes:
        too_large: The header block that answers a request whose headers are too many to be read.
    """

    too_large: bytes

    def read_head(self, pairs: HeaderPairs) -> Http2Head:
        """Return what a header block means; must not raise. A malformed one is not opened."""


class Outbox:
    """The part of an answer that has not left yet, because the client's windows have no room."""

    __slots__ = ("end", "pieces", "progress", "ready", "sent", "size", "waiters")

    def __init__(self) -> None:
        self.pieces: deque[memoryview] = deque()
        self.size = 0
        self.sent = 0
        self.end: bytes | None = None  # the block that ends the answer; empty ends it with DATA
        self.ready = False  # it waits for its turn, not for its window
        self.progress = Progress()
        self.waiters: list[Future[None]] = []

    def put(self, data: bytes) -> None:
        """Add *data*, which is not copied."""
        self.pieces.append(memoryview(data))
        self.size += len(data)

    def take(self, most: int) -> memoryview:
        """Remove and return up to *most* bytes."""
        piece = self.pieces[0]
        if len(piece) > most:
            self.pieces[0] = piece[most:]
            piece = piece[:most]
        else:
            self.pieces.popleft()
        self.size -= len(piece)
        self.sent += len(piece)
        return piece

    async def below(self, size: int) -> None:
        """Return once no more than *size* bytes wait, or the stream is over."""
        while self.size > size:
            waiter: Future[None] = get_running_loop().create_future()
            self.waiters.append(waiter)
            await waiter

    def wake(self) -> None:
        """Let those who wait look again."""
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)
        self.waiters.clear()


class Http2Stream:
    """
    One request and its answer. Made for every request, so slots and nothing that is not always needed.

    Attributes:
        connection: Where it came from.
        id: Its number there.
        head: What it asks for.
        receiving: Whether the client may send more.
        answered: Whether all of the answer has been given to the connection; some may wait in `outbox`.
        received: Bytes of content so far.
        room: What the client may still send.
        borrowed: Bytes of room above the usual window, lent for a large message.
        window: What we may still send.
        outbox: What waits to be sent; None if nothing does.
        deadline_s: When to give up, in monotonic seconds; infinite if never.
        since_s: When the sweep began to wait for its content.
    """

    __slots__ = (
        "answered",
        "borrowed",
        "connection",
        "deadline_s",
        "head",
        "id",
        "outbox",
        "received",
        "receiving",
        "room",
        "since_s",
        "window",
    )

    def __init__(self, connection: Http2Connection, stream_id: int, head: Http2Head) -> None:
        self.connection = connection
        self.id = stream_id
        self.head = head
        self.receiving = True
        self.answered = False
        self.received = self.borrowed = 0
        self.room = connection.stream_window
        self.window = connection.initial_window
        self.outbox: Outbox | None = None
        self.deadline_s = inf
        self.since_s = UNSET

    # What the connection tells, for subclasses to act on. Nothing of this may raise, and nothing is told
    # after `on_gone`.

    def on_begin(self) -> None:
        """The stream is open; its content, if any, comes next."""

    def on_data(self, content: bytes) -> None:
        """Take a piece of content, the last if not `receiving`. Not called once the stream is answered."""

    def on_end(self) -> None:
        """There is no more content than has come. Not called once the stream is answered."""

    def on_gone(self) -> None:
        """The client took it back, or it was broken off: nothing can be sent any more."""

    def on_deadline(self) -> None:
        """Its time is up."""

    def was_waited_for(self, _now_s: float) -> bool:
        """Whether a client that takes it back now has a good reason: the time it had announced is over."""
        return False

    def waits_for_content(self) -> bool:
        """Whether the client owes us content now, so that it can be too slow."""
        return self.receiving and not self.answered

    def on_slow(self) -> None:
        """Answer a client that did not send its content in time."""
