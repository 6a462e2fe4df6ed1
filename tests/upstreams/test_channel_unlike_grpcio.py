"""What grpcio's channel and ours do differently: each line of docs/reference/grpc-channel.md that says so."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from tests.upstreams.channel_sides import Side, TalkativeService, side, until_set

from silence_gateway.core.status import Code
from silence_gateway.errors import BadRequest, RpcError
from silence_gateway.upstreams.channel import Channel

pytestmark = pytest.mark.system


@pytest.fixture
def both(echo: SimpleNamespace, start_server: Any) -> Any:
    """Run a scenario that gets both sides, each with a server of its own."""

    def run(scenario: Any) -> None:
        async def connected() -> None:
            theirs, ours = start_server(service=TalkativeService), start_server(service=TalkativeService)
            async with (
                asyncio.timeout(10),
                side("grpcio", echo, theirs) as on_theirs,
                side("ours at an address", echo, ours) as on_ours,
            ):
                await scenario(on_theirs, on_ours)

        asyncio.run(connected())

    return run


def test_in_our_words_errors_codes_metadata_and_ends_are_ours(
    echo: SimpleNamespace, start_server: Any
) -> None:
    server = start_server(service=TalkativeService)

    async def scenario() -> None:
        async with asyncio.timeout(10), Channel(server.address) as channel:
            stub = echo.grpc.EchoStub(channel)
            call = stub.Unary(echo.pb2.Text(text="gone", status=5), metadata=[("x-a", "1")])
            with pytest.raises(RpcError.NotFound) as caught:
                await call
            assert not isinstance(caught.value, grpc.RpcError)
            assert caught.value.code() is await call.code() is Code.NOT_FOUND
            assert caught.value.details() == "gone"
            assert ("x-end", "yes") in caught.value.metadata
            assert (await call.initial_metadata()) == (("x-a", "1"),)
            assert await stub.Split(echo.pb2.Text()).read() is None
            with pytest.raises(asyncio.InvalidStateError):
                await stub.Join([]).write(echo.pb2.Text())
        with pytest.raises(asyncio.InvalidStateError):
            stub.Unary(echo.pb2.Text())

    asyncio.run(scenario())


def test_a_channel_that_is_entered_connects_at_once(both: Any) -> None:
    async def scenario(theirs: Side, ours: Side) -> None:
        async with asyncio.timeout(5):
            await ours.channel.wait_for_state_change(grpc.ChannelConnectivity.IDLE)
            while ours.channel.get_state() is not grpc.ChannelConnectivity.READY:
                await ours.channel.wait_for_state_change(ours.channel.get_state())
        assert theirs.channel.get_state() is grpc.ChannelConnectivity.IDLE

    both(scenario)


def test_iterating_and_reading_may_be_mixed(both: Any) -> None:
    async def scenario(theirs: Side, ours: Side) -> None:
        for on in (theirs, ours):
            stream = on.stub.Split(on.text(count=3))
            await stream.read()
            if on.ours:
                assert [message.count async for message in stream] == [1, 2]
                continue
            with pytest.raises(grpc.aio.UsageError):
                _ = [message async for message in stream]
            stream.cancel()

    both(scenario)


def test_a_stream_that_nobody_holds_is_cancelled(both: Any) -> None:
    async def scenario(theirs: Side, ours: Side) -> None:
        for on in (theirs, ours):
            async for _ in on.stub.Split(on.text("long", count=1_000_000)):
                break
            gc.collect()
        await until_set(ours.service.stream_left)
        assert not theirs.service.stream_left.is_set()

    both(scenario)


def test_how_a_stream_went_may_be_asked_before_it_is_read(both: Any) -> None:
    async def scenario(theirs: Side, ours: Side) -> None:
        stream = ours.stub.Split(ours.text(count=2))
        assert await stream.code() is grpc.StatusCode.OK
        assert [message.count async for message in stream] == [0, 1]

        unread = theirs.stub.Split(theirs.text(count=2))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await unread.code()
        unread.cancel()

    both(scenario)


def test_a_stream_is_done_when_its_end_is_known_here(both: Any) -> None:
    async def scenario(_: Side, ours: Side) -> None:
        stream = ours.stub.Split(ours.text(status=7))
        await stream.initial_metadata()
        assert not stream.done()
        await stream.code()
        assert stream.done()

    both(scenario)


def test_a_failing_iterator_of_requests_is_raised_and_not_only_logged(both: Any) -> None:
    def failing(on: Side) -> Iterator[Any]:
        yield on.text("a")
        raise LookupError("my own fault")

    async def scenario(theirs: Side, ours: Side) -> None:
        with pytest.raises(asyncio.CancelledError):
            await theirs.stub.Join(failing(theirs))
        for call in (ours.stub.Join(failing(ours)), ours.stub.Chat(failing(ours))):
            assert await call.code() is grpc.StatusCode.INTERNAL
            with pytest.raises(LookupError, match="my own fault"):
                await (call if hasattr(call, "__await__") else _all(call))

    both(scenario)


async def _all(stream: Any) -> list[Any]:
    return [message async for message in stream]


def test_messages_that_cannot_be_written_or_read_are_errors(both: Any) -> None:
    def refusing(_: bytes) -> Any:
        raise LookupError("not one of mine")

    async def scenario(theirs: Side, ours: Side) -> None:
        sent_as_nothing = await theirs.stub.Unary("no message")
        assert sent_as_nothing == theirs.text()
        with pytest.raises(TypeError):
            ours.stub.Unary("no message")

        assert await theirs.channel.unary_unary("/echo.Echo/Unary", None, refusing)(b"") is None
        with pytest.raises(LookupError):
            await ours.channel.unary_unary("/echo.Echo/Unary", None, refusing)(b"")
        stream = ours.channel.unary_stream("/echo.Echo/Split", None, refusing)(
            ours.text(count=9).SerializeToString()
        )
        with pytest.raises(LookupError):
            await stream.read()
        assert await stream.code() is grpc.StatusCode.INTERNAL

    both(scenario)


class Listening(TalkativeService):
    """Remembers the metadata of every unary call."""

    def __init__(self, pb2: Any) -> None:
        super().__init__(pb2)
        self.heard: list[dict[str, Any]] = []

    def Unary(self, request: Any, context: Any) -> Any:  # noqa: N802 - as in the proto
        self.heard.append(dict(context.invocation_metadata()))
        return super().Unary(request, context)


def test_metadata_that_belongs_to_the_protocol_is_left_out(echo: SimpleNamespace, start_server: Any) -> None:
    reserved = (("grpc-mine", "x"), ("host", "elsewhere"))
    server = start_server(service=Listening)

    async def scenario() -> None:
        async with (
            asyncio.timeout(10),
            side("grpcio", echo, server) as theirs,
            side("ours at an address", echo, server) as ours,
        ):
            for on in (theirs, ours):
                await on.stub.Unary(on.text("a"), metadata=(*reserved, ("x-a", "1")))

    asyncio.run(scenario())

    theirs, ours = server.service.heard
    assert (theirs["grpc-mine"], theirs["host"], theirs["x-a"]) == ("x", "elsewhere", "1")
    assert "grpc-mine" not in ours
    assert "host" not in ours
    assert ours["x-a"] == "1"


def test_a_call_without_time_is_not_sent(echo: SimpleNamespace, start_server: Any) -> None:
    server = start_server(service=Listening)

    async def scenario() -> None:
        async with asyncio.timeout(10), side("ours at an address", echo, server) as ours:
            await ours.stub.Unary(ours.text("a"))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await ours.stub.Unary(ours.text("b"), timeout=0)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

    asyncio.run(scenario())

    assert len(server.service.heard) == 1


def test_metadata_that_cannot_be_sent_says_why(both: Any) -> None:
    async def scenario(theirs: Side, ours: Side) -> None:
        for wrong, why in (("Bad", "not lower-case"), ("x a", "not lower-case"), ("x-a", "printable")):
            pairs = ((wrong, "\u00fc" if wrong == "x-a" else "x"),)
            with pytest.raises(grpc.aio.BaseError, match="execute_batch"):
                await theirs.stub.Unary(theirs.text(), metadata=pairs)
            with pytest.raises(BadRequest, match=why):
                await ours.stub.Unary(ours.text(), metadata=pairs)
        call = ours.stub.Unary(ours.text(), metadata={"x-a": "1"})
        assert (await call.initial_metadata())["x-a"] == "1"
        with pytest.raises(ValueError, match="unpack"):
            await theirs.stub.Unary(theirs.text(), metadata={"x-a": "1"})

    both(scenario)


def test_a_unary_call_without_a_timeout_has_one(echo: SimpleNamespace, start_server: Any) -> None:
    server = start_server(service=TalkativeService)

    async def scenario() -> None:
        async with asyncio.timeout(10), Channel(server.address, timeout_s=0.2) as channel:
            with pytest.raises(RpcError.DeadlineExceeded):
                await echo.grpc.EchoStub(channel).Hang(echo.pb2.Text())
            stream = echo.grpc.EchoStub(channel).Split(echo.pb2.Text(text="quiet"))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await stream.code()

    asyncio.run(scenario())


def test_credentials_per_call_are_refused(both: Any) -> None:
    async def scenario(_: Side, ours: Side) -> None:
        token = grpc.access_token_call_credentials("secret")
        for method in ("Unary", "Split", "Join", "Chat"):
            call = getattr(ours.stub, method)
            with pytest.raises(NotImplementedError, match="credentials"):
                call(ours.text(), credentials=token)

    both(scenario)


def test_interceptors_of_grpcio_are_refused() -> None:
    class Theirs(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
        async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            return await continuation(details, request)

    with pytest.raises(TypeError, match="those of grpcio have another shape"):
        Channel("127.0.0.1:1", interceptors=[Theirs()])
