"""
gRPC calls as a server sees them: what all of them have, and the unary ones.

Hot path: one object per call, and no task for a handler that answers at once. An answer that fits into one
frame and the client's windows is three pieces of the connection's next write, two of them made by one
`pack` each; everything else takes the general way of `http2_sending.py`.

The figure is in `grpc_server.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from math import inf
from typing import TYPE_CHECKING, cast

from silence_gateway.core.grpc_messages import (
    PREFIX_BYTES,
    Fault,
    MessageFault,
    MessageInbox,
    RawMessage,
    framed,
)
from silence_gateway.core.hpack import encode
from silence_gateway.core.status import Code
from silence_gateway.edge.grpc_answers import (
    HEAD_BLOCK,
    OK_BLOCK,
    Metadata,
    Status,
    answer_head,
    answer_tail,
    error_block,
    metadata_block,
    status_of,
)
from silence_gateway.edge.grpc_methods import GrpcHead, Method, UnaryHandler
from silence_gateway.edge.http2_streams import Http2Stream
from silence_gateway.errors import RpcError
from silence_gateway.events import Noticed

if TYPE_CHECKING:
    from silence_gateway.edge.http2 import Http2Connection

READABLE = (b"", b"identity", b"gzip")
WE_ACCEPT = encode([(b"grpc-accept-encoding", b"identity,gzip")])
"""Sent with the complaint about an encoding that we do not know, so that the client can choose another."""


class GrpcCall(Http2Stream):
    """
    One call.

    Attributes:
        initial_metadata: Pairs to send before the first message; set them before it is sent.
        trailing_metadata: Pairs to send with the status.
        work: The task or future that answers it.
    """

    __slots__ = ("initial_metadata", "trailing_metadata", "work")

    head: GrpcHead

    def __init__(self, connection: Http2Connection, stream_id: int, head: GrpcHead) -> None:
        super().__init__(connection, stream_id, head)
        self.initial_metadata: Metadata = ()
        self.trailing_metadata: Metadata = ()
        self.work: asyncio.Future[bytes] | asyncio.Future[None] | None = None
        timeout_s = head.timeout_s
        if timeout_s is not None:
            self.deadline_s = connection.server.clock.monotonic_s() + timeout_s
            connection.watch_deadline(self.deadline_s)

    # What handlers use.

    @property
    def path(self) -> str:
        """The method, as `/package.Service/Method`."""
        return self.head.path.decode("ascii")

    @property
    def authority(self) -> str:
        """Whom the caller believes to talk to."""
        return self.head.authority.decode("ascii")

    @property
    def peer(self) -> str:
        """The address of whoever is at the other end of the connection; empty on a unix socket."""
        return self.connection.peer

    @property
    def metadata(self) -> Metadata:
        """What the caller sent along, in order; values of `-bin` names are bytes."""
        return self.head.metadata

    def remaining_s(self) -> float:
        """Return how long the caller still waits, in seconds: infinite if for ever, 0 if no longer."""
        if self.deadline_s == inf:
            return inf
        return max(0.0, self.deadline_s - self.connection.server.clock.monotonic_s())

    # How calls end.

    def fail(self, error: BaseException) -> None:
        """End the call as *error* says."""
        self.end(status_of(error, self.connection.server.observer, self.path))

    def end(self, status: Status) -> None:
        """End the call with a status that is not OK."""
        raise NotImplementedError

    def send_status(self, status: Status, *, alone: bool) -> None:
        """Send the end of the call; content that has not left is dropped."""
        connection = self.connection
        if self.trailing_metadata:
            status = status._replace(metadata=(*status.metadata, *self.trailing_metadata))
        limit = connection.max_list_bytes
        try:
            block = error_block(status, alone=alone, limit=limit)
        except RpcError as error:
            block = error_block(Status(Code(error.code), error.details), alone=alone, limit=limit)
        except Exception as error:  # noqa: BLE001 - metadata of a handler that cannot be sent
            self.complain(f"metadata that cannot be sent: {error}")
            block = error_block(status._replace(metadata=()), alone=alone, limit=limit)
        if status.code == Code.UNIMPLEMENTED and self.head.encoding not in READABLE:
            block += WE_ACCEPT
        self.head.rpc.by_code[status.code] += 1
        connection.discard_unsent(self)
        connection.send_end(self, block)

    def stop_work(self) -> None:
        """Cancel whoever works on the answer; it counts as work of this connection until it has ended."""
        work = self.work
        if work is not None and not work.done():
            connection = self.connection
            lingering = connection.lingering
            lingering.add(cast("asyncio.Future[object]", work))
            connection.statistics.cancelled += 1
            work.cancel()

    def forget_work(self, work: asyncio.Future[bytes] | asyncio.Future[None]) -> bool:
        """*work* has ended; tell whether nobody waits for it any more."""
        self.work = None
        if not self.answered and self.is_open:
            return False
        self.connection.lingering.discard(cast("asyncio.Future[object]", work))
        if not work.cancelled() and (error := work.exception()) is not None:
            # Nobody gets the answer, but what nobody raised on purpose must not get lost.
            status_of(error, self.connection.server.observer, self.path)
        return True

    @property
    def is_open(self) -> bool:
        """Whether an answer can still be sent."""
        return self.connection.streams.get(self.id) is self

    def complain(self, text: str) -> None:
        """Tell the observer what a handler did wrong."""
        self.connection.server.observer(Noticed(what=f"{self.path}: the handler {text}", loudness="error"))

    # What the connection tells.

    def on_gone(self) -> None:
        """The client took it back, or left."""
        self.head.rpc.by_code[Code.CANCELLED] += 1
        self.stop_work()

    def on_deadline(self) -> None:
        """The caller has given up by now."""
        self.stop_work()
        self.end(Status(Code.DEADLINE_EXCEEDED, "the deadline passed before the answer was ready"))

    def on_slow(self) -> None:
        """The caller did not send its message in time."""
        self.stop_work()
        self.end(Status(Code.DEADLINE_EXCEEDED, "the message did not arrive in time"))

    def waits_for_content(self) -> bool:
        """Whether the client owes us content; not while it waits for room."""
        return self.receiving and not self.answered and self.room > 0


class UnaryCall(GrpcCall):
    """A call of one message, to be answered with one."""

    __slots__ = ("inbox", "message")

    def __init__(self, connection: Http2Connection, stream_id: int, head: GrpcHead) -> None:
        super().__init__(connection, stream_id, head)
        self.inbox: MessageInbox | None = None
        self.message: RawMessage | None = None

    # The request.

    def on_data(self, content: bytes) -> None:
        """Take a piece of the message, usually all of it."""
        if (
            not self.receiving
            and self.inbox is None
            and content[:1] == b"\0"
            and int.from_bytes(content[1:5], "big") == len(content) - PREFIX_BYTES
            and len(content) - PREFIX_BYTES <= self.head.server.max_message_bytes
        ):
            self.handle(content[PREFIX_BYTES:])
            return
        if self.message is not None:
            if content:
                self.end(Status(Code.UNIMPLEMENTED, "this method takes one message, and there are more"))
            else:
                self.on_end()
            return
        inbox = self.inbox
        if inbox is None:
            inbox = self.inbox = MessageInbox(self.head.encoding, self.head.server.max_message_bytes)
        inbox.put(content)
        try:
            self.message = inbox.take()
        except MessageFault as fault:
            self.fail(as_rpc_error(fault))
            return
        if not self.receiving:
            self.on_end()
        elif self.message is None and inbox.missing > self.room and not self.borrowed:
            self.connection.lend_room(self, inbox.missing - self.room)

    def on_end(self) -> None:
        """The request is complete."""
        inbox, raw = self.inbox, self.message
        if inbox is None or (raw is None and not inbox.pending):
            self.end(Status(Code.UNIMPLEMENTED, "this method takes one message, and there is none"))
        elif raw is None:
            self.end(Status(Code.INTERNAL, "the call ended inside its message"))
        elif inbox.pending:
            self.end(Status(Code.UNIMPLEMENTED, "this method takes one message, and there are more"))
        else:
            self.inbox = self.message = None
            self.connection.take_back_room(self)
            try:
                message = inbox.unpack(raw)
            except MessageFault as fault:
                self.fail(as_rpc_error(fault))
            else:
                self.handle(message)

    def handle(self, message: bytes) -> None:
        """Have the message answered."""
        if self.deadline_s != inf and self.deadline_s <= self.head.server.clock.monotonic_s():
            self.on_deadline()
            return
        handler = cast("UnaryHandler", self.head.rpc.handler)
        try:
            result = handler(message, self)
        except Exception as error:  # noqa: BLE001 - whatever a handler does, its caller gets an answer
            self.fail(error)
            return
        if type(result) is bytes:
            self.answer(result)
        else:
            self.wait_for(cast("Awaitable[bytes]", result))

    # The answer.

    def answer(self, message: bytes) -> None:
        """Send the answer."""
        connection = self.connection
        size = len(message) + PREFIX_BYTES
        if (
            size <= connection.window
            and size <= self.window
            and size <= connection.tick_bytes
            and size <= connection.max_frame
            and not connection.paused
            and connection.table_told
            and not self.initial_metadata
            and not self.trailing_metadata
            and not self.receiving
        ):
            self.answered = True
            self.head.rpc.by_code[0] += 1
            connection.window -= size
            connection.tick_bytes -= size
            connection.work += 1
            connection.pieces += (answer_head(self.id, size - PREFIX_BYTES), message, answer_tail(self.id))
            if not connection.flush_due:
                connection.flush_due = True
                connection.server.loop.call_soon(connection.flush)
            connection.drop(self)
            return
        try:
            head = HEAD_BLOCK
            if self.initial_metadata:
                head += metadata_block(self.initial_metadata, connection.max_list_bytes)
            tail = OK_BLOCK
            if self.trailing_metadata:
                tail += metadata_block(self.trailing_metadata, connection.max_list_bytes)
        except Exception as error:  # noqa: BLE001 - metadata of a handler that cannot be sent
            self.trailing_metadata = ()
            self.fail(error if isinstance(error, RpcError) else ValueError(f"metadata: {error}"))
            return
        self.head.rpc.by_code[0] += 1
        connection.send_headers(self, head)
        connection.send_data(self, framed(message))
        connection.send_end(self, tail)

    def wait_for(self, result: Awaitable[bytes]) -> None:
        """Answer when *result* is there."""
        if asyncio.isfuture(result):
            work = result
        elif asyncio.iscoroutine(result):
            work = self.connection.server.loop.create_task(result)
        else:
            self.fail(TypeError(f"the handler returned {type(result).__name__}, not bytes or an awaitable"))
            return
        self.work = work
        work.add_done_callback(self.on_result)

    def on_result(self, work: asyncio.Future[bytes]) -> None:
        """Send what *work* came to."""
        if self.forget_work(work):
            return
        if work.cancelled():
            self.end(Status(Code.CANCELLED, "the call was cancelled by the server"))
            return
        error = work.exception()
        if error is not None:
            self.fail(error)
            return
        message = work.result()
        if type(message) is bytes:
            self.answer(message)
        else:
            self.fail(TypeError(f"the handler came to {type(message).__name__}, not bytes"))

    def end(self, status: Status) -> None:
        """End the call with a status that is not OK."""
        self.send_status(status, alone=True)


class RefusedCall(GrpcCall):
    """A call that is answered before its message is looked at."""

    __slots__ = ()

    def on_begin(self) -> None:
        """Answer."""
        head = self.head
        if head.code >= 0:
            head.rpc.by_code[head.code] += 1
        else:
            head.server.not_grpc += 1
        self.connection.send_end(self, head.refusal)


def as_rpc_error(fault: MessageFault) -> RpcError:
    """Return how a call ends whose request has *fault*."""
    if fault.fault is Fault.TOO_LARGE:
        return RpcError(Code.RESOURCE_EXHAUSTED, f"the {fault.text}")
    if fault.fault is Fault.UNKNOWN:
        return RpcError(
            Code.UNIMPLEMENTED,
            f"messages compressed with {fault.text} cannot be read here; use gzip or identity",
        )
    return RpcError(Code.INTERNAL, f"the caller sent {fault.text}")


def unary(handler: UnaryHandler) -> Method:
    """
    Return a method of one message in and one out.

    Args:
        handler: Called with the message and the call, in the middle of reading the socket: what it does
            before it returns or first awaits holds up everybody. It may raise.
    """
    return Method(handler, UnaryCall)
