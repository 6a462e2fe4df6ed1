"""
Interceptors of a `Channel`: what happens around every call of a kind.

The first one named sees the call first and its outcome last. A call goes only through those that say
something about its kind, so that a channel without interceptors, or with some for streams alone, pays nothing
for its unary calls.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar

from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError
from silence_gateway.rpc_words import WirePairs
from silence_gateway.upstreams.channel_call import Terms
from silence_gateway.upstreams.stream_answer import StreamAnswer
from silence_gateway.upstreams.unary_answer import UnaryAnswer
from silence_gateway.upstreams.written_requests import WrittenRequests

T = TypeVar("T")

Kind: TypeAlias = Literal["unary_unary", "unary_stream", "stream_unary", "stream_stream"]


@dataclass(slots=True)
class OutgoingCall:
    """
    A call on its way out. Change what you like before you let it proceed.

    Attributes:
        method: `/package.Service/Method`.
        request: The message, or an iterator of messages for methods that take a stream. Such an iterator can
            be used up once: a call that is to be made again needs messages that were kept.
        timeout: Seconds from the moment it proceeds; None for the upstream's own.
        metadata: Pairs to send, in order; values are text, but bytes for names that end in `-bin`.
        wait_for_ready: Whether to wait for an endpoint instead of failing at once.
        compression: How its requests are packed, as of `Channel`; None for what the channel says.
    """

    method: str
    request: Any
    timeout: float | None
    metadata: list[tuple[str, str | bytes]]
    wait_for_ready: bool | None
    compression: str | int | None = None


ProceedUnary: TypeAlias = "Callable[[OutgoingCall], UnaryAnswer[Any]]"
"""Makes the call and returns it: await it for its message, ask it for its code and its metadata."""

ProceedStream: TypeAlias = "Callable[[OutgoingCall], StreamAnswer[Any]]"
"""Makes the call and returns it: iterate over it for its messages, ask it for its code and its metadata."""


class Interceptor:
    """
    Override the methods for the kinds of calls that you want to see; call `proceed` never, once or often.

    What you return or yield is what the caller gets, and an RpcError that you raise is how the call ends. The
    metadata that the caller sees is that of the call that you let proceed last.
    """

    async def unary_unary(self, call: OutgoingCall, proceed: ProceedUnary) -> Any:
        """Return the message of a call with one request and one message."""
        return await proceed(call)

    async def stream_unary(self, call: OutgoingCall, proceed: ProceedUnary) -> Any:
        """Return the message of a call with many requests and one message."""
        return await proceed(call)

    async def unary_stream(self, call: OutgoingCall, proceed: ProceedStream) -> AsyncIterator[Any]:
        """Yield the messages of a call with one request."""
        async for message in proceed(call):
            yield message

    async def stream_stream(self, call: OutgoingCall, proceed: ProceedStream) -> AsyncIterator[Any]:
        """Yield the messages of a call with many requests."""
        async for message in proceed(call):
            yield message


def handlers(interceptors: Sequence[Interceptor], kind: Kind) -> list[Callable[..., Any]]:
    """
    Return what *interceptors* say about calls of *kind*, the first one first.

    Raises:
        TypeError: One of them is no `Interceptor`, or its method for *kind* is of the wrong form.
    """
    found: list[Callable[..., Any]] = []
    for interceptor in interceptors:
        if not isinstance(interceptor, Interceptor):
            raise TypeError(
                f"{interceptor!r} is no silence_gateway.Interceptor: give instances of it "
                "(those of grpcio have another shape)"
            )
        if getattr(type(interceptor), kind) is not getattr(Interceptor, kind):
            found.append(_of_good_form(interceptor, kind))
    return found


def _of_good_form(interceptor: Interceptor, kind: Kind) -> Callable[..., Any]:
    """Return the method for *kind*; told now, because in the middle of a call nobody would understand it."""
    method: Callable[..., Any] = getattr(interceptor, kind)
    where = f"{type(interceptor).__name__}.{kind}"
    if kind.endswith("_stream") and inspect.iscoroutinefunction(method):
        raise TypeError(f"{where} returns: write `async for message in proceed(call): yield message`")
    if kind.endswith("_unary") and inspect.isasyncgenfunction(method):
        raise TypeError(f"{where} yields: write `return await proceed(call)`")
    return method


class InterceptedUnary(UnaryAnswer[T]):
    """A call for one message that goes through an interceptor."""

    __slots__ = ("_inner", "_proceeds")

    def __init__(
        self, terms: Terms, deadline_s: float | None, requests: WrittenRequests | None = None
    ) -> None:
        super().__init__(terms, deadline_s, requests)
        self._inner: UnaryAnswer[Any] | None = None
        self._proceeds = self._head = asyncio.Event()

    async def run_intercepted(
        self, handler: Callable[..., Coroutine[Any, Any, Any]], call: OutgoingCall, proceed: ProceedUnary
    ) -> None:
        """Have *handler* see to *call*."""

        def go_on(call: OutgoingCall) -> UnaryAnswer[Any]:
            self._inner = inner = proceed(call)
            self._proceeds.set()
            return inner

        try:
            message = await handler(call, go_on)
            self._message = await message if isinstance(message, UnaryAnswer) else message
        except Exception as exc:  # noqa: BLE001 - told to whoever awaits the call
            self._fail(exc)
        else:
            if self._inner is not None:
                self._initial, self._trailing = self._inner.wire_metadata
        finally:
            self._stopped()

    async def wire_initial_metadata(self) -> WirePairs:
        """Return that of the call that proceeded last, as soon as it is known."""
        await self._head_or_end()
        if self._inner is None or self._work.done():
            return self._initial
        return await self._inner.wire_initial_metadata()


class InterceptedStream:
    """A `CallStream` that an interceptor yields. Its messages are whatever that yields."""

    def __init__(self, handler: Callable[..., Any], call: OutgoingCall, proceed: ProceedStream) -> None:
        self._proceed = proceed
        self._inner: StreamAnswer[Any] | None = None
        self._first: asyncio.Task[Any] | None = None
        self._turn = asyncio.Lock()
        self._underway = asyncio.Event()
        self._over = False
        self._gone = False
        self._messages = aiter(handler(call, self._go_on))

    def __aiter__(self) -> InterceptedStream:
        return self

    async def __anext__(self) -> Any:
        # Those who read and those who ask for the end take turns: a generator cannot be resumed twice.
        async with self._turn:
            if self._gone:
                raise RpcError(Code.CANCELLED, "the call was cancelled here")
            try:
                if self._first is None:
                    return await anext(self._messages)
                first, self._first = self._first, None
                return await first
            except BaseException:
                self._over = True
                raise
            finally:
                self._underway.set()

    async def begun(self) -> None:
        """Wait until the call proceeds, or the interceptor has an answer of its own."""
        await self._proceeds()
        if self._inner is not None:
            await self._inner.wait_for_connection()

    async def initial_metadata(self) -> WirePairs:
        """Return that of the call that proceeded last."""
        await self._proceeds()
        return () if self._inner is None else await self._inner.wire_initial_metadata()

    async def trailing_metadata(self) -> WirePairs:
        """Wait for the end of the call that proceeded last, and return its trailing metadata."""
        await self._proceeds()
        return () if self._inner is None else await self._inner.wire_trailing_metadata()

    def cancel(self) -> None:
        """Tell the upstream that nobody waits any more."""
        if not self._over:
            self._gone = True
            self._underway.set()
            if self._first is not None:
                self._first.cancel()
            if self._inner is not None:
                self._inner.cancel()

    def _go_on(self, call: OutgoingCall) -> StreamAnswer[Any]:
        self._inner = inner = self._proceed(call)
        self._underway.set()
        return inner

    async def _proceeds(self) -> None:
        """Have the interceptor run until the call proceeds; if nobody reads yet, to its first message."""
        if not self._underway.is_set() and self._first is None and not self._turn.locked():
            self._first = asyncio.get_running_loop().create_task(_next(self._messages))
            self._first.add_done_callback(self._first_came)
        await self._underway.wait()

    def _first_came(self, task: asyncio.Task[Any]) -> None:
        self._underway.set()
        if not task.cancelled():
            # Read here, because nobody may ever read the stream; who does is told all the same.
            task.exception()


async def _next(messages: AsyncIterator[T]) -> T:
    return await anext(messages)
