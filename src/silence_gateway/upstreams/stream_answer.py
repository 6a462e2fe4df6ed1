"""
A call for many messages, as its caller holds it.

How it ended is known to the stream under it only once its messages have been taken. So whoever asks how it
ended first waits for the end, and then takes what is left of the messages into a queue of ours, from which
reading goes on: memory stays bounded, because flow control has bounded what was left.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, Protocol, Self, TypeVar, runtime_checkable
from weakref import ReferenceType, ref

from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError, UpstreamFault
from silence_gateway.rpc_words import WirePairs
from silence_gateway.upstreams.channel_call import ChannelCall, Ended, Terms
from silence_gateway.upstreams.channel_words import cancelled_here
from silence_gateway.upstreams.contracts import CallStream
from silence_gateway.upstreams.written_requests import WrittenRequests

T = TypeVar("T")


@runtime_checkable
class Begins(Protocol):
    """A stream that may have to wait before it is on its way."""

    async def begun(self) -> None:
        """Wait until it is on its way; raises what it failed with, if it cannot be."""


class StreamAnswer(ChannelCall[T]):
    """
    A call for many messages: iterate over it, or `read` them one by one.

    Iterating and `read` raise RpcError if the call failed, and CancelledError if it was cancelled here.
    Cancelling a task that waits for a message cancels the call. One that nobody holds any more is cancelled:
    leaving the loop over it is enough.
    """

    __slots__ = (
        "__weakref__",
        "_callbacks",
        "_cancelled",
        "_deadline_s",
        "_deserialize",
        "_ended",
        "_failure",
        "_follower",
        "_left",
        "_next",
        "_on_its_way",
        "_requests",
        "_stream",
        "_taking",
        "_terms",
    )

    def __init__(
        self,
        terms: Terms,
        deadline_s: float | None,
        stream: CallStream,
        requests: WrittenRequests | None = None,
    ) -> None:
        self._terms = terms
        self._deadline_s = deadline_s
        self._requests = requests
        self._stream = stream
        self._next = aiter(stream).__anext__
        self._deserialize = terms.deserialize
        self._cancelled = self._on_its_way = False
        self._ended: Ended | None = None
        self._failure: BaseException | None = None
        self._follower: asyncio.Task[None] | None = None
        self._taking: asyncio.Future[None] | None = None
        self._left: deque[bytes] = deque()
        self._callbacks: list[Callable[[Any], object]] = []

    def __del__(self) -> None:
        """End the call, if it has not ended."""
        if self._ended is None:
            self._stream.cancel()
            if self._requests is not None:
                self._requests.stop()

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        if self._taking is not None:
            await self._taken()
        if self._left:
            return self._message(self._left.popleft())
        if self._ended is None:
            try:
                message = await self._next()
                if self._left:
                    # Who asked for the end was before us: what it has taken comes first.
                    self._left.append(message)
                    message = self._left.popleft()
                return message if self._deserialize is None else self._message(message)  # type: ignore[return-value]
            except asyncio.CancelledError:
                self.cancel()
                raise
            except StopAsyncIteration:
                await self._end_well()
            except Exception as exc:  # noqa: BLE001 - whatever it is, it ends the call, and is raised below
                self._end_with(exc)
            # Somebody who asked for the end may have taken the last messages meanwhile.
            if self._left:
                return self._message(self._left.popleft())
        self._raise_failure()
        raise StopAsyncIteration

    async def read(self) -> T | Any:
        """Return the next message; None at the end, or `grpc.aio.EOF` where the channel is `as_grpcio`."""
        try:
            return await self.__anext__()
        except StopAsyncIteration:
            return self._terms.words.end

    async def initial_metadata(self) -> Any:
        """Wait for and return the metadata that came before the first message; none if it failed."""
        return self._terms.words.metadata(await self.wire_initial_metadata())

    async def wire_initial_metadata(self) -> WirePairs:
        """Do as `initial_metadata`, with the pairs as they came."""
        if self._cancelled:
            return ()
        # A task, which holds nothing but the stream: giving up waiting for this must not cancel the call.
        heading = asyncio.get_running_loop().create_task(_head_of(self._stream))
        heading.add_done_callback(_look)
        await asyncio.wait((heading,))
        return heading.result()

    async def wire_trailing_metadata(self) -> WirePairs:
        """Do as `trailing_metadata`, with the pairs as they came."""
        return (await self._ending()).trailing

    async def wait_for_connection(self) -> None:
        """
        Wait until the call is on its way.

        Raises:
            RpcError: It has failed already.
        """
        await self._begun()
        self._raise_failure()

    def cancel(self) -> bool:
        """Tell the upstream that nobody waits any more; False if the call is over."""
        if self._ended is not None:
            return False
        self._cancelled = True
        self._left.clear()
        self._stream.cancel()
        self._end(cancelled_here(), ())
        return True

    def cancelled(self) -> bool:
        """Tell whether the call ended with CANCELLED."""
        ended = self._ended
        return ended is not None and ended.error is not None and ended.error.code == Code.CANCELLED

    def done(self) -> bool:
        """Tell whether the call is known to be over: its end was read, or asked for."""
        return self._ended is not None

    def add_done_callback(self, callback: Callable[[Self], object]) -> None:
        """Call *callback* with this call when it is over; soon, if it is over already."""
        if self._ended is None:
            self._callbacks.append(callback)
            self._follow().add_done_callback(self._hold)
        else:
            asyncio.get_running_loop().call_soon(callback, self)

    async def _begun(self) -> None:
        if self._on_its_way or self._ended is not None:
            return
        try:
            if isinstance(self._stream, Begins):
                await self._stream.begun()
            self._on_its_way = True
        except (RpcError, UpstreamFault) as exc:
            self._end_with(exc)
            self._raise_failure()

    async def _ending(self) -> Ended:
        while self._ended is None:
            # Waiting for the end must not cancel the call when whoever waits is cancelled.
            await asyncio.wait((self._follow(),))
        return self._ended

    def _follow(self) -> asyncio.Task[None]:
        if self._follower is None or self._follower.done():
            following = _following(ref(self), self._stream)
            self._follower = asyncio.get_running_loop().create_task(following)
        return self._follower

    def _hold(self, _follower: asyncio.Task[None]) -> None:
        """Do nothing; who has this called after the end keeps the call until then."""

    def _mind_the_end(self) -> None:
        # Nobody else may: who writes everything before reading anything would wait for ever.
        self._follow()

    async def take_what_is_left(self) -> None:
        """Take one more message, after an end; it may be that of the call."""
        self._taking = taking = asyncio.get_running_loop().create_future()
        try:
            self._left.append(await self._next())
        except StopAsyncIteration:
            await self._end_well()
        except asyncio.CancelledError:
            self.cancel()
            raise
        except Exception as exc:  # noqa: BLE001 - whatever it is, it ends the call, and is told to who asks
            self._end_with(exc)
        finally:
            self._taking = None
            taking.set_result(None)

    async def _taken(self) -> None:
        """Wait for a message that is taken for who asked how the call ends: those after it come later."""
        try:
            while self._taking is not None and not self._left:
                await asyncio.wait((self._taking,))
        except asyncio.CancelledError:
            self.cancel()
            raise

    async def _end_well(self) -> None:
        trailing = await self._stream.trailing_metadata()
        if self._ended is None:
            self._end(None, trailing)

    def _end_with(self, error: Exception) -> None:
        if self._ended is not None:
            return
        traceback = error.__traceback__
        if traceback is not None:
            # Without the frame of this call, or the two would keep each other.
            error.__traceback__ = traceback.tb_next
        if isinstance(error, RpcError | UpstreamFault):
            told = self._terms.told(error)
            self._end(told, told.trailing_metadata)
        else:
            self._failure = error
            self._stream.cancel()
            self._end(RpcError(Code.INTERNAL, f"the call could not be made or read: {error}"), ())

    def _end(self, error: RpcError | None, trailing: WirePairs) -> None:
        self._ended = Ended(error, trailing)
        if self._requests is not None:
            self._requests.stop()
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            asyncio.get_running_loop().call_soon(callback, self)

    def _raise_failure(self) -> None:
        ended = self._ended
        if self._cancelled:
            raise asyncio.CancelledError
        if self._failure is not None:
            raise self._failure
        if ended is not None and ended.error is not None:
            raise self._terms.words.error(ended.error)

    def _message(self, message: bytes) -> T:
        if self._deserialize is None:
            return message  # type: ignore[return-value]  # T is bytes when nothing turns them into more
        try:
            return self._deserialize(message)  # type: ignore[no-any-return]
        except Exception as exc:
            self._end_with(exc)
            raise


async def _following(answer: ReferenceType[StreamAnswer[Any]], stream: CallStream) -> None:
    """
    Take what is left of the messages of *answer* at its end; *stream* is what carries it.

    It holds nothing of the call until then, so that one that nobody else holds is cancelled; nor does its
    frame, which the error of a call may keep.
    """
    while True:
        try:
            # Each time, because a call that is made again has another end to be waited for. What went wrong
            # is told by what is taken next.
            with suppress(Exception):
                await stream.trailing_metadata()
        except asyncio.CancelledError:
            _cancel(answer())
            raise
        if not await _took(answer()):
            return


def _cancel(call: StreamAnswer[Any] | None) -> None:
    if call is not None:
        call.cancel()


async def _took(call: StreamAnswer[Any] | None) -> bool:
    """Take a message of *call*, or its end; False if it is over already."""
    if call is None or call.done():
        return False
    await call.take_what_is_left()
    return True


async def _head_of(stream: CallStream) -> WirePairs:
    try:
        return await stream.initial_metadata()
    except RpcError as exc:
        return exc.initial_metadata
    except UpstreamFault:
        return ()  # why is told to who reads, or asks for the code


def _look(task: asyncio.Task[WirePairs]) -> None:
    """Look at how it ended, because whoever waited may have left: that is no mistake."""
    if not task.cancelled():
        task.exception()
