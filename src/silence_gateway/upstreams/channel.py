"""
The library door for generated code: a `Channel` takes the place of `grpc.aio.Channel`.

Stubs that grpcio-tools generated work on it unchanged, over whatever carries calls (a connection, a
pool). Only what stubs need is here; it owns no connection, so whoever made the caller closes it.

Two things differ from grpc.aio on purpose. Every failed call raises our `RpcError`, whose `code` is
a number (`core.status.Code`), not a method; faults of the way (no connection, deadline passed) are
its cause. And nothing is sent after the first await: there is no `wait_for_ready` and no compression.
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Sequence,
)
from typing import Any, Generic, TypeAlias, TypeVar

from silence_gateway.clock import Clock, SystemClock
from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError, UpstreamFault, UpstreamProtocolError, UpstreamTimeout
from silence_gateway.upstreams.contracts import Caller, CallStream, Metadata
from silence_gateway.upstreams.written_requests import WrittenRequests

T = TypeVar("T")

Pairs: TypeAlias = "Sequence[tuple[str, str | bytes]]"
"""Metadata as stubs' users write and read it: text, but bytes for names that end in `-bin`."""

Serializer: TypeAlias = Callable[[Any], bytes]
Requests: TypeAlias = "AsyncIterable[Any] | Iterable[Any] | None"


class Channel:
    """
    Looks like `grpc.aio.Channel` to a generated stub.

    Args:
        caller: What carries the calls.
        clock: What `timeout` is measured by; the machine's if absent. Must be the caller's.
    """

    def __init__(self, caller: Caller, clock: Clock | None = None) -> None:
        self._caller = caller
        self._clock = clock or SystemClock()

    def unary_unary(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> Callable[..., UnaryAnswer[Any]]:
        """Return a function that calls *method* with one message, for one message."""
        path, serialize, deserialize = method.encode(), request_serializer or bytes, response_deserializer

        def call(
            request: Any, *, timeout: float | None = None, metadata: Pairs | None = None, **_: Any
        ) -> UnaryAnswer[Any]:
            reply = self._caller.unary(path, serialize(request), to_wire(metadata), self._deadline(timeout))

            async def parts() -> tuple[bytes, Metadata, Metadata]:
                answer = await reply
                return answer.message, answer.initial_metadata, answer.trailing_metadata

            return UnaryAnswer(parts(), lambda: _drop(reply), deserialize)

        return call

    def unary_stream(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> Callable[..., StreamAnswer[Any]]:
        """Return a function that calls *method* with one message, for many."""
        path, serialize, deserialize = method.encode(), request_serializer or bytes, response_deserializer

        def call(
            request: Any, *, timeout: float | None = None, metadata: Pairs | None = None, **_: Any
        ) -> StreamAnswer[Any]:
            stream = self._caller.stream(path, serialize(request), to_wire(metadata), self._deadline(timeout))
            return StreamAnswer(stream, deserialize)

        return call

    def stream_unary(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> Callable[..., UnaryAnswer[Any]]:
        """Return a function that calls *method* with many messages, for one."""
        path, serialize, deserialize = method.encode(), request_serializer or bytes, response_deserializer

        def call(
            request_iterator: Requests = None,
            timeout: float | None = None,
            metadata: Pairs | None = None,
            **_: Any,
        ) -> UnaryAnswer[Any]:
            requests = WrittenRequests(request_iterator, serialize)
            stream = self._caller.stream(path, requests, to_wire(metadata), self._deadline(timeout))
            return UnaryAnswer(_only_message(stream), stream.cancel, deserialize, requests)

        return call

    def stream_stream(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> Callable[..., StreamAnswer[Any]]:
        """Return a function that calls *method* with many messages, for many."""
        path, serialize, deserialize = method.encode(), request_serializer or bytes, response_deserializer

        def call(
            request_iterator: Requests = None,
            timeout: float | None = None,
            metadata: Pairs | None = None,
            **_: Any,
        ) -> StreamAnswer[Any]:
            requests = WrittenRequests(request_iterator, serialize)
            stream = self._caller.stream(path, requests, to_wire(metadata), self._deadline(timeout))
            return StreamAnswer(stream, deserialize, requests)

        return call

    def _deadline(self, timeout_s: float | None) -> float | None:
        return None if timeout_s is None else self._clock.monotonic_s() + timeout_s


class _Answer(Generic[T]):
    """What the two kinds of calls have in common: how they ended, and writing requests by hand."""

    def __init__(self, deserialize: Callable[[bytes], T] | None, requests: WrittenRequests | None) -> None:
        self._deserialize = deserialize
        self._requests = requests
        self._trailing: Metadata = ()
        self._error: RpcError | None = None
        self._ended = asyncio.Event()

    async def code(self) -> Code:
        """Wait for the end and return the status; of a stream, it must be read to its end."""
        await self._ended.wait()
        return Code.OK if self._error is None else Code(self._error.code)

    async def details(self) -> str:
        """Wait for the end and return the text that came with the status."""
        await self._ended.wait()
        return "" if self._error is None else self._error.details

    async def trailing_metadata(self) -> Pairs:
        """Wait for the end and return the metadata that came with the status."""
        await self._ended.wait()
        return from_wire(self._trailing)

    def done(self) -> bool:
        """Tell whether the call is over."""
        return self._ended.is_set()

    async def write(self, request: Any) -> None:
        """Send one more request, if the call was made without an iterator."""
        await self._written().write(request)

    async def done_writing(self) -> None:
        """Send no more requests, if the call was made without an iterator."""
        await self._written().end()

    def _written(self) -> WrittenRequests:
        if self._requests is None:
            raise TypeError("this method takes one request")
        return self._requests

    def _message(self, message: bytes) -> T:
        if self._deserialize is None:
            return message  # type: ignore[return-value]  # T is bytes when nothing turns them into more
        return self._deserialize(message)

    def _end(self, error: RpcError | None, trailing: Metadata) -> None:
        self._error = error
        self._trailing = trailing
        self._ended.set()
        if self._requests is not None:
            self._requests.stop()


class UnaryAnswer(_Answer[T]):
    """A call for one message: await it to get that message. It has begun already."""

    def __init__(
        self,
        parts: Coroutine[Any, Any, tuple[bytes, Metadata, Metadata]],
        drop: Callable[[], object],
        deserialize: Callable[[bytes], T] | None,
        requests: WrittenRequests | None = None,
    ) -> None:
        super().__init__(deserialize, requests)
        self._initial: Metadata = ()
        self._parts = parts
        self._drop = drop
        self._task = asyncio.get_running_loop().create_task(self._run(parts))
        self._task.add_done_callback(self._over)

    def __await__(self) -> Generator[Any, None, T]:
        """Wait for the message; raises RpcError. Cancelling the waiting task cancels the call."""
        return self._task.__await__()

    async def initial_metadata(self) -> Pairs:
        """Wait for the answer and return the metadata that came before it."""
        await self._ended.wait()
        return from_wire(self._initial)

    def cancel(self) -> bool:
        """Tell the upstream that nobody waits any more; False if the call is over."""
        return self._task.cancel()

    def cancelled(self) -> bool:
        """Tell whether it was cancelled here."""
        return self._task.cancelled()

    async def _run(self, parts: Awaitable[tuple[bytes, Metadata, Metadata]]) -> T:
        try:
            message, self._initial, trailing = await parts
        except (RpcError, UpstreamFault) as exc:
            error = as_rpc_error(exc)
            self._initial = error.initial_metadata
            self._end(error, error.trailing_metadata)
            raise error from (exc if exc is not error else exc.__cause__)
        self._end(None, trailing)
        return self._message(message)

    def _over(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            # Cancelled before it ran, the task has passed nothing on. Harmless otherwise.
            self._parts.close()
            self._drop()
            self._end(RpcError(Code.CANCELLED, "the call was cancelled here"), ())
            return
        # Whoever asks only for `code()` never awaits the task; that is no mistake.
        error = task.exception()
        if error is not None and not self.done():
            self._end(RpcError(Code.INTERNAL, str(error)), ())


class StreamAnswer(_Answer[T]):
    """
    A call for many messages: iterate over it, or `read` them one by one.

    One that nobody holds any more is cancelled, as with grpc.aio: leaving the loop over it is enough.
    """

    def __init__(
        self,
        stream: CallStream,
        deserialize: Callable[[bytes], T] | None,
        requests: WrittenRequests | None = None,
    ) -> None:
        super().__init__(deserialize, requests)
        self._stream = stream
        self._messages = stream.__aiter__()
        self._cancelled = False

    def __del__(self) -> None:
        """End the call, if it has not ended."""
        self.cancel()

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        try:
            message = await self._messages.__anext__()
        except StopAsyncIteration:
            self._end(None, await self._stream.trailing_metadata())
            raise
        except (RpcError, UpstreamFault) as exc:
            error = as_rpc_error(exc)
            self._end(error, error.trailing_metadata)
            raise error from (exc if exc is not error else exc.__cause__)
        except asyncio.CancelledError:
            self.cancel()
            raise
        return self._message(message)

    async def read(self) -> T | None:
        """Return the next message; None at the end of the stream."""
        try:
            return await self.__anext__()
        except StopAsyncIteration:
            return None

    async def initial_metadata(self) -> Pairs:
        """Wait for and return the metadata that came before the first message."""
        try:
            return from_wire(await self._stream.initial_metadata())
        except (RpcError, UpstreamFault) as exc:
            raise as_rpc_error(exc) from exc

    def cancel(self) -> bool:
        """Tell the upstream that nobody waits any more; False if the call is over."""
        if self._ended.is_set():
            return False
        self._cancelled = True
        self._stream.cancel()
        self._end(RpcError(Code.CANCELLED, "the call was cancelled here"), ())
        return True

    def cancelled(self) -> bool:
        """Tell whether it was cancelled here."""
        return self._cancelled


def _drop(reply: Awaitable[Any]) -> None:
    """End a call that nobody has waited for yet; harmless when it is over."""
    if isinstance(reply, Coroutine):
        reply.close()
    elif isinstance(reply, asyncio.Future):
        reply.cancel()


async def _only_message(stream: CallStream) -> tuple[bytes, Metadata, Metadata]:
    only: bytes | None = None
    try:
        async for message in stream:
            if only is not None:
                raise UpstreamProtocolError("the upstream sent two messages where one was due")
            only = message
    except BaseException:
        stream.cancel()
        raise
    if only is None:
        raise UpstreamProtocolError("the upstream said OK without sending a message")
    return only, await stream.initial_metadata(), await stream.trailing_metadata()


def as_rpc_error(error: RpcError | UpstreamFault) -> RpcError:
    """Return *error* as the status that grpc.aio would give it."""
    if isinstance(error, RpcError):
        return error
    if isinstance(error, UpstreamTimeout):
        return RpcError(Code.DEADLINE_EXCEEDED, str(error))
    if isinstance(error, UpstreamProtocolError):
        return RpcError(Code.INTERNAL, str(error))
    return RpcError(Code.UNAVAILABLE, str(error))


def to_wire(pairs: Pairs | None) -> Metadata:
    """Turn metadata as people write it into what travels; characters are checked when it is sent."""
    return [
        (name.encode(), value.encode() if isinstance(value, str) else bytes(value))
        for name, value in pairs or ()
    ]


def from_wire(pairs: Metadata) -> Pairs:
    """Turn metadata as it came into what people read."""
    return tuple(
        (name.decode(), value if name.endswith(b"-bin") else value.decode("latin-1")) for name, value in pairs
    )
