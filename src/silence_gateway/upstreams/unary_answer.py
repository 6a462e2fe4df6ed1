"""
A call for one message, as its caller holds it.

Hot path: with stubs, every call with one request is a `CarriedUnary`, which is what carries the call and
nothing else: no task, no event, no callback, no closure. Its end is read when somebody asks for it.
Measured: 1.2 us of CPython 3.11 on top of what carries the call (`bench/calls.py`).
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from typing import Any, Self, TypeVar

from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError, UpstreamFault, UpstreamProtocolError
from silence_gateway.rpc_words import WirePairs
from silence_gateway.upstreams.call import UnaryCall
from silence_gateway.upstreams.channel_call import ChannelCall, Ended, Terms
from silence_gateway.upstreams.channel_words import cancelled_here
from silence_gateway.upstreams.contracts import CallStream, Metadata, Reply
from silence_gateway.upstreams.written_requests import WrittenRequests

T = TypeVar("T")

MakeStream = Callable[[bytes, WrittenRequests, Metadata, "float | None"], CallStream]


class UnaryAnswer(ChannelCall[T]):
    """
    A call for one message: await it to get that message. It begins at once, whether or not it is awaited.

    Awaiting raises RpcError if the call failed, and CancelledError if it was cancelled here. Cancelling a
    task that awaits it cancels the call.
    """

    __slots__ = (
        "__weakref__",
        "_cancelling",
        "_deadline_s",
        "_error",
        "_head",
        "_initial",
        "_message",
        "_requests",
        "_terms",
        "_trailing",
        "_work",
    )

    _error: BaseException | None
    _head: asyncio.Event | None
    _initial: WirePairs
    _message: T
    _trailing: WirePairs
    _work: Future[Any]

    def __init__(
        self, terms: Terms, deadline_s: float | None, requests: WrittenRequests | None = None
    ) -> None:
        self._terms = terms
        self._deadline_s = deadline_s
        self._requests = requests
        self._error = None
        self._head = None if requests is None else asyncio.Event()
        self._initial = self._trailing = ()
        self._cancelling = False

    def begin(self, work: Coroutine[Any, Any, None]) -> Self:
        """Run *work*, which must be one of this call's own ways to run."""
        self._work = asyncio.get_running_loop().create_task(work)
        self._terms.running.add(self)
        return self

    # The ways to run. None of them raises, so that a call whose end nobody asks for is no mistake.

    async def run_stream(self, make: MakeStream, metadata: WirePairs) -> None:
        """Send the requests that there are, and expect one message."""
        terms = self._terms
        requests = self._requests
        assert requests is not None
        try:
            stream = make(terms.path, requests, metadata, self._deadline_s)
            try:
                self._initial = await stream.initial_metadata()
                assert self._head is not None
                self._head.set()
                message = await _only_message(stream)
                self._trailing = await stream.trailing_metadata()
            except BaseException:
                stream.cancel()
                raise
            self._message = message if terms.deserialize is None else terms.deserialize(message)  # type: ignore[assignment]
        except Exception as exc:  # noqa: BLE001 - told to whoever awaits the call
            self._fail(exc)
        finally:
            self._stopped()

    def _stopped(self) -> None:
        self._terms.running.discard(self)
        if self._requests is not None:
            self._requests.stop()

    def _fail(self, error: Exception) -> None:
        traceback = error.__traceback__
        if traceback is not None:
            # Without the frame of this call, or the two would keep each other.
            error.__traceback__ = traceback.tb_next
        if isinstance(error, RpcError | UpstreamFault):
            told = self._terms.told(error)
            self._initial = told.initial_metadata
            self._trailing = told.trailing_metadata
            self._error = told
        else:
            self._error = error

    def _settle(self) -> None:
        """Read how a call ended that is over; here its way to run has done so."""

    def _raise_failure(self) -> None:
        if isinstance(self._error, RpcError):
            raise self._terms.words.error(self._error)

    # What the caller uses.

    def __await__(self) -> Generator[Any, None, T]:
        work = self._work
        if not work.done():
            try:
                yield from work
            except asyncio.CancelledError:
                self._cancelling = True
                self._stopped()  # one that had not run yet never will
                raise
        elif work.cancelled():
            raise asyncio.CancelledError
        error = self._error
        if error is None:
            return self._message
        raise self._terms.words.error(error) if isinstance(error, RpcError) else error

    async def initial_metadata(self) -> Any:
        """
        Wait for and return the metadata that came before the message, as pairs.

        Of a call with one request it is known when the message is.
        """
        return self._terms.words.metadata(await self.wire_initial_metadata())

    async def wire_initial_metadata(self) -> WirePairs:
        """Do as `initial_metadata`, with the pairs as they came."""
        await self._head_or_end()
        return self._initial

    async def _head_or_end(self) -> None:
        work, head = self._work, self._head
        if head is None:
            await self._over()
        elif not work.done() and not head.is_set():
            waiting = asyncio.get_running_loop().create_task(head.wait())
            try:
                await asyncio.wait((work, waiting), return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()

    async def wait_for_connection(self) -> None:
        """Wait until the call is over, as it has no earlier sign; raises as awaiting it does."""
        await self

    def cancel(self) -> bool:
        """Tell the upstream that nobody waits any more; False if the call is over."""
        if self.done() or not self._work.cancel():
            return False
        self._cancelling = True
        self._stopped()
        return True

    def cancelled(self) -> bool:
        """Tell whether the call ended with CANCELLED."""
        if not self._work.done():
            return self._cancelling
        self._settle()
        return self._work.cancelled() or (
            isinstance(self._error, RpcError) and self._error.code == Code.CANCELLED
        )

    def done(self) -> bool:
        """Tell whether the call is over."""
        return self._work.done() or self._cancelling

    def add_done_callback(self, callback: Callable[[Self], object]) -> None:
        """Call *callback* with this call when it is over; soon, if it is over already."""
        self._work.add_done_callback(partial(_with_call, callback, self))

    @property
    def wire_metadata(self) -> tuple[WirePairs, WirePairs]:
        """What came before the message and with the status, of a call that is over."""
        self._settle()
        return self._initial, self._trailing

    async def _over(self) -> None:
        if not self._work.done():
            await asyncio.wait((self._work,))
        self._settle()

    async def _ending(self) -> Ended:
        await self._over()
        if self._work.cancelled():
            return Ended(cancelled_here())
        error = self._error
        if error is None or isinstance(error, RpcError):
            return Ended(error, self._trailing)
        return Ended(RpcError(Code.INTERNAL, f"the call could not be made or read: {error}"))


class CarriedUnary(UnaryAnswer[T]):
    """A call with one request: it *is* what carries it. Made by `carried`."""

    __slots__ = ("_settled",)

    _head = None
    _requests = None
    _settled: bool

    def __await__(self) -> Generator[Any, None, T]:
        if not self._settled:
            work = self._work
            try:
                reply = yield from work
            except asyncio.CancelledError:
                self._cancelling = True
                self._stopped()
                raise
            except Exception as exc:  # noqa: BLE001 - told to whoever awaits the call
                self._settled_with(exc)
            else:
                self._take(reply)
        error = self._error
        if error is None:
            return self._message
        raise self._terms.words.error(error) if isinstance(error, RpcError) else error

    def _settle(self) -> None:
        work = self._work
        if self._settled:
            return
        if work.cancelled() or not work.done():
            # Interceptors may answer without waiting for the call that they let proceed.
            self._initial = self._trailing = ()
            return
        error = work.exception()
        if error is None:
            self._take(work.result())
            return
        assert isinstance(error, Exception)  # all that carriers end with, but for a cancellation
        self._settled_with(error)

    def _settled_with(self, error: Exception) -> None:
        self._settled = True
        self._initial = self._trailing = ()
        self._fail(error)
        self._stopped()

    def _take(self, reply: Reply) -> None:
        """Read what the carrier was answered; only the first of those that wait for it gets here."""
        terms = self._terms
        terms.carried.discard(self._work)
        self._settled = True
        self._error = None
        self._initial = reply.initial_metadata
        self._trailing = reply.trailing_metadata
        deserialize = terms.deserialize
        if deserialize is None:
            self._message = reply.message  # type: ignore[assignment]  # T is bytes then
            return
        try:
            self._message = deserialize(reply.message)
        except Exception as exc:  # noqa: BLE001 - told to whoever awaits the call
            self._fail(exc)

    def _stopped(self) -> None:
        self._terms.carried.discard(self._work)


_new: Callable[[type[CarriedUnary[Any]]], CarriedUnary[Any]] = CarriedUnary.__new__


def carried(terms: Terms, deadline_s: float | None, made: Awaitable[Reply]) -> CarriedUnary[Any]:
    """
    Return the call that *made* carries, as its caller holds it; a coroutine becomes a task.

    Raises:
        ValueError: *made* can be no task.
    """
    if type(made) is not UnaryCall and not isinstance(made, Future):
        made = asyncio.ensure_future(made)
        made.add_done_callback(_look)
    # Not by a constructor, which would take 0.1 us of each call.
    call = _new(CarriedUnary)
    call._terms = terms  # noqa: SLF001 - this is the constructor
    call._deadline_s = deadline_s  # noqa: SLF001
    call._work = made  # noqa: SLF001
    call._settled = call._cancelling = False  # noqa: SLF001
    running = terms.carried
    running.add(made)
    if len(running) > running.sweep_at:
        running.sweep()
    return call


def made_to_fail(error: Exception) -> Future[Reply]:
    """Return what carries a call that could not be made."""
    made: Future[Reply] = asyncio.get_running_loop().create_future()
    made.set_exception(error)
    _look(made)
    return made


def _look(task: Future[Reply]) -> None:
    """Look at the end of a call, because nobody else may: that is no mistake."""
    if not task.cancelled():
        task.exception()


def _with_call(callback: Callable[[Any], object], call: object, _task: object) -> None:
    callback(call)


async def _only_message(stream: CallStream) -> bytes:
    only: bytes | None = None
    async for message in stream:
        if only is not None:
            raise UpstreamProtocolError("the upstream sent two messages where one was due")
        only = message
    if only is None:
        raise UpstreamProtocolError("the upstream said OK without sending a message")
    return only
