"""What grpcio's channel and ours do alike: every test runs on both, with the same stub and server."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from inspect import signature
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from tests.upstreams.channel_sides import (
    DIALLING,
    KINDS,
    OnBoth,
    Passing,
    Side,
    failing,
    running_on,
    until_set,
)

from silence_gateway.upstreams.channel import Channel
from silence_gateway.upstreams.interceptors import Interceptor
from silence_gateway.upstreams.stream_answer import StreamAnswer
from silence_gateway.upstreams.unary_answer import UnaryAnswer

pytestmark = pytest.mark.system

Status = grpc.StatusCode


@pytest.fixture(params=KINDS)
def on_both(request: pytest.FixtureRequest, echo: SimpleNamespace, start_server: Any) -> OnBoth:
    return running_on(request.param, echo, start_server)


@pytest.fixture(params=DIALLING)
def dialling(request: pytest.FixtureRequest, echo: SimpleNamespace, start_server: Any) -> OnBoth:
    return running_on(request.param, echo, start_server)


def public(kind: type[Any]) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def test_all_that_grpcios_channel_and_calls_offer_is_there() -> None:
    assert public(grpc.aio.Channel) <= public(Channel)
    for theirs, ours in (
        (grpc.aio.UnaryUnaryCall, UnaryAnswer),
        (grpc.aio.StreamUnaryCall, UnaryAnswer),
        (grpc.aio.UnaryStreamCall, StreamAnswer),
        (grpc.aio.StreamStreamCall, StreamAnswer),
    ):
        assert public(theirs) <= public(ours)


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])
@pytest.mark.parametrize("interceptors", [(), (Passing(),)], ids=["plain", "intercepted"])
def test_methods_and_calls_take_what_grpcios_take(kind: str, interceptors: tuple[Interceptor, ...]) -> None:
    ours = getattr(Channel("127.0.0.1:1", interceptors=interceptors), kind)

    assert [*signature(getattr(grpc.aio.Channel, kind)).parameters][1:] == [*signature(ours).parameters]
    multi_callable = getattr(grpc.aio, f"{kind.title().replace('_', '')}MultiCallable")
    taken = signature(multi_callable.__call__).parameters
    assert set(taken) - {"self"} <= set(signature(ours("/a.B/C")).parameters)


# One request, one message.


def test_a_message_and_what_came_around_it(on_both: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        sent = (("x-a", "1"), ("x-b-bin", b"\0\1"), ("x-a", "2"), ("x-c", ""))
        call = on.stub.Unary(on.text("hello"), timeout=5, metadata=sent)

        assert not call.done()
        assert 4 < call.time_remaining() <= 5
        assert await call == on.text("hello")
        assert await call == on.text("hello")
        initial = await call.initial_metadata()
        assert isinstance(initial, grpc.aio.Metadata)
        assert initial.get_all("x-a") == ["1", "2"]
        assert (initial["x-b-bin"], initial["x-c"]) == (b"\0\1", "")
        trailing = await call.trailing_metadata()
        assert (trailing["x-end"], trailing.get_all("x-a")) == ("yes", ["1", "2"])
        assert (await call.code(), await call.details()) == (Status.OK, "")
        assert call.done()
        assert not call.cancelled()
        assert not call.cancel()
        assert call.time_remaining() > 0

    on_both(scenario)


def test_metadata_may_be_grpcios_own_kind(on_both: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        call = on.stub.Unary(on.text(), metadata=grpc.aio.Metadata(("x-a", "1"), ("x-a", "2")))

        assert (await call.initial_metadata()).get_all("x-a") == ["1", "2"]
        assert on.stub.Unary(on.text()).time_remaining() is None

    on_both(scenario)


@pytest.mark.parametrize("status", [each for each in Status if each is not Status.OK])
def test_each_status_is_raised_with_its_text_and_metadata(on_both: OnBoth, status: grpc.StatusCode) -> None:
    async def scenario(on: Side) -> None:
        call = on.stub.Unary(
            on.text("such is life: 100 % ü", status=status.value[0]), metadata=[("x-a", "1")]
        )

        error = await failing(call)

        assert (error.code(), error.details()) == (status, "such is life: 100 % ü")
        assert error.initial_metadata()["x-a"] == "1"
        assert (error.trailing_metadata()["x-a"], error.trailing_metadata()["x-end"]) == ("1", "yes")
        assert isinstance(error, grpc.RpcError)
        assert await call.code() is status
        assert await call.details() == "such is life: 100 % ü"
        assert (await call.trailing_metadata())["x-end"] == "yes"
        assert (await failing(call)).code() is status
        assert call.cancelled() is (status is Status.CANCELLED)

    on_both(scenario)


def test_a_call_that_nobody_awaits_can_be_asked_how_it_went(on_both: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        call = on.stub.Unary(on.text("again", status=9))

        assert await call.code() is Status.FAILED_PRECONDITION
        assert await call.details() == "again"

    on_both(scenario)


@pytest.mark.parametrize("on_both", ["grpcio", "ours at an address"], indirect=True)
def test_a_method_that_always_fails_takes_no_other_with_it(on_both: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        for _ in range(30):
            assert await on.stub.Unary(on.text(status=13)).code() is Status.INTERNAL

        assert (await on.stub.Unary(on.text("a"))).text == "a"

    on_both(scenario)


def test_rich_details_are_where_grpcio_status_looks_for_them(on_both: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        call = on.stub.Unary(on.text("rich"))
        error = await failing(call)

        status = rpc_status.from_call(error)

        assert (status.code, status.message) == (8, "too much")
        quota = error_details_pb2.QuotaFailure()
        assert status.details[0].Unpack(quota)
        assert quota.violations[0].subject == "user:1"

    on_both(scenario)


def test_a_method_that_is_not_there(on_both: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        nothing = on.channel.unary_unary("/echo.Echo/Nothing", _registered_method=True)

        assert (await failing(nothing(b""))).code() is Status.UNIMPLEMENTED

    on_both(scenario)


def test_without_serializers_messages_are_bytes(on_both: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        raw = on.channel.unary_unary("/echo.Echo/Unary")

        assert await raw(on.text("x").SerializeToString()) == on.text("x").SerializeToString()

    on_both(scenario)


def test_an_answer_that_is_too_large(on_both: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        error = await failing(on.stub.Unary(on.text(count=4 * 1024 * 1024 + 1)))

        assert error.code() is Status.RESOURCE_EXHAUSTED

    on_both(scenario)


def test_naming_no_compression_and_no_credentials_is_naming_the_default(on_both: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        call = on.stub.Unary(on.text("x"), compression=grpc.Compression.NoCompression, credentials=None)

        assert (await call).text == "x"

    on_both(scenario)


# Time.


@pytest.mark.parametrize("timeout", [0.05, 0.000001, 0, -1])
def test_a_deadline_that_passes(on_both: OnBoth, timeout: float) -> None:
    async def scenario(on: Side) -> None:
        began_s = time.monotonic()
        call = on.stub.Hang(on.text(), timeout=timeout)

        assert (await failing(call)).code() is Status.DEADLINE_EXCEEDED
        assert time.monotonic() - began_s < 2
        assert call.time_remaining() == 0
        assert not call.cancelled()
        stream = on.stub.Split(on.text("quiet"), timeout=timeout)
        assert (await failing(stream.read())).code() is Status.DEADLINE_EXCEEDED
        joined = on.stub.Join(timeout=timeout)
        assert (await failing(joined)).code() is Status.DEADLINE_EXCEEDED
        assert await on.stub.Chat(timeout=timeout).code() is Status.DEADLINE_EXCEEDED

    on_both(scenario)


# Cancelling.


def test_cancelling_before_anything_has_happened(on_both: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        unary = [on.stub.Hang(on.text()), on.stub.Join(), on.stub.Join(iter([on.text()]))]
        streams = [on.stub.Split(on.text("quiet")), on.stub.Chat()]
        for call in (*unary, *streams):
            assert call.cancel()
            assert call.cancelled()
            assert call.done()
            assert not call.cancel()
        for call in unary:
            with pytest.raises(asyncio.CancelledError):
                await call
        for stream in streams:
            with pytest.raises(asyncio.CancelledError):
                await stream.read()
        for call in (*unary, *streams):
            assert await call.code() is Status.CANCELLED
            assert "cancel" in (await call.details()).lower()

    on_both(scenario)


def test_cancelling_while_it_runs_reaches_the_server(on_both: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        call = on.stub.Hang(on.text())
        waiter = asyncio.create_task(_waiting_for(call))
        await until_set(on.server.service.hanging)

        assert call.cancel()

        assert await waiter == "cancelled"
        assert await call.code() is Status.CANCELLED
        await until_set(on.server.service.left)

    on_both(scenario)


def test_cancelling_the_task_that_awaits_it_cancels_the_call(on_both: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        call = on.stub.Hang(on.text())
        waiter = asyncio.create_task(_waiting_for(call))
        await until_set(on.server.service.hanging)

        waiter.cancel()

        assert await waiter == "cancelled"
        await until_set(on.server.service.left)
        assert await call.code() is Status.CANCELLED
        assert call.cancelled()

    on_both(scenario)


def test_giving_up_on_its_code_does_not_cancel_the_call(on_both: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        calls = [on.stub.Hang(on.text("x")), on.stub.Split(on.text("quiet", count=1))]
        for call in calls:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await call.code()
        on.server.service.release.set()

        assert (await calls[0]).text == "released"
        assert [message.count async for message in calls[1]] == [0]
        assert await calls[1].code() is Status.OK

    on_both(scenario)


def test_giving_up_on_its_metadata_does_not_cancel_the_call(on_both: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        stream = on.stub.Chat()
        unary = on.stub.Hang(on.text("x"))
        for call in (stream, unary):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await call.initial_metadata()
        on.server.service.release.set()

        await stream.write(on.text("still here"))
        assert (await stream.read()).text == "STILL HERE"
        stream.cancel()
        assert (await unary).text == "released"

    on_both(scenario)


def test_a_call_that_was_cancelled_has_no_metadata(on_both: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        for call in (on.stub.Hang(on.text("x")), on.stub.Split(on.text("quiet"))):
            assert call.cancel()
            assert list(await call.initial_metadata() or ()) == []
            assert list(await call.trailing_metadata() or ()) == []
            assert await call.code() is Status.CANCELLED

    on_both(scenario)


@pytest.mark.parametrize("method", ["Join", "Chat"])
def test_requests_that_were_cancelled_inside_cancel_the_call(on_both: OnBoth, method: str) -> None:
    async def requests(on: Side) -> AsyncIterator[Any]:
        yield on.text("one")
        something = asyncio.get_running_loop().create_future()
        something.cancel()
        await something

    async def scenario(on: Side) -> None:
        call = getattr(on.stub, method)(requests(on))
        end = call if method == "Join" else _all_of(call)
        assert await _waiting_for(asyncio.wait_for(end, 2)) == "cancelled"
        assert await call.code() is Status.CANCELLED
        assert call.cancelled()

    on_both(scenario)


def test_cancelling_a_stream_wakes_who_reads_it(on_both: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        stream = on.stub.Split(on.text("quiet"))
        reader = asyncio.create_task(_waiting_for(stream.read()))
        await until_set(on.server.service.hanging)

        assert stream.cancel()

        assert await reader == "cancelled"
        with pytest.raises(asyncio.CancelledError):
            await stream.read()
        await until_set(on.service.stream_left)

    on_both(scenario)


def test_cancelling_a_read_cancels_the_stream(on_both: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        stream = on.stub.Split(on.text("quiet"))
        reader = asyncio.create_task(_waiting_for(stream.read()))
        await until_set(on.server.service.hanging)

        reader.cancel()

        assert await reader == "cancelled"
        assert stream.cancelled()
        assert await stream.code() is Status.CANCELLED
        await until_set(on.service.stream_left)

    on_both(scenario)


def test_callbacks_are_told_of_the_end_once(on_both: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        told: list[Any] = []
        all_told = asyncio.Event()

        def tell(call: Any) -> None:
            told.append(call)
            if len(told) == 4:
                all_told.set()

        good, bad = on.stub.Unary(on.text()), on.stub.Unary(on.text(status=5))
        left, stream = on.stub.Hang(on.text()), on.stub.Split(on.text(count=1))
        calls = [good, bad, left, stream]
        for call in calls:
            call.add_done_callback(tell)

        left.cancel()
        await good
        await failing(bad)
        assert [message.count async for message in stream] == [0]
        await all_told.wait()

        assert all(told.count(call) == 1 for call in calls)

    on_both(scenario)


async def _waiting_for(awaitable: Any) -> str:
    try:
        await awaitable
    except asyncio.CancelledError:
        return "cancelled"
    return "done"


async def _all_of(stream: Any) -> list[Any]:
    return [message async for message in stream]


# Many messages.


def test_a_stream_is_iterated_over_or_read(on_both: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        assert [message.count async for message in on.stub.Split(on.text(count=3))] == [0, 1, 2]

        stream = on.stub.Split(on.text(count=2))
        assert [(await stream.read()).count, (await stream.read()).count] == [0, 1]
        assert await stream.read() is grpc.aio.EOF
        assert await stream.read() is grpc.aio.EOF
        assert (await stream.code(), await stream.details()) == (Status.OK, "")
        assert (await stream.trailing_metadata())["x-end"] == "yes"
        assert stream.done()
        empty = on.stub.Split(on.text())
        assert await empty.read() is grpc.aio.EOF

    on_both(scenario)


def test_a_stream_that_fails_gives_what_came_before(on_both: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        stream = on.stub.Split(on.text(count=2, status=8))
        counts: list[int] = []
        with pytest.raises(grpc.aio.AioRpcError, match="after the last") as caught:
            await _collect(stream, counts)
        assert counts == [0, 1]
        assert caught.value.code() is Status.RESOURCE_EXHAUSTED
        assert await stream.code() is Status.RESOURCE_EXHAUSTED

        read = on.stub.Split(on.text(count=1, status=8))
        assert (await read.read()).count == 0
        assert (await failing(read.read())).details() == "after the last"
        assert (await failing(read.read())).details() == "after the last"

    on_both(scenario)


def test_a_stream_that_fails_at_once_says_so_to_who_only_asks(on_both: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        stream = on.stub.Split(on.text(status=7))

        assert await stream.code() is Status.PERMISSION_DENIED
        assert (await failing(stream.read())).code() is Status.PERMISSION_DENIED

    on_both(scenario)


def test_metadata_comes_before_the_first_message(on_both: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        stream = on.stub.Split(on.text("quiet", count=1))

        assert (await stream.initial_metadata())["x-early"] == "yes"
        assert not stream.done()
        on.server.service.release.set()
        assert [message.count async for message in stream] == [0]

        join = on.stub.Join()
        assert (await join.initial_metadata())["x-early"] == "yes"
        assert not join.done()
        await join.done_writing()
        assert (await join).count == 0
        assert (await join.initial_metadata())["x-early"] == "yes"

    on_both(scenario)


# Many requests.


def test_requests_come_from_iterators_of_both_kinds(on_both: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        texts = [on.text(letter) for letter in "abc"]

        async def requests() -> AsyncIterator[Any]:
            for text in texts:
                await asyncio.sleep(0)
                yield text

        def slowly() -> Iterator[Any]:
            yield from texts

        for source in (requests(), slowly(), iter(texts), texts, ()):
            assert (await on.stub.Join(source)).text == ("abc" if source != () else "")
        assert [each.text async for each in on.stub.Chat(requests())] == ["A", "B", "C"]
        assert [each.text async for each in on.stub.Chat(texts)] == ["A", "B", "C"]

    on_both(scenario)


def test_requests_are_written_by_hand(on_both: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        join = on.stub.Join(timeout=5)
        for letter in "abc":
            await join.write(on.text(letter))
        await join.done_writing()
        await join.done_writing()
        assert (await join).text == "abc"

        chat = on.stub.Chat()
        await chat.wait_for_connection()
        for letter in "abc":
            await chat.write(on.text(letter))
            assert (await chat.read()).text == letter.upper()
        await chat.done_writing()
        assert await chat.read() is grpc.aio.EOF
        assert await chat.code() is Status.OK

    on_both(scenario)


def test_writing_many_before_reading_any(on_both: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        chat = on.stub.Chat()
        for number in range(20):
            await chat.write(on.text(f"n{number}"))
        await chat.done_writing()

        assert [each.text async for each in chat] == [f"N{number}" for number in range(20)]

    on_both(scenario)


def test_writing_where_nothing_is_taken(on_both: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        done = on.stub.Chat()
        await done.write(on.text("a"))
        await done.done_writing()
        with pytest.raises(asyncio.InvalidStateError):
            await done.write(on.text("b"))
        assert [each.text async for each in done] == ["A"]
        with pytest.raises(asyncio.InvalidStateError):
            await done.write(on.text("b"))

        iterated = on.stub.Join([on.text("a")])
        with pytest.raises(grpc.aio.UsageError):
            await iterated.write(on.text("b"))
        with pytest.raises(grpc.aio.UsageError):
            await iterated.done_writing()
        assert (await iterated).text == "a"

        cancelled = on.stub.Join()
        cancelled.cancel()
        with pytest.raises((asyncio.InvalidStateError, asyncio.CancelledError)):
            await cancelled.write(on.text("b"))

    on_both(scenario)


def test_an_upstream_that_answers_before_the_requests_have_ended(on_both: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        given = 0

        async def forever(last: str) -> AsyncIterator[Any]:
            nonlocal given
            yield on.text("a")
            yield on.text(last)
            while True:
                given += 1
                await asyncio.sleep(0.001)
                yield on.text("z")

        # grpcio may fail to send one more request and tell of that instead.
        instead = set() if on.ours else {Status.INTERNAL}
        code = await on.stub.Join(forever("abort")).code()
        assert code in {Status.FAILED_PRECONDITION} | instead
        chat = on.stub.Chat(forever("bye"))
        assert (await chat.read()).text == "A"
        assert await chat.code() in {Status.OK} | instead
        chat = on.stub.Chat(forever("abort"))
        assert (await chat.read()).text == "A"
        assert (await failing(chat.read())).code() in {Status.ABORTED} | instead
        given_by_then = given
        await asyncio.sleep(0.02)
        assert given <= given_by_then + 2

    on_both(scenario)


def test_writing_to_a_call_that_has_failed(on_both: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        join = on.stub.Join()
        await join.write(on.text("abort"))
        assert await join.code() is Status.FAILED_PRECONDITION

        with pytest.raises(asyncio.InvalidStateError):
            await join.write(on.text("b"))
        await join.done_writing()
        assert (await failing(join)).details() == "no more of this"

    on_both(scenario)


@pytest.mark.parametrize("method", ["Join", "Chat"])
def test_who_writes_and_reads_nothing_learns_that_the_call_has_failed(on_both: OnBoth, method: str) -> None:
    async def scenario(on: Side) -> None:
        call = getattr(on.stub, method)()
        await call.write(on.text("abort"))
        with pytest.raises((grpc.aio.AioRpcError, asyncio.InvalidStateError)) as caught:
            for _ in range(100):
                await asyncio.wait_for(call.write(on.text(payload=bytes(200_000))), 2)
        if on.ours and isinstance(caught.value, grpc.aio.AioRpcError):
            assert caught.value.code() is await call.code()

    on_both(scenario)


def test_waiting_for_the_connection(on_both: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        stream = on.stub.Split(on.text("quiet"))
        await stream.wait_for_connection()
        stream.cancel()
        join = on.stub.Join([on.text("a")])
        unary = on.stub.Unary(on.text("a"))
        await unary.wait_for_connection()
        assert (await unary).text == "a"
        assert (await join).text == "a"
        await failing(on.stub.Unary(on.text(status=5)).wait_for_connection())

    on_both(scenario)


# The channel.


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def test_without_waiting_for_ready_a_call_fails_fast(dialling: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        stub, _ = await on.stub_at(f"127.0.0.1:{free_port()}")

        for wait_for_ready in (None, False):
            error = await failing(stub.Unary(on.text(), wait_for_ready=wait_for_ready, timeout=4))
            assert error.code() is Status.UNAVAILABLE
            assert "connection refused" in error.details().lower()
        assert await stub.Split(on.text(), timeout=4).code() is Status.UNAVAILABLE
        assert await stub.Join(timeout=4).code() is Status.UNAVAILABLE

    dialling(scenario)


def test_waiting_for_ready_ends_with_the_deadline(dialling: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        stub, _ = await on.stub_at(f"127.0.0.1:{free_port()}")

        for call in (
            stub.Unary(on.text(), wait_for_ready=True, timeout=0.3),
            stub.Split(on.text(), wait_for_ready=True, timeout=0.3),
            stub.Join(wait_for_ready=True, timeout=0.3),
            stub.Chat(wait_for_ready=True, timeout=0.3),
        ):
            assert await call.code() is Status.DEADLINE_EXCEEDED

    dialling(scenario)


def test_waiting_for_ready_finds_a_server_that_comes_later(dialling: OnBoth, start_server: Any) -> None:
    async def scenario(on: Side) -> None:
        port = free_port()
        stub, channel = await on.stub_at(f"127.0.0.1:{port}")
        assert channel.get_state(try_to_connect=True) in tuple(grpc.ChannelConnectivity)
        unary = stub.Unary(on.text("a"), wait_for_ready=True, timeout=8)
        split = stub.Split(on.text("a", count=1), wait_for_ready=True, timeout=8)
        join = stub.Join([on.text("a")], wait_for_ready=True, timeout=8)
        cancelled = stub.Split(on.text(), wait_for_ready=True)
        cancelled.cancel()
        start_server(port=port)

        assert (await unary).text == "a"
        assert [each.count async for each in split] == [0]
        assert (await join).text == "a"
        assert await cancelled.code() is Status.CANCELLED
        await channel.channel_ready()
        assert channel.get_state() is grpc.ChannelConnectivity.READY

    dialling(scenario)


def test_the_states_of_a_channel(on_both: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        await on.channel.channel_ready()
        assert on.channel.get_state() is grpc.ChannelConnectivity.READY
        waiting = asyncio.create_task(on.channel.wait_for_state_change(grpc.ChannelConnectivity.READY))
        await on.channel.wait_for_state_change(grpc.ChannelConnectivity.IDLE)
        await asyncio.sleep(0)
        assert not waiting.done()

        await on.channel.close()

        assert on.channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN
        waiting.cancel()
        await asyncio.wait((waiting,))

    on_both(scenario)


def test_closing_cancels_what_runs_and_takes_nothing_new(on_both: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        unary, stream = on.stub.Hang(on.text()), on.stub.Split(on.text("quiet"))
        join, chat = on.stub.Join(), on.stub.Chat()
        await until_set(on.server.service.hanging)

        await on.channel.close()
        await on.channel.close()

        for call in (unary, join):
            with pytest.raises(asyncio.CancelledError):
                await call
        for call in (unary, stream, join, chat):
            assert await call.code() is Status.CANCELLED
        with pytest.raises(grpc.aio.UsageError):
            await on.stub.Unary(on.text())

    on_both(scenario)


def test_closing_with_grace_lets_calls_end(on_both: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        unary = on.stub.Hang(on.text())
        await until_set(on.server.service.hanging)
        closing = asyncio.create_task(on.channel.close(grace=5))
        await asyncio.sleep(0)
        on.server.service.release.set()

        assert (await unary).text == "released"
        await closing

        assert await unary.code() is Status.OK

    on_both(scenario)


def test_grace_has_an_end(on_both: OnBoth) -> None:
    async def scenario(on: Side) -> None:
        unary, stream = on.stub.Hang(on.text()), on.stub.Split(on.text("quiet"))
        await until_set(on.server.service.hanging)

        await on.channel.close(grace=0.1)

        assert await unary.code() is Status.CANCELLED
        assert await stream.code() is Status.CANCELLED

    on_both(scenario)


async def _collect(stream: Any, counts: list[int]) -> None:
    async for message in stream:
        counts += [message.count]
