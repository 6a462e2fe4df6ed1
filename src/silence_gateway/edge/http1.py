"""
One HTTP/1.1 connection: requests in, one at a time, answers out, in order.

Runs for every request, so: no timer and no queue per request, one task while a handler runs, one write
per plain answer. A later request stays as bytes until the earlier one has been answered; past a bound
the socket is not read. Time is watched by `http1_timeouts.py`: a phase begins with `since_s` unset, and the
next sweep stamps it, so that no request reads a clock for its timeouts.

What a head or a body may be is decided in `core/`; nothing here repairs what was refused there.

Measured with wrk, 64 connections, on uvloop and one core: a constant answer costs 15 us of CPU, system
calls included (62,000 to 66,000 requests a second), which is twice what a bare protocol pays that has
httptools call back and writes a constant (7.5 us): half the difference is the task that runs the handler.
"""

from __future__ import annotations

import asyncio
import re
from enum import IntEnum
from typing import TYPE_CHECKING, cast

from silence_gateway.core.http import Request, Response, StreamingResponse
from silence_gateway.core.http_chunks import ChunkReader
from silence_gateway.core.http_head import Head, Rejected
from silence_gateway.core.websocket_handshake import check_handshake
from silence_gateway.edge.heads import check_beginning, too_long
from silence_gateway.edge.http1_answers import send_answer, switch
from silence_gateway.edge.http1_body import BodyInPieces, begin_body
from silence_gateway.edge.http1_stream import stream_answer
from silence_gateway.edge.problems import answer_error, problem

if TYPE_CHECKING:
    from silence_gateway.edge.server import HttpServer

EMPTY_LINES = re.compile(rb"(?:\r\n)+")
CR = 0x0D
UNSET = -1.0


class Phase(IntEnum):
    """What a connection is waiting for."""

    IDLE = 0  # the next request
    HEAD = 1  # the rest of a head, or the first request of all
    BODY = 2  # the rest of a body
    HANDLING = 3  # the handler, and the client to read its answer
    LINGERING = 4  # a refused client to hear it
    CLOSING = 5  # the last answer to leave


IDLE, HEAD, BODY, HANDLING, LINGERING, CLOSING = Phase


class Http1Connection(asyncio.Protocol):
    """The protocol of one accepted socket."""

    __slots__ = (
        "buffer",
        "chunks",
        "discarded",
        "drained",
        "handshake",
        "head",
        "incoming",
        "keep_alive",
        "peer",
        "phase",
        "read_paused",
        "scanned",
        "server",
        "since_s",
        "stalled_bytes",
        "task",
        "transport",
        "write_paused",
    )

    transport: asyncio.Transport

    def __init__(self, server: HttpServer) -> None:
        self.server = server
        self.buffer: bytes | bytearray = b""
        self.scanned = 0  # bytes of `buffer` known not to end a head
        self.phase = HEAD
        self.since_s = UNSET
        self.head: Head | None = None  # whose body is coming
        self.chunks: ChunkReader | None = None
        self.incoming: BodyInPieces | None = None  # of the request that is being handled
        self.keep_alive = True  # after the answer to the current request
        self.handshake = False  # the current request is a checked WebSocket handshake
        self.task: asyncio.Task[None] | None = None
        self.read_paused = False
        self.write_paused = False
        self.drained: asyncio.Future[None] | None = None
        self.stalled_bytes = 0
        self.discarded = 0
        self.peer = ""

    # What the transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket, or turn it away if there are too many."""
        self.transport = cast("asyncio.Transport", transport)
        settings = self.server.settings
        self.transport.set_write_buffer_limits(settings.write_high_bytes, settings.write_low_bytes)
        address = transport.get_extra_info("peername")
        if isinstance(address, tuple):
            self.peer = address[0].removeprefix("::ffff:")
        if not self.server.admit(self):
            self.refuse(Rejected(503, "connections", "this gateway has as many connections as it may have"))

    def data_received(self, data: bytes) -> None:
        """Read as many requests as may be read now: none while one is being answered."""
        server = self.server
        server.statistics.bytes_in += len(data)
        phase = self.phase
        if phase >= LINGERING:
            self.discarded += len(data)
            if self.discarded > server.settings.max_body_bytes:
                self.transport.abort()
            return
        if not self.buffer:
            self.buffer = data
        else:
            if type(self.buffer) is bytes:
                self.buffer = bytearray(self.buffer)
            self.buffer += data
        if phase == HANDLING or (self.write_paused and phase != BODY):
            if self.incoming is not None and not self.incoming.done:
                self.incoming.take()
            elif len(self.buffer) > server.settings.max_pipelined_bytes:
                self.read_paused = True
                self.transport.pause_reading()
        else:
            self.advance()

    def eof_received(self) -> None:
        """
        The client will send no more. A handler that runs for it is cancelled: it has left.

        As nginx and Go do; a client that only shuts down its sending side is taken for one that left.
        """
        if self.server.outbox:
            self.server.send_outbox()
        if self.phase == BODY or (self.phase == HEAD and self.buffer):
            self.refuse(Rejected(400, "truncated", "the request ended before it was complete"))

    def pause_writing(self) -> None:
        """The client does not keep up."""
        self.write_paused = True
        self.stalled_bytes = 0

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.write_paused = False
        if self.drained is not None:
            if not self.drained.done():
                self.drained.set_result(None)
            self.drained = None
        elif self.phase in (IDLE, HEAD):
            self.take_next()

    def connection_lost(self, _error: Exception | None) -> None:
        """The connection is gone, and with it whoever waited for an answer."""
        self.phase = CLOSING
        self.buffer = b""
        self.head = self.chunks = None
        self.server.forget(self)
        if self.incoming is not None:
            self.incoming.lose()
        if self.task is not None:
            self.server.statistics.cancelled += 1
            self.task.cancel()

    # Reading.

    def advance(self) -> None:
        """Begin the next request if it has come whole."""
        try:
            request = self.next_request()
        except Rejected as error:
            self.refuse(error)
            return
        if request is not None:
            self.phase = HANDLING
            self.server.statistics.requests += 1
            self.task = self.server.loop.create_task(self.serve(request))

    def next_request(self) -> Request | None:
        """
        Take the next request off the buffer; None if it has not come whole.

        Raises:
            Rejected: If it is refused.
        """
        head = self.head
        if head is None:
            head = self.next_head()
            if head is None:
                return None
            if head.body_size == 0:
                return head.request
            if begin_body(self, head):
                return head.request
            self.phase = BODY
            self.since_s = UNSET
        if self.chunks is not None:
            if type(self.buffer) is bytes:
                self.buffer = bytearray(self.buffer)
            if not self.chunks.take_from(cast("bytearray", self.buffer)):
                return None
            head.request.body = bytes(self.chunks.body)
            self.chunks = None
        else:
            size = head.body_size
            if len(self.buffer) < size:
                return None
            head.request.body = bytes(self.buffer[:size])
            self.buffer = self.buffer[size:]
        self.head = None
        return head.request

    def next_head(self) -> Head | None:
        """
        Take a head off the buffer; None if it has not come whole.

        Raises:
            Rejected: If it is refused.
        """
        if self.phase == IDLE:
            self.phase = HEAD
            self.since_s = UNSET
        buffer = self.buffer
        if buffer and buffer[0] == CR:
            # Empty lines before a request are skipped (RFC 9112 section 2.2).
            empty = EMPTY_LINES.match(buffer)
            buffer = self.buffer = buffer[empty.end() if empty else 0 :]
            self.scanned = 0
            if not buffer or buffer == b"\r":
                return None
        server = self.server
        end = buffer.find(b"\r\n\r\n", self.scanned) + 4
        if end < 4:
            check_beginning(buffer, server.settings.max_header_bytes)
            self.scanned = max(0, len(buffer) - 3)
            return None
        if end > server.settings.max_header_bytes:
            raise too_long(buffer, server.settings.max_header_bytes)
        self.scanned = 0
        if end == len(buffer):
            head = server.heads.read(bytes(buffer))
            self.buffer = b""
        else:
            head = server.heads.read(bytes(buffer[:end]))
            self.buffer = buffer[end:]
        request = head.request
        request.peer = request.client_ip = self.peer
        request.scheme = server.scheme
        request.received_s = server.clock.monotonic_s()
        self.keep_alive = head.keep_alive
        if head.dropped:
            server.statistics.dropped_headers += head.dropped
        if head.wants_websocket:
            check_handshake(request, head.body_size)
            # Refusing it ends the connection: what follows might be frames already.
            self.handshake = True
            self.keep_alive = False
        return head

    # Answering.

    async def serve(self, request: Request) -> None:
        """Have *request* answered; cancelled when the client leaves."""
        server = self.server
        try:
            response = await server.handler(request)
        except asyncio.CancelledError:
            # Also when the handler cancelled itself: without an answer there is no going on.
            self.transport.abort()
            raise
        except Exception as error:  # noqa: BLE001 - whatever a handler does, its client gets an answer
            response = answer_error(error, request, server.observer)
        if type(response) is Response:
            send_answer(self, request, response)
        elif isinstance(response, StreamingResponse):
            await stream_answer(self, request, response)
        else:
            switch(self, request, response)
        self.task = None
        if self.phase == HANDLING:
            self.go_on()

    def write(self, data: bytes) -> None:
        """Send *data* now; the transport buffers what the client does not take."""
        server = self.server
        if server.outbox:
            server.send_outbox()
        server.statistics.bytes_out += len(data)
        if not self.transport.is_closing():
            self.transport.write(data)

    def post(self, data: bytes) -> None:
        """Send *data*, a whole answer after which the connection goes on, at the end of this loop tick."""
        server = self.server
        server.statistics.bytes_out += len(data)
        if not server.outbox:
            server.loop.call_soon(server.send_outbox)
        server.outbox.append((self.transport, data))

    def go_on(self) -> None:
        """The answer is written: read the next request, or end."""
        incoming, self.incoming = self.incoming, None
        if incoming is not None and not incoming.done:
            # Nobody knows how much of the body is still to come.
            self.linger()
            return
        # A stream that was begun before the server began to stop could not say that it is the last.
        if not self.keep_alive or self.server.draining:
            self.end()
            return
        self.phase = IDLE
        self.since_s = UNSET
        # A client that does not read its answers gets no more of them made, and no more of its requests read.
        if not self.write_paused:
            self.take_next()

    def take_next(self) -> None:
        """Begin the next request if it has come, and read the socket unless enough waits already."""
        if self.buffer:
            self.advance()
        if self.phase != HANDLING or len(self.buffer) <= self.server.settings.max_pipelined_bytes:
            self.read_on()

    def read_on(self) -> None:
        """Read the socket again, if that was put off."""
        if self.read_paused:
            self.read_paused = False
            self.transport.resume_reading()

    def refuse(self, error: Rejected, request: Request | None = None) -> None:
        """Answer what is not read further, and end; the client may go on sending for a while."""
        self.server.statistics.reject(error.reason)
        if request is None:
            self.server.on_refused(self.peer, self.head.request if self.head else None, error)
        self.keep_alive = False
        send_answer(self, request, problem(error, request))
        self.linger()

    # Ending.

    def leave(self) -> bytes:
        """Let go of the transport, which another protocol takes over; return what was read too much."""
        early, self.buffer = bytes(self.buffer), b""
        self.phase = CLOSING
        self.task = None
        self.server.forget(self)
        if self.read_paused:
            self.transport.resume_reading()
        return early

    def end(self) -> None:
        """Close after the last answer."""
        if self.server.outbox:
            self.server.send_outbox()
        if self.buffer:
            self.linger()
        else:
            self.phase = CLOSING
            self.since_s = UNSET
            self.transport.close()

    def linger(self) -> None:
        """
        End without reading further, so that the client can still read the answer.

        Closing a socket that has unread bytes resets the connection, and the answer is lost with it:
        so what still comes is thrown away for a while.
        """
        self.phase = LINGERING
        self.since_s = UNSET
        self.buffer = b""
        self.head = self.chunks = None
        self.read_on()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def drain(self) -> None:
        """The server is stopping: go now if nobody waits for anything."""
        if self.phase == IDLE or (self.phase == HEAD and not self.buffer):
            self.end()
