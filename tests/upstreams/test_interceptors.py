"""Interceptors of a channel, on a real server and all four kinds of calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from tests.upstreams.channel_sides import TalkativeService, until_set

from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError
from silence_gateway.upstreams.channel import Channel
from silence_gateway.upstreams.interceptors import Interceptor, OutgoingCall, ProceedStream, ProceedUnary

pytestmark = pytest.mark.system


class Yard:
    """A real server and channels to it."""

    def __init__(self, echo: SimpleNamespace, server: Any) -> None:
        self.echo = echo
        self.server = server
        self.service: TalkativeService = server.service

    def text(self, text: str = "", **more: Any) -> Any:
        return self.echo.pb2.Text(text=text, **more)

    def channel(self, *interceptors: Interceptor, **more: Any) -> Channel:
        return Channel(self.server.address, interceptors=interceptors, **more)

    def run(
        self, scenario: Callable[[Any], Awaitable[None]], *interceptors: Interceptor, **more: Any
    ) -> None:
        async def connected() -> None:
            async with asyncio.timeout(10), self.channel(*interceptors, **more) as channel:
                await scenario(self.echo.grpc.EchoStub(channel))

        asyncio.run(connected())


@pytest.fixture
def yard(echo: SimpleNamespace, start_server: Any) -> Yard:
    return Yard(echo, start_server(service=TalkativeService))


class Named(Interceptor):
    """Writes down what passes, and adds its name to the metadata."""

    def __init__(self, name: str, seen: list[str]) -> None:
        self.name = name
        self.seen = seen

    def out(self, call: OutgoingCall) -> None:
        self.seen.append(f"{self.name} out {call.method.rpartition('/')[2]}")
        call.metadata.append(("x-by", self.name))

    async def unary_unary(self, call: OutgoingCall, proceed: ProceedUnary) -> Any:
        self.out(call)
        answer = proceed(call)
        message = await answer
        assert await answer.code() is Code.OK
        self.seen.append(f"{self.name} in")
        return message

    async def stream_unary(self, call: OutgoingCall, proceed: ProceedUnary) -> Any:
        self.out(call)
        return proceed(call)

    async def unary_stream(self, call: OutgoingCall, proceed: ProceedStream) -> AsyncIterator[Any]:
        self.out(call)
        async for message in proceed(call):
            yield message
        self.seen.append(f"{self.name} in")

    def stream_stream(self, call: OutgoingCall, proceed: ProceedStream) -> AsyncIterator[Any]:
        self.out(call)
        return proceed(call)


def test_the_first_one_sees_the_call_first_and_its_outcome_last(yard: Yard) -> None:
    seen: list[str] = []

    async def scenario(stub: Any) -> None:
        call = stub.Unary(yard.text("a"), metadata=(("x-by", "me"),))
        assert (await call).text == "a"
        assert [value for name, value in await call.initial_metadata() if name == "x-by"] == ["me", "1", "2"]
        assert ("x-end", "yes") in await call.trailing_metadata()
        assert seen == ["1 out Unary", "2 out Unary", "2 in", "1 in"]

        seen.clear()
        assert [each.count async for each in stub.Split(yard.text(count=2))] == [0, 1]
        assert seen == ["1 out Split", "2 out Split", "2 in", "1 in"]

    yard.run(scenario, Named("1", seen), Named("2", seen))


def test_streams_of_requests_pass_through_whether_iterated_or_written(yard: Yard) -> None:
    seen: list[str] = []

    async def scenario(stub: Any) -> None:
        assert (await stub.Join([yard.text("a"), yard.text("b")])).text == "ab"
        join = stub.Join()
        await join.write(yard.text("a"))
        await join.write(yard.text("b"))
        await join.write(yard.text("c"))
        await join.done_writing()
        assert (await join).text == "abc"
        assert [each.text async for each in stub.Chat(iter([yard.text("a")]))] == ["A"]

        chat = stub.Chat()
        for letter in "abcd":
            await chat.write(yard.text(letter))
        assert (await chat.read()).text == "A"
        await chat.done_writing()
        assert [each.text async for each in chat] == ["B", "C", "D"]
        assert await chat.code() is Code.OK
        assert "2 out Chat" in seen

    yard.run(scenario, Named("1", seen), Named("2", seen))


class Retrying(Interceptor):
    """Makes calls that were turned away again, up to three times."""

    async def unary_unary(self, call: OutgoingCall, proceed: ProceedUnary) -> Any:
        for _ in range(2):
            try:
                return await proceed(call)
            except RpcError.ResourceExhausted:
                call.request = type(call.request)(text="tried again")
        return await proceed(call)


def test_a_call_may_be_made_again_with_another_request(yard: Yard) -> None:
    async def scenario(stub: Any) -> None:
        call = stub.Unary(yard.text("busy", status=8))

        assert (await call).text == "tried again"
        assert await call.code() is Code.OK
        with pytest.raises(RpcError.NotFound, match="NOT_FOUND: no such thing"):
            await stub.Unary(yard.text("no such thing", status=5))

    yard.run(scenario, Retrying())


class Answering(Interceptor):
    """Answers by itself, or refuses."""

    async def unary_unary(self, call: OutgoingCall, proceed: ProceedUnary) -> Any:
        if call.request.text == "refused":
            raise RpcError(Code.PERMISSION_DENIED, "not through here")
        return type(call.request)(text="from the cache")

    async def unary_stream(self, call: OutgoingCall, proceed: ProceedStream) -> AsyncIterator[Any]:
        if call.request.text == "refused":
            raise RpcError(Code.PERMISSION_DENIED, "not through here")
        for number in range(3):
            yield type(call.request)(count=number)


def test_a_call_may_be_answered_or_refused_without_being_made(yard: Yard) -> None:
    async def scenario(stub: Any) -> None:
        call = stub.Unary(yard.text("a"))
        assert (await call).text == "from the cache"
        assert (await call.code(), await call.initial_metadata()) == (Code.OK, ())
        refused = stub.Unary(yard.text("refused"))
        with pytest.raises(RpcError.PermissionDenied, match=r"not through here \(echo.Echo/Unary\)"):
            await refused
        assert await refused.code() is Code.PERMISSION_DENIED

        stream = stub.Split(yard.text("a"))
        assert (await stream.initial_metadata()) == ()
        assert [each.count async for each in stream] == [0, 1, 2]
        assert (await stream.code(), await stream.trailing_metadata()) == (Code.OK, ())
        assert await stub.Split(yard.text("refused")).code() is Code.PERMISSION_DENIED
        refusing = stub.Split(yard.text("refused"))
        with pytest.raises(RpcError.PermissionDenied):
            await refusing.read()
        assert yard.service.deadlines_s == []

    yard.run(scenario, Answering())


class Falling(Interceptor):
    """Answers for a call that it has let proceed, without its answer."""

    def __init__(self, how: str, answer: Any) -> None:
        self.how = how
        self.answer = answer

    async def unary_unary(self, call: OutgoingCall, proceed: ProceedUnary) -> Any:
        proceeding = proceed(call)
        if self.how == "cancels it":
            proceeding.cancel()
        if self.how == "gives up waiting":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(proceeding, 0.02)
        return self.answer

    stream_unary = unary_unary


@pytest.mark.parametrize("deep", [1, 2])
@pytest.mark.parametrize("how", ["does not wait", "cancels it", "gives up waiting"])
def test_a_call_may_be_answered_although_it_was_made(yard: Yard, how: str, deep: int) -> None:
    own = yard.text("own")

    async def scenario(stub: Any) -> None:
        for call in (stub.Hang(yard.text("x")), stub.Join()):
            assert (await call).text == "own"
            assert await call.code() is Code.OK
            assert await call.trailing_metadata() == ()
            assert await call.initial_metadata() in ((), (("x-early", "yes"),))  # as far as it had come
        yard.server.service.release.set()

    yard.run(scenario, *[Falling(how, own) for _ in range(deep)])


class Impatient(Interceptor):
    """Gives every call a fifth of a second."""

    async def unary_unary(self, call: OutgoingCall, proceed: ProceedUnary) -> Any:
        call.timeout = 0.2
        return await proceed(call)


def test_the_timeout_may_be_changed(yard: Yard) -> None:
    async def scenario(stub: Any) -> None:
        with pytest.raises(RpcError.DeadlineExceeded):
            await stub.Hang(yard.text(), timeout=5)

    yard.run(scenario, Impatient())


def test_cancelling_goes_through_to_the_server(yard: Yard) -> None:
    seen: list[str] = []

    async def scenario(stub: Any) -> None:
        call = stub.Hang(yard.text())
        await until_set(yard.service.hanging)
        assert call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until_set(yard.service.left)

        yard.service.hanging.clear()
        stream = stub.Split(yard.text("quiet"))
        assert ("x-early", "yes") in await stream.initial_metadata()
        assert stream.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stream.read()
        assert await stream.code() is Code.CANCELLED
        await until_set(yard.service.stream_left)

        unread = stub.Chat()
        unread.cancel()
        assert await unread.code() is Code.CANCELLED

    yard.run(scenario, Named("1", seen), Named("2", seen))


def test_what_streams_bring_around_their_messages_is_that_of_the_call_below(yard: Yard) -> None:
    async def scenario(stub: Any) -> None:
        stream = stub.Split(yard.text(count=2, status=8))
        await stream.wait_for_connection()
        assert await stream.code() is Code.RESOURCE_EXHAUSTED
        assert [(await stream.read()).count, (await stream.read()).count] == [0, 1]
        with pytest.raises(RpcError.ResourceExhausted, match="after the last"):
            await stream.read()
        assert ("x-end", "yes") in await stream.trailing_metadata()

    yard.run(scenario, Named("1", []))


class OnlyStreams(Interceptor):
    """Says something about one kind of call."""

    async def unary_stream(self, call: OutgoingCall, proceed: ProceedStream) -> AsyncIterator[Any]:
        async for message in proceed(call):
            if message.count:
                yield message


def test_kinds_that_no_interceptor_speaks_of_go_straight(yard: Yard) -> None:
    async def scenario(stub: Any) -> None:
        assert type(stub.Unary(yard.text())).__name__ == "CarriedUnary"
        assert [each.count async for each in stub.Split(yard.text(count=3))] == [1, 2]

    yard.run(scenario, OnlyStreams())


def test_interceptors_speak_our_words_also_for_callers_like_grpcios(yard: Yard) -> None:
    import grpc

    class Told(Interceptor):
        async def unary_unary(self, call: OutgoingCall, proceed: ProceedUnary) -> Any:
            with pytest.raises(RpcError.NotFound):
                await proceed(call)
            raise RpcError(Code.ABORTED, "instead")

    async def scenario(stub: Any) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Unary(yard.text(status=5))
        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.ABORTED, "instead")

    yard.run(scenario, Told(), as_grpcio=True)


def test_what_an_interceptor_breaks_is_raised_as_it_is(yard: Yard) -> None:
    class Broken(Interceptor):
        async def unary_unary(self, call: OutgoingCall, proceed: ProceedUnary) -> Any:
            raise LookupError("my own fault")

    async def scenario(stub: Any) -> None:
        call = stub.Unary(yard.text())
        assert await call.code() is Code.INTERNAL
        with pytest.raises(LookupError, match="my own fault"):
            await call

    yard.run(scenario, Broken())


def test_only_interceptors_of_ours_are_taken() -> None:
    with pytest.raises(TypeError, match=r"no silence_gateway\.Interceptor"):
        Channel("127.0.0.1:1", interceptors=[object()])  # type: ignore[list-item]


class ReturnsAStream(Interceptor):
    async def unary_stream(self, call: OutgoingCall, proceed: ProceedStream) -> Any:  # type: ignore[override]
        return proceed(call)


class YieldsOneAnswer(Interceptor):
    async def unary_unary(self, call: OutgoingCall, proceed: ProceedUnary) -> Any:
        yield await proceed(call)


@pytest.mark.parametrize(
    ("interceptor", "says"),
    [
        (ReturnsAStream(), r"ReturnsAStream\.unary_stream returns: write `async for .* yield message`"),
        (YieldsOneAnswer(), r"YieldsOneAnswer\.unary_unary yields: write `return await proceed\(call\)`"),
    ],
    ids=["returns-a-stream", "yields-one-answer"],
)
def test_an_interceptor_of_the_wrong_form_is_told_before_any_call(
    echo: SimpleNamespace, interceptor: Interceptor, says: str
) -> None:
    """As of grpcio one returns streams too; in the middle of a call it was `not an async iterable`."""
    with pytest.raises(TypeError, match=says):
        echo.grpc.EchoStub(Channel("127.0.0.1:1", interceptors=[interceptor]))
