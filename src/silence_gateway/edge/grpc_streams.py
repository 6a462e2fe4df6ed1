"""
gRPC calls of many messages, as a server sees them.

Memory is bounded either way: a client may send as much as its window before the handler takes a message,
and gets room back only for messages that were taken; a handler that sends waits for the client to read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, cast

from silence_gateway.core.grpc_messages import PREFIX_BYTES, MessageFault, MessageInbox, framed
from silence_gateway.core.progress import UNSET
from silence_gateway.core.status import Code
from silence_gateway.edge.grpc_answers import HEAD_BLOCK, OK_BLOCK, Status, metadata_block
from silence_gateway.edge.grpc_calls import GrpcCall, as_rpc_error
from silence_gateway.edge.grpc_methods import GrpcHead, Method, StreamHandler
from silence_gateway.errors import RpcError

if TYPE_CHECKING:
    from silence_gateway.edge.http2 import Http2Connection

# What a handler may be ahead of a client that reads more slowly.
AHEAD_BYTES = 65_536

# A handler whose messages are all at hand must let the loop turn now and then.
MESSAGES_PER_TURN = 64


class StreamCall(GrpcCall):
    """
    A call whose messages come and go one by one: iterate to read, `send` to write.

    The handler runs in a task that is cancelled when the caller leaves or its deadline passes.
    """

    __slots__ = ("head_sent", "inbox", "owed", "sent_in_turn", "waiter")

    def __init__(self, connection: Http2Connection, stream_id: int, head: GrpcHead) -> None:
        super().__init__(connection, stream_id, head)
        self.inbox = MessageInbox(head.encoding, head.server.max_message_bytes)
        self.owed = 0
        self.waiter: asyncio.Future[None] | None = None
        self.head_sent = False
        self.sent_in_turn = 0

    # What handlers use.

    def __aiter__(self) -> StreamCall:
        return self

    async def __anext__(self) -> bytes:
        inbox = self.inbox
        try:
            while (raw := inbox.take()) is None:
                if not self.receiving:
                    if inbox.pending:
                        raise RpcError(Code.INTERNAL, "the call ended inside a message")
                    raise StopAsyncIteration
                self.make_room()
                self.waiter = self.connection.server.loop.create_future()
                await self.waiter
            self.give_back(PREFIX_BYTES + len(raw[1]))
            return inbox.unpack(raw)
        except MessageFault as fault:
            raise as_rpc_error(fault) from fault

    async def only_message(self) -> bytes:
        """
        Return the one message of a caller that has to send exactly one.

        Raises:
            RpcError: It sent none, or more.
        """
        messages = [message async for message in self]
        if len(messages) != 1:
            raise RpcError(
                Code.UNIMPLEMENTED, f"this method takes one message, and there are {len(messages)}"
            )
        return messages[0]

    def send_head(self) -> None:
        """
        Send `initial_metadata` now and not with the first message; harmless when it is sent.

        Raises:
            BadRequest: It cannot be sent.
            RpcError: The client does not take that much.
        """
        if not self.head_sent and not self.answered and self.is_open:
            block = HEAD_BLOCK
            if self.initial_metadata:
                block += metadata_block(self.initial_metadata, self.connection.max_list_bytes)
            self.head_sent = True
            self.connection.send_headers(self, block)

    async def send(self, message: bytes) -> None:
        """
        Send one message, and return when the client is not far behind.

        Raises:
            BadRequest: `initial_metadata` cannot be sent.
            RpcError: The call is over, or the client does not take that much metadata.
        """
        if self.answered or not self.is_open:
            raise RpcError(Code.CANCELLED, "the call is over")
        self.send_head()
        self.connection.send_data(self, framed(message))
        if self.outbox is not None and self.outbox.size > AHEAD_BYTES:
            self.sent_in_turn = 0
            await self.outbox.below(AHEAD_BYTES)
            return
        self.sent_in_turn += 1
        if self.sent_in_turn >= MESSAGES_PER_TURN:
            self.sent_in_turn = 0
            await asyncio.sleep(0)

    # Receiving.

    def on_begin(self) -> None:
        """Let the handler run."""
        if self.head.timeout_s is not None and self.head.timeout_s <= 0:
            self.on_deadline()
            return
        handler = cast("StreamHandler", self.head.rpc.handler)
        loop = self.connection.server.loop
        try:
            work = loop.create_task(cast("Coroutine[Any, Any, None]", handler(self)))
        except Exception as error:  # noqa: BLE001 - whatever a handler does, its caller gets an answer
            self.fail(error)
            return
        self.work = work
        work.add_done_callback(self.on_returned)

    def on_data(self, content: bytes) -> None:
        """Take a piece of a message, or several messages."""
        self.since_s = UNSET
        self.inbox.put(content)
        self.wake()

    def on_end(self) -> None:
        """The caller sends no more."""
        self.wake()

    def wake(self) -> None:
        """Let the handler look again, if it waits for a message."""
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # The window holds `stream_window` bytes and what was lent. They are room the client has, bytes in the
    # inbox, or bytes that we owe it: taken, and not given back yet.

    def give_back(self, size: int) -> None:
        """Owe the client what was taken, less what it had been lent to send it."""
        self.owed += size - self.connection.take_back_room(self)
        if self.owed >= self.connection.stream_window // 2:
            self.pay()

    def make_room(self) -> None:
        """Make sure that the message that the handler waits for can come."""
        missing = self.inbox.missing
        if missing > self.room // 2 and self.owed:
            self.pay()
        self.connection.make_room(self, missing)

    def pay(self) -> None:
        """Give back what is owed."""
        owed, self.owed = self.owed, 0
        self.connection.give_room(self, owed)

    def waits_for_content(self) -> bool:
        """Whether the client has begun a message, and the handler waits for the rest."""
        return super().waits_for_content() and self.waiter is not None and self.inbox.pending > 0

    # The end.

    def on_returned(self, work: asyncio.Future[None]) -> None:
        """The handler has returned."""
        if not self.has_come_to(work):
            return
        try:
            self.send_head()
            tail = OK_BLOCK
            if self.trailing_metadata:
                tail += metadata_block(self.trailing_metadata, self.connection.max_list_bytes)
        except Exception as error:  # noqa: BLE001 - metadata of a handler that cannot be sent
            self.trailing_metadata = ()
            self.fail(error if isinstance(error, RpcError) else ValueError(f"metadata: {error}"))
            return
        self.head.rpc.by_code[0] += 1
        self.connection.send_end(self, tail)

    def end(self, status: Status) -> None:
        """End the call with a status that is not OK."""
        self.send_status(status, alone=not self.head_sent)


def streaming(handler: StreamHandler) -> Method:
    """
    Return a method of any number of messages either way.

    Args:
        handler: Called with the call, in a task of its own. It may raise.
    """
    return Method(handler, StreamCall)
