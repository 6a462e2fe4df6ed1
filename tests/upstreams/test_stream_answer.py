"""A call for many messages: who asks for its end, who writes and who reads are not in each other's way."""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError, UpstreamUnavailable
from silence_gateway.testing.clock import settle
from silence_gateway.testing.local_caller import LocalCaller
from silence_gateway.upstreams.channel import Channel
from silence_gateway.upstreams.contracts import CallStream, Metadata, Reply
from silence_gateway.upstreams.interceptors import Interceptor, OutgoingCall, ProceedStream

WATCH, CHAT = "/shop.Orders/Watch", "/shop.Orders/Chat"
COUNTED = [b"%d" % number for number in range(12)]


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 20))


class Thoughtful(Interceptor):
    """Has something to wait for between two messages."""

    async def unary_stream(self, call: OutgoingCall, proceed: ProceedStream) -> AsyncIterator[Any]:
        async for message in proceed(call):
            await asyncio.sleep(0)
            yield message


@pytest.mark.parametrize("interceptors", [(), (Thoughtful(),), (Thoughtful(), Thoughtful())])
@pytest.mark.parametrize("head_start", [0, 1, 3])
def test_messages_stay_in_order_for_who_reads_while_others_ask_for_the_end(
    interceptors: tuple[Interceptor, ...], head_start: int
) -> None:
    async def counted(_requests: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        for message in COUNTED:
            yield message

    async def scenario() -> None:
        caller = LocalCaller(stream_methods={WATCH.encode(): counted})
        call = Channel(caller, interceptors=interceptors).unary_stream(WATCH)(b"")
        end = asyncio.create_task(call.code())
        for _ in range(head_start):
            await asyncio.sleep(0)
        assert [message async for message in call] == COUNTED
        assert await end is Code.OK

    run(scenario)


class Handed:
    """A stream, and its caller, whose messages are handed to whoever waits; its first end is not its last."""

    def __init__(self) -> None:
        self.waiting: deque[asyncio.Future[bytes]] = deque()
        self.ended = asyncio.Event()
        self.asked_for_end = 0
        self.cancelled = False
        self.error: BaseException | None = None
        self.requests: AsyncIterable[bytes] | None = None

    async def unary(
        self, method: bytes, message: bytes, metadata: Metadata = (), deadline_s: float | None = None
    ) -> Reply:
        raise NotImplementedError

    def stream(
        self,
        method: bytes,
        messages: bytes | AsyncIterable[bytes],
        metadata: Metadata = (),
        deadline_s: float | None = None,
    ) -> CallStream:
        self.requests = None if isinstance(messages, bytes) else messages
        return self

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self.ended.is_set():
            raise self.error or StopAsyncIteration
        waiter: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.waiting.append(waiter)
        return await waiter

    async def initial_metadata(self) -> Metadata:
        return ()

    async def trailing_metadata(self) -> Metadata:
        self.asked_for_end += 1
        if self.asked_for_end == 1:
            raise UpstreamUnavailable("the first attempt never left", sent=False)
        await self.ended.wait()
        if isinstance(self.error, asyncio.CancelledError):
            raise self.error
        return ()

    def cancel(self) -> None:
        self.cancelled = True
        self.error = RpcError(Code.CANCELLED, "the call was cancelled here")
        self.ended.set()
        for waiter in self.waiting:
            if not waiter.done():
                waiter.set_exception(self.error)


def test_what_was_taken_for_who_asked_for_the_end_comes_first_although_a_reader_waited_before() -> None:
    """A call that is made again wakes both, in any order."""

    async def scenario() -> None:
        stream = Handed()
        call = Channel(stream).unary_stream(WATCH)(b"")
        reader = asyncio.create_task(call.read())
        await settle()
        end = asyncio.create_task(call.code())
        await settle()
        reads, follows = stream.waiting
        follows.set_result(b"0")
        await settle()
        reads.set_result(b"1")
        assert [await reader, await call.read()] == [b"0", b"1"]
        stream.ended.set()
        assert await end is Code.OK
        assert await call.read() is None

    run(scenario)


def test_a_read_that_waits_for_what_another_takes_can_be_cancelled() -> None:
    async def scenario() -> None:
        stream = Handed()
        call = Channel(stream).unary_stream(WATCH)(b"")
        end = asyncio.create_task(call.code())
        await settle()
        reader = asyncio.create_task(call.read())
        await settle()
        assert len(stream.waiting) == 1
        reader.cancel()
        await asyncio.wait((reader,))
        assert stream.cancelled
        assert await end is Code.CANCELLED

    run(scenario)


@pytest.mark.parametrize("asked", [True, False])
def test_a_stream_that_was_cancelled_inside_is_a_cancelled_call(*, asked: bool) -> None:
    """Its requests came from something that somebody has cancelled."""

    async def scenario() -> None:
        stream = Handed()
        stream.error = asyncio.CancelledError()
        call = Channel(stream).unary_stream(WATCH)(b"")
        end = asyncio.create_task(call.code())
        if asked:
            stream.asked_for_end = 1
        await settle()
        stream.ended.set()
        for waiter in stream.waiting:
            waiter.cancel()
        assert await asyncio.wait_for(end, 2) is Code.CANCELLED
        assert call.cancelled()

    run(scenario)


@pytest.mark.parametrize("ending", ["write", "done_writing"])
def test_who_writes_and_reads_nothing_is_told_of_the_end(ending: str) -> None:
    async def scenario() -> None:
        stream = Handed()
        stream.asked_for_end = 1
        call = Channel(stream).stream_stream(CHAT)()
        await call.write(b"nobody takes this")
        writer = asyncio.create_task(call.write(b"nor this") if ending == "write" else call.done_writing())
        await settle()
        assert not writer.done()
        stream.error = RpcError(Code.ABORTED, "enough")
        stream.ended.set()
        if ending == "write":
            with pytest.raises(RpcError.Aborted, match="enough"):
                await writer
        else:
            await writer
        assert await call.code() is Code.ABORTED
        with pytest.raises(asyncio.InvalidStateError):
            await call.write(b"nor this")

    run(scenario)


def test_a_stream_that_ended_well_takes_no_more_requests() -> None:
    async def scenario() -> None:
        stream = Handed()
        stream.asked_for_end = 1
        call = Channel(stream).stream_stream(CHAT)()
        await call.write(b"nobody takes this")
        writer = asyncio.create_task(call.write(b"nor this"))
        await settle()
        stream.ended.set()
        with pytest.raises(asyncio.InvalidStateError):
            await writer

    run(scenario)


def test_a_stream_that_nobody_holds_is_cancelled_although_a_write_had_to_wait() -> None:
    async def scenario() -> None:
        stream = Handed()
        stream.asked_for_end = 1
        call = Channel(stream).stream_stream(CHAT)()
        await call.write(b"first")
        writer = asyncio.create_task(call.write(b"second"))
        await settle()
        assert stream.requests is not None
        assert await anext(aiter(stream.requests)) == b"first"
        await writer
        del call, writer
        gc.collect()
        assert stream.cancelled

    run(scenario)


def test_a_stream_that_has_a_callback_is_held_until_it_was_told() -> None:
    async def scenario() -> None:
        stream = Handed()
        stream.asked_for_end = 1
        told: list[Any] = []
        Channel(stream).unary_stream(WATCH)(b"").add_done_callback(told.append)
        await settle()
        gc.collect()
        assert not stream.cancelled
        stream.ended.set()
        await settle()
        assert [await call.code() for call in told] == [Code.OK]

    run(scenario)
