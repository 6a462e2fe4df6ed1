"""
gRPC calls as a server sees them: what all of them have, and how they end.

Unary calls are in `grpc_unary.py`, calls of many messages in `grpc_streams.py`.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import TYPE_CHECKING, cast

from silence_gateway.core.grpc_messages import (
    Fault,
    MessageFault,
)
from silence_gateway.core.hpack import encode
from silence_gateway.core.status import Code
from silence_gateway.edge.grpc_answers import (
    Metadata,
    Status,
    error_block,
    status_of,
)
from silence_gateway.edge.grpc_methods import GrpcHead
from silence_gateway.edge.http2_streams import Http2Stream
from silence_gateway.errors import RpcError
from silence_gateway.events import Noticed
from silence_gateway.upstreams.deadlines import GRAIN_S

if TYPE_CHECKING:
    from silence_gateway.edge.http2 import Http2Connection

READABLE = (b"", b"identity", b"gzip", b"deflate", b"zstd")
# A caller that gives up within this of its deadline gave up because of it; its clock and ours are both right.
NEARLY_DUE_S = 0.01
WE_ACCEPT = encode([(b"grpc-accept-encoding", b"identity,gzip,deflate,zstd")])
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
        self.send_status(status, alone=True)

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
            connection.lingering.add(cast("asyncio.Future[object]", work))
            connection.server.lingering.add(cast("asyncio.Future[object]", work))
            connection.statistics.cancelled += 1
            work.cancel()

    def has_come_to(self, work: asyncio.Future[bytes] | asyncio.Future[None]) -> bool:
        """*work* has ended; tell whether there is an answer to send. Where it failed, that has been sent."""
        self.work = None
        if not self.answered and self.is_open:
            if work.cancelled():
                self.end(Status(Code.CANCELLED, "the call was cancelled by the server"))
            elif (error := work.exception()) is not None:
                self.fail(error)
            else:
                return True
            return False
        self.connection.lingering.discard(cast("asyncio.Future[object]", work))
        self.connection.server.lingering.discard(cast("asyncio.Future[object]", work))
        if not work.cancelled() and (error := work.exception()) is not None:
            # Nobody gets the answer, but what nobody raised on purpose must not get lost.
            status_of(error, self.connection.server.observer, self.path)
        return False

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

    def was_waited_for(self, now_s: float) -> bool:
        """Whether the caller gives up at its own deadline, and not at once."""
        timeout_s = self.head.timeout_s
        if timeout_s is None:
            return False
        remaining_s = self.deadline_s - now_s
        return remaining_s <= NEARLY_DUE_S and timeout_s - remaining_s >= GRAIN_S

    def on_slow(self) -> None:
        """The caller did not send its message in time."""
        self.stop_work()
        self.end(Status(Code.DEADLINE_EXCEEDED, "the message did not arrive in time"))

    def waits_for_content(self) -> bool:
        """Whether the client owes us content; not while it waits for room."""
        return self.receiving and not self.answered and self.room > 0


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
            f"messages compressed with {fault.text} cannot be read here; use gzip, zstd or identity",
        )
    return RpcError(Code.INTERNAL, f"the caller sent {fault.text}")
