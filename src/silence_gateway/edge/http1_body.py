"""
Bodies of requests on an HTTP/1.1 connection: read whole, or handed on as they come.

Most handlers want a body whole and get it so (`http1.py` reads it). For the others, which
`HttpServer.body_rule` tells apart, the handler begins with the head: the socket is read only as fast as
pieces are taken, and a client that waits for leave to send its body (100-continue) gets it when the first
piece is asked for, so never for a body that nobody wants.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, cast

from silence_gateway.core.http_chunks import ChunkReader
from silence_gateway.core.http_head import CHUNKED, Head, Rejected
from silence_gateway.edge.http1_writer import CONTINUE

if TYPE_CHECKING:
    from silence_gateway.edge.http1 import Http1Connection

HIGH_BYTES = 64 * 1024
LOW_BYTES = 16 * 1024
UNSET = -1.0


class BodyInPieces:
    """The body of the request that *connection* handles; see `core.http.IncomingBody`."""

    __slots__ = (
        "_buffered",
        "_chunks",
        "_connection",
        "_error",
        "_leave_owed",
        "_pieces",
        "_since_s",
        "_turn",
        "done",
        "received",
        "size",
    )

    def __init__(self, connection: Http1Connection, size: int, max_bytes: int, *, leave_owed: bool) -> None:
        self.size = size
        self.received = 0
        self.done = False
        self._connection = connection
        self._chunks = ChunkReader(max_bytes) if size == CHUNKED else None
        self._pieces: deque[bytes] = deque()
        self._buffered = 0
        self._leave_owed = leave_owed
        self._error: Rejected | None = None
        self._turn: asyncio.Future[None] | None = None
        self._since_s = UNSET

    def __aiter__(self) -> BodyInPieces:
        return self

    async def __anext__(self) -> bytes:
        connection = self._connection
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self.done:
                raise StopAsyncIteration
            if self._leave_owed:
                self._leave_owed = False
                connection.write(CONTINUE)
            self._turn = asyncio.get_running_loop().create_future()
            self._since_s = UNSET
            await self._turn
        piece = self._pieces.popleft()
        self._buffered -= len(piece)
        if self._buffered <= LOW_BYTES and not self.done:
            connection.read_on()
        return piece

    def take(self) -> None:
        """Take what belongs to this body off the connection's buffer."""
        connection = self._connection
        self._leave_owed = False
        if self._error is not None:
            connection.buffer = b""
            return
        try:
            piece = self._next_piece(connection)
        except Rejected as error:
            self.fail(error)
            return
        if piece:
            self.received += len(piece)
            self._pieces.append(piece)
            self._buffered += len(piece)
        if self._buffered > HIGH_BYTES and not self.done and not connection.read_paused:
            connection.read_paused = True
            connection.transport.pause_reading()
        if piece or self.done:
            self._wake()

    def fail(self, error: Rejected) -> None:
        """The client broke the rules; whoever takes the body is told."""
        if self._error is None and not self.done:
            self._error = error
            self._connection.server.statistics.reject(error.reason)
            self._wake()

    def lose(self) -> None:
        """The client has left."""
        self._pieces.clear()
        self._buffered = 0
        if not self.done and self._error is None:
            self._error = Rejected(400, "truncated", "the request ended before it was complete")
            self._wake()

    def sweep(self, now_s: float) -> None:
        """Give up on a client that sends nothing of what is waited for; called by the server's sweep."""
        if self._turn is None or self._turn.done():
            return
        if self._since_s == UNSET:
            self._since_s = now_s
        elif now_s - self._since_s >= self._connection.server.settings.body_timeout_s:
            self._connection.server.statistics.timeouts += 1
            self.fail(Rejected(408, "timeout", "the request did not arrive in time"))

    def _next_piece(self, connection: Http1Connection) -> bytes:
        chunks = self._chunks
        if chunks is not None:
            if type(connection.buffer) is bytes:
                connection.buffer = bytearray(connection.buffer)
            self.done = chunks.take_from(cast("bytearray", connection.buffer))
            return chunks.take_body()
        wanted = self.size - self.received
        buffer = connection.buffer
        if len(buffer) <= wanted:
            piece = bytes(buffer)
            connection.buffer = b""
        else:
            piece = bytes(buffer[:wanted])
            connection.buffer = buffer[wanted:]
        self.done = len(piece) == wanted
        return piece

    def _wake(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None and not turn.done():
            turn.set_result(None)


def begin_body(connection: Http1Connection, head: Head) -> bool:
    """
    Make ready for the body of *head*; return whether its request is handled while it comes.

    Raises:
        Rejected: If it is declared too large.
    """
    server = connection.server
    size = head.body_size
    max_bytes = server.settings.max_body_bytes
    rule = server.body_rule(head.request) if server.body_rule is not None else None
    if rule is not None:
        max_bytes = rule.max_bytes
    connection.head = head
    if size > max_bytes:
        raise Rejected(413, "body-too-large", f"a body may have {max_bytes} bytes")
    if rule is not None and (size == CHUNKED or size > rule.whole_bytes):
        incoming = BodyInPieces(connection, size, max_bytes, leave_owed=head.expects_continue)
        connection.head = None
        connection.incoming = head.request.incoming = incoming
        if connection.buffer:
            incoming.take()
        return True
    if size == CHUNKED:
        connection.chunks = ChunkReader(max_bytes)
    if head.expects_continue and not connection.buffer:
        connection.write(CONTINUE)
    return False
