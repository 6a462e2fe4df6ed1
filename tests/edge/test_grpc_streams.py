"""Calls of many messages: either way, in any mixture, with every way to end."""

from __future__ import annotations

import asyncio
import gzip

import pytest
from tests.edge.http2_scene import CHAT, PUSH, run, scene

from silence_gateway.core import h2_frames as h2
from silence_gateway.core.grpc_messages import framed
from silence_gateway.core.h2_frames import ErrorCode
from silence_gateway.edge.grpc_server import StreamCall, streaming
from silence_gateway.errors import NotFound, RpcError
from silence_gateway.testing.clock import settle
from silence_gateway.testing.h2_client import call, data, head_of, headers

TRY = b"/test.Echo/Try"


def test_messages_are_answered_as_they_come() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(headers(1, head_of(CHAT)))
            for number in range(5):
                client.send(data(1, framed(b"%d" % number)))
                assert await client.content(1) == b"".join(
                    [framed(b"%d" % each) for each in range(number + 1)]
                )
            client.send(data(1, b"", end=True))

            assert await client.status(1) == 0
            assert len(await client.blocks(1)) == 2

    run(scenario())


def test_messages_may_be_cut_anywhere_and_packed() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            content = gzip.compress(b"packed")
            wire = framed(b"one") + b"\x01" + len(content).to_bytes(4, "big") + content + framed(b"")
            client.send(headers(1, head_of(CHAT, (b"grpc-encoding", b"gzip"))))
            for at in range(len(wire)):
                client.send(data(1, wire[at : at + 1]))
                await settle(1)
            client.send(headers(1, [(b"x", b"y")], end=True))

            assert await client.content(1) == framed(b"one") + framed(b"packed") + framed(b"")
            assert await client.status(1) == 0

    run(scenario())


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        pytest.param(framed(b"a") + framed(b"half")[:-1], 13, id="cut-off"),
        pytest.param(framed(b"a") + b"\x05\0\0\0\0", 13, id="flag-that-is-none"),
        pytest.param(framed(b"a") + framed(bytes(1_001)), 8, id="too-large"),
        pytest.param(framed(b"a") + b"\x01\0\0\0\x01x", 13, id="packed-without-saying-how"),
    ],
)
def test_a_broken_message_ends_the_call_after_the_good_ones(wire: bytes, status: int) -> None:
    async def scenario() -> None:
        async with scene(max_message_bytes=1_000) as served:
            client = served.client()
            client.send(headers(1, head_of(CHAT)), data(1, wire, end=True))

            assert await client.content(1) == framed(b"a")
            assert await client.status(1) == status
            assert len(await client.blocks(1)) == 2
            assert served.noticed == []

    run(scenario())


@pytest.mark.parametrize(("count", "status"), [(0, 12), (1, 0), (2, 12)])
def test_a_method_that_takes_one_message_says_so(count: int, status: int) -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(headers(1, head_of(PUSH)), data(1, framed(b"1 1") * count, end=True))

            assert await client.status(1) == status

    run(scenario())


def test_an_error_before_the_first_message_is_trailers_only() -> None:
    async def scenario() -> None:
        async def fail(call: StreamCall) -> None:
            call.trailing_metadata = [(b"x-a", b"b")]
            raise NotFound("nothing here")

        async with scene({"test.Echo/Try": streaming(fail)}) as served:
            client = served.client()
            client.send(call(1, TRY))
            (block,) = await client.blocks(1)

            assert (block[b":status"], block[b"grpc-status"], block[b"x-a"]) == (b"200", b"5", b"b")

    run(scenario())


def test_an_error_in_the_middle_comes_behind_the_messages() -> None:
    async def scenario() -> None:
        async def fail(call: StreamCall) -> None:
            call.initial_metadata = [(b"x-a", b"b")]
            call.send_head()
            await call.send(b"first")
            raise NotFound("no more")

        async with scene({"test.Echo/Try": streaming(fail)}) as served:
            client = served.client()
            client.send(call(1, TRY))
            head, tail = await client.blocks(1)

            assert head[b"x-a"] == b"b"
            assert await client.content(1) == framed(b"first")
            assert tail[b"grpc-status"] == b"5"
            assert b":status" not in tail

    run(scenario())


def test_a_handler_that_says_nothing_ends_well() -> None:
    async def scenario() -> None:
        async def nothing(call: StreamCall) -> None:
            call.trailing_metadata = [(b"x-a", b"b")]

        async with scene({"test.Echo/Try": streaming(nothing)}) as served:
            client = served.client()
            client.send(call(1, TRY))

            head, tail = await client.blocks(1)
            assert head[b":status"] == b"200"
            assert tail == {b"grpc-status": b"0", b"x-a": b"b"}

    run(scenario())


@pytest.mark.parametrize("where", ["initial_metadata", "trailing_metadata"])
def test_metadata_that_cannot_be_sent_is_told_to_the_operator(where: str) -> None:
    async def scenario() -> None:
        async def answer(call: StreamCall) -> None:
            setattr(call, where, [(b"Not A Name", b"1")])

        async with scene({"test.Echo/Try": streaming(answer)}) as served:
            client = served.client()
            client.send(call(1, TRY))

            assert await client.status(1) == 13
            assert any("Not A Name" in text for text in served.said())

    run(scenario())


def test_a_handler_that_cannot_even_begin_fails_its_call() -> None:
    async def scenario() -> None:
        def wrong(_call: StreamCall) -> None:
            raise RuntimeError("a secret")

        method = streaming(wrong)  # type: ignore[arg-type]
        async with scene({"test.Echo/Try": method}) as served:
            client = served.client()
            client.send(call(1, TRY))

            assert await client.status(1) == 13
            assert any("a secret" in text for text in served.said())

    run(scenario())


def test_sending_after_the_end_is_an_error_of_the_handler_and_reaches_nobody() -> None:
    async def scenario() -> None:
        calls: list[StreamCall] = []

        async def keep(call: StreamCall) -> None:
            calls.append(call)

        async with scene({"test.Echo/Try": streaming(keep)}) as served:
            client = served.client()
            client.send(call(1, TRY))
            await client.hear()
            sent = len(client.transport.written)

            with pytest.raises(RpcError, match="the call is over"):
                await calls[0].send(b"late")
            calls[0].send_head()
            await client.hear()
            assert len(client.transport.written) == sent

    run(scenario())


def test_a_call_that_is_taken_back_cancels_its_handler_wherever_it_waits() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(headers(1, head_of(CHAT)), call(3, PUSH, b"1000 10000"))
            await client.hear()
            work = [stream.work for stream in client.protocol.streams.values()]  # type: ignore[attr-defined]
            client.send(h2.rst_stream_frame(1, ErrorCode.CANCEL), h2.rst_stream_frame(3, ErrorCode.CANCEL))
            await settle()

            assert all(task.cancelled() for task in work)
            assert served.server.by_code()[1] == 2
            assert served.noticed == []

    run(scenario())


def test_a_handler_with_all_messages_at_hand_lets_others_have_their_turn() -> None:
    async def scenario() -> None:
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        async with scene() as served:
            counter = asyncio.create_task(count_turns())
            client = served.client(greet=False)
            client.greet([(h2.Setting.INITIAL_WINDOW_SIZE, 10_000_000)])
            client.send(h2.window_update_frame(0, 10_000_000), call(1, PUSH, b"10000 10"))
            while not await client.ended(1):
                pass
            counter.cancel()

            assert turns > 100

    run(scenario())


def test_reading_and_writing_may_be_done_by_two_tasks() -> None:
    """As a proxy does it."""

    async def scenario() -> None:
        async def both(call: StreamCall) -> None:
            waiting: asyncio.Queue[bytes | None] = asyncio.Queue()

            async def read() -> None:
                async for message in call:
                    await waiting.put(message)
                await waiting.put(None)

            async with asyncio.TaskGroup() as group:
                group.create_task(read())
                while (message := await waiting.get()) is not None:
                    await call.send(message)

        async with scene({"test.Echo/Try": streaming(both)}) as served:
            client = served.client()
            client.send(headers(1, head_of(TRY)))
            for number in range(100):
                client.send(data(1, framed(b"%d" % number)))
            client.send(data(1, b"", end=True))

            assert await client.content(1) == b"".join([framed(b"%d" % number) for number in range(100)])
            assert await client.status(1) == 0

    run(scenario())
