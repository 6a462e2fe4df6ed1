"""
One call whose answer is a stream, and whose request may be one.

Memory is bounded: the window is given back only for messages that were taken, a compressed message
is unpacked only when it is taken, and a request message is asked for only when the last one has left.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, Callable
from typing import Protocol, TypeAlias

from silence_gateway.core.h2_frames import ErrorCode
from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError, UpstreamProtocolError
from silence_gateway.upstreams.answers import Answer
from silence_gateway.upstreams.call import CALL_ERRORS, Carrier, as_meant, ended_badly, without_status
from silence_gateway.upstreams.contracts import Metadata
from silence_gateway.upstreams.grpc_messages import (
    PREFIX_BYTES,
    CallError,
    MessageReader,
    RawMessage,
    in_pieces,
)
from silence_gateway.upstreams.kept_requests import Reading
from silence_gateway.upstreams.outflow import Outbox

# A request stream whose messages are all at hand must let the loop turn now and then.
_BYTES_PER_TURN = 65_536
_MESSAGES_PER_TURN = 64


Frame: TypeAlias = Callable[[bytes], tuple[bytes, ...]]
"""Puts before a message what goes before it; large ones stay pieces of their own."""


class SendPart(Protocol):
    """Sends a part of a request as the windows allow."""

    def __call__(self, outbox: Outbox, *pieces: bytes, end: bool) -> None:
        """Send *pieces*, and with *end* the end of the request."""


class StreamCall:
    """
    A call for many messages; see `contracts.CallStream`.

    Cancelling the task that waits for a message cancels the call.

    Attributes:
        stream_id: Its HTTP/2 stream; 0 if it was refused.
        deadline_s: When to give up, in monotonic seconds; infinite if never.
        head: The headers before the first message, once they have come.
    """

    __slots__ = (
        "_carrier",
        "_ended",
        "_error",
        "_held",
        "_owed",
        "_queue",
        "_reader",
        "_reading",
        "_room",
        "_sender",
        "_trailing",
        "_waiters",
        "_window",
        "deadline_s",
        "head",
        "stream_id",
    )

    def __init__(self, carrier: Carrier, stream_id: int, deadline_s: float) -> None:
        self._carrier = carrier
        self.stream_id = stream_id
        self.deadline_s = deadline_s
        self._queue: deque[RawMessage] = deque()
        self._reader: MessageReader | None = None
        self.head: Answer | None = None
        self._trailing: Metadata = ()
        self._error: BaseException | None = None
        self._ended = False
        self._room = self._window = carrier.stream_window_bytes
        self._held = 0  # bytes that arrived and were not taken
        self._owed = 0  # bytes that were taken and not given back yet
        self._sender: asyncio.Task[None] | None = None
        self._reading: Reading | None = None
        self._waiters: list[asyncio.Future[None]] = []

    # What the caller uses.

    def __aiter__(self) -> StreamCall:
        return self

    async def __anext__(self) -> bytes:
        while not self._queue:
            if self._ended:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            await self._something()
        raw = self._queue.popleft()
        if not self._ended:
            # With nothing left to take, what has come of the next message must not hold up its rest.
            taken = PREFIX_BYTES + len(raw[1]) if self._queue else self._held
            self._held -= taken
            self._give_back(taken)
        packed, message = raw
        if packed:
            assert self._reader is not None
            try:
                message = self._reader.unpack(raw)
            except CALL_ERRORS as error:
                self._give_up(error)
                raise
        self._carrier.statistics.messages_in += 1
        return message

    async def initial_metadata(self) -> Metadata:
        """Wait for and return the header pairs sent before the first message; raises if none were."""
        while self.head is None and not self._ended:
            await self._something()
        if self.head is None and self._error is not None:
            raise self._error
        return () if self.head is None else self.head.metadata

    async def trailing_metadata(self) -> Metadata:
        """Wait for the end, and return the header pairs sent with the status."""
        while not self._ended:
            await self._something()
        if self._error is not None and not isinstance(self._error, RpcError):
            raise self._error
        return self._trailing

    def cancel(self) -> None:
        """Tell the upstream that nobody waits any more; harmless when finished."""
        if not self._ended:
            self._carrier.statistics.cancelled += 1
            self._carrier.let_go(self.stream_id, ErrorCode.CANCEL)
            self._queue.clear()
            self._end(RpcError(Code.CANCELLED, "the call was cancelled here"))

    async def _something(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            # Nobody is left to read: what the upstream still sends would only fill the window.
            self.cancel()
            raise

    # What the connection tells.

    def on_head(self, answer: Answer) -> None:
        """Headers that do not end the answer."""
        if answer.plain and self.head is None:
            self.head = answer
            self._reader = MessageReader(answer.encoding, self._carrier.max_message_bytes)
            self._wake()
        elif self.head is not None:
            self._give_up(UpstreamProtocolError("the upstream sent trailers that do not end its answer"))
        elif not answer.informational or answer.malformed:
            self._give_up(answer.not_grpc())

    def on_data(self, content: bytes, length: int) -> None:
        """A piece of the answer; *length* is what it took of the windows."""
        if self._reader is None:
            self._give_up(UpstreamProtocolError("the upstream sent data before headers"))
            return
        self._room -= length
        if self._room < 0:
            self._give_up(
                UpstreamProtocolError("the upstream sent more than its window"), ErrorCode.FLOW_CONTROL_ERROR
            )
            return
        try:
            messages = self._reader.feed(content)
        except CALL_ERRORS as error:
            self._give_up(error)
            return
        size = len(content)
        self._held += size
        self._owed += length - size
        if messages:
            self._queue += messages
            if self._waiters:
                self._wake()
        elif not self._queue:
            taken, self._held = self._held, 0
            self._give_back(taken)

    def on_end(self, answer: Answer) -> None:
        """Trailers, or the only headers of an answer; the connection has forgotten the call already."""
        self._trailing = answer.metadata
        error = ended_badly(answer, self.head, self._reader)
        if error is None:
            self._carrier.statistics.by_code[0] += 1
            self._end(None)
        else:
            self.fail(as_meant(error, self._carrier, self.deadline_s))

    def on_end_without_status(self) -> None:
        """The answer ended with data."""
        self.fail(without_status())

    def fail(self, error: CallError) -> None:
        """End the call; the connection has forgotten it already."""
        if not self._ended:
            self._carrier.count_error(error)
            self._end(error)

    def _give_up(self, error: CallError, code: ErrorCode = ErrorCode.CANCEL) -> None:
        if not self._ended:
            self._carrier.let_go(self.stream_id, code)
            self.fail(error)

    def _end(self, error: BaseException | None) -> None:
        self._ended = True
        self._error = error
        if self._sender is not None and (self._reading is None or not self._reading.leave()):
            self._sender.cancel()
        self._wake()

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    def _give_back(self, count: int) -> None:
        self._owed += count
        if self._owed >= self._window // 2:
            window = self._carrier.give_back(self.stream_id, self._owed, self._window)
            self._room += self._owed + window - self._window
            self._window = window
            self._owed = 0

    # The request, if it is a stream.

    def send_from(
        self, messages: AsyncIterable[bytes], outbox: Outbox, frame: Frame, send_part: SendPart
    ) -> None:
        """Send *messages*, each through *frame*, from a task of its own, which ends with the call."""
        work = self._send_all(messages, outbox, frame, send_part)
        self._sender = asyncio.get_running_loop().create_task(work)
        if type(messages) is Reading:
            self._reading = messages
            messages.sent_by(self._sender)

    async def _send_all(
        self, messages: AsyncIterable[bytes], outbox: Outbox, frame: Frame, send_part: SendPart
    ) -> None:
        in_turn = sent = 0
        try:
            async for message in messages:
                send_part(outbox, *frame(message), end=False)
                self._carrier.statistics.messages_out += 1
                await outbox.emptied()
                sent += 1
                in_turn += PREFIX_BYTES + len(message)
                if in_turn >= _BYTES_PER_TURN or sent >= _MESSAGES_PER_TURN:
                    in_turn = sent = 0
                    await asyncio.sleep(0)
            send_part(outbox, end=True)
        except (Exception, asyncio.CancelledError) as exc:  # noqa: BLE001 - what the iterator raised is the caller's
            # Who cancels this task has ended the call before; iterators wait for what others may cancel.
            if not self._ended:
                self._carrier.statistics.cancelled += 1
                self._carrier.let_go(self.stream_id, ErrorCode.CANCEL)
                self._end(exc)


def plain_pieces(message: bytes) -> tuple[bytes, ...]:
    """Put before *message* its length, as a `Frame` that packs nothing."""
    return in_pieces(message)


def refused(carrier: Carrier, error: CallError) -> StreamCall:
    """Return a call that has failed before it began."""
    call = StreamCall(carrier, 0, 0.0)
    call._end(error)  # noqa: SLF001 - a constructor of the same class's instances
    return call
