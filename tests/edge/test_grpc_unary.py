"""Unary gRPC calls: requests however they come, answers however they are made, every way to end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest
from tests.edge.http2_scene import BROKEN, ECHO, LATER, run, scene

from silence_gateway.core import h2_frames as h2
from silence_gateway.core.grpc_messages import framed, pack
from silence_gateway.edge.grpc_server import UnaryCall, unary
from silence_gateway.errors import (
    AccessDenied,
    BadRequest,
    GatewayError,
    NotFound,
    RateLimited,
    RpcError,
    StoreUnavailable,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from silence_gateway.testing.clock import settle
from silence_gateway.testing.h2_client import call, data, head_of, headers

TRY = b"/test.Echo/Try"


def packed(message: bytes, encoding: bytes = b"gzip") -> bytes:
    content = pack(encoding, message)
    return b"\x01" + len(content).to_bytes(4, "big") + content


# Requests.


@pytest.mark.parametrize("step", [1, 3, 7, 1_000])
def test_a_message_may_come_in_pieces(step: int) -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            wire = framed(b"in pieces")
            client.send(headers(1, head_of(ECHO)))
            for at in range(0, len(wire), step):
                client.send(data(1, wire[at : at + step]))
            client.send(data(1, b"", end=True))

            assert await client.content(1) == wire

    run(scenario())


@pytest.mark.parametrize(
    ("encoding", "wire", "status"),
    [
        pytest.param(b"gzip", packed(b"hello"), 0, id="gzip"),
        pytest.param(b"deflate", packed(b"hello", b"deflate"), 0, id="deflate"),
        pytest.param(b"zstd", packed(b"hello", b"zstd"), 0, id="zstd"),
        pytest.param(b"zstd", packed(b"hello", b"gzip"), 13, id="not-zstd"),
        pytest.param(b"gzip", framed(b"hello"), 0, id="not-packed-although-it-could-be"),
        pytest.param(b"gzip", packed(bytes(2_000)), 8, id="a-bomb"),
        pytest.param(b"gzip", b"\x01\0\0\0\x05hello", 13, id="not-gzip"),
        pytest.param(b"identity", packed(b"hello"), 13, id="packed-but-says-it-is-not"),
        pytest.param(b"br", packed(b"hello"), 12, id="unknown"),
        pytest.param(b"br", framed(b"hello"), 0, id="unknown-but-not-used"),
        pytest.param(b"gzip", b"\x07\0\0\0\x05hello", 13, id="flag-that-is-none"),
        pytest.param(b"gzip", framed(bytes(1_001)), 8, id="too-large"),
        pytest.param(b"gzip", b"", 12, id="no-message"),
        pytest.param(b"gzip", framed(b"a") + framed(b"b"), 12, id="two-messages"),
        pytest.param(b"gzip", framed(b"hello")[:-1], 13, id="cut-off"),
        pytest.param(b"gzip", b"\0\0", 13, id="cut-off-in-its-length"),
    ],
)
@pytest.mark.parametrize("apart", [False, True], ids=["with-end", "end-apart"])
def test_what_a_request_holds_decides(encoding: bytes, wire: bytes, status: int, apart: bool) -> None:
    async def scenario() -> None:
        async with scene(max_message_bytes=1_000) as served:
            client = served.client()
            client.send(headers(1, head_of(ECHO, (b"grpc-encoding", encoding)), end=not (wire or apart)))
            if wire or apart:
                client.send(data(1, wire, end=not apart), data(1, b"", end=True) if apart else b"")

            assert await client.status(1) == status
            assert served.server.by_code()[status] == 1
            if status == 0:
                assert await client.content(1) == framed(b"hello")
            assert served.noticed == []

    run(scenario())


def test_a_second_message_behind_the_first_is_refused_as_soon_as_it_comes() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(headers(1, head_of(ECHO)), data(1, framed(b"a")), data(1, framed(b"b")))

            assert await client.status(1) == 12

    run(scenario())


def test_an_unknown_encoding_is_told_which_are_known() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(
                headers(1, head_of(ECHO, (b"grpc-encoding", b"br"))) + data(1, packed(b"x"), end=True)
            )

            (block,) = await client.blocks(1)
            assert block[b"grpc-accept-encoding"] == b"identity,gzip,deflate,zstd"
            assert b"'br'" in block[b"grpc-message"]

    run(scenario())


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        pytest.param({b":method": b"GET"}, {b":status": b"405", b"allow": b"POST"}, id="get"),
        pytest.param({b"content-type": b"application/json"}, {b":status": b"415"}, id="json"),
        pytest.param({b"content-type": b"application/grpc-web"}, {b":status": b"415"}, id="grpc-web"),
        pytest.param({b"content-type": b"application/grpc+proto"}, {b":status": b"200"}, id="proto"),
        pytest.param({b"content-type": b"application/grpc;v=1"}, {b":status": b"200"}, id="parameter"),
    ],
)
def test_who_does_not_speak_grpc_is_answered_in_http(
    changed: dict[bytes, bytes], expected: dict[bytes, bytes]
) -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            pairs = [(name, changed.get(name, value)) for name, value in head_of(ECHO)]
            client.send(headers(1, pairs) + data(1, framed(b"x"), end=True))

            block = (await client.blocks(1))[0]
            assert expected.items() <= block.items()
            assert served.server.not_grpc == (expected[b":status"] != b"200")

    run(scenario())


@pytest.mark.parametrize(("path", "text"), [(b"/test.Echo/Nope", b"/test.Echo/Nope"), (b"/", b"/")])
def test_a_method_that_is_not_there_is_unimplemented(path: bytes, text: bytes) -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(call(1, path))

            assert await client.status(1) == 12
            assert (await client.blocks(1))[0][b"grpc-message"].endswith(text)
            assert served.server.unknown.by_code[12] == 1

    run(scenario())


def test_a_timeout_that_is_none_is_the_callers_fault() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(call(1, ECHO, b"", (b"grpc-timeout", b"soon")))

            assert await client.status(1) == 3
            assert served.server.by_code()[3] == 1

    run(scenario())


# What handlers see.


def test_a_handler_sees_who_calls_and_until_when() -> None:
    async def scenario() -> None:
        seen: list[Any] = []

        def look(_message: bytes, call: UnaryCall) -> bytes:
            seen.extend((call.path, call.authority, call.peer, call.metadata, call.remaining_s()))
            return b""

        async with scene({"test.Echo/Try": unary(look)}) as served:
            client = served.client(extra={"peername": ("::ffff:192.0.2.7", 99)})
            more = ((b"x-a", b"b"), (b"x-bin", b"AAEC"), (b"grpc-timeout", b"5S"))
            client.send(call(1, TRY, b"", *more), call(3, TRY))

            assert seen[:5] == [
                "/test.Echo/Try",
                "test",
                "192.0.2.7",
                ((b"x-a", b"b"), (b"x-bin", b"\0\1\2")),
                5.0,
            ]
            assert seen[8:] == [(), float("inf")]

    run(scenario())


def test_time_that_is_left_is_never_negative() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(call(1, LATER, b"", (b"grpc-timeout", b"2m")))
            await settle()
            (running,) = served.running
            served.clock.passed_us += 3_000

            assert running.remaining_s() == 0

    run(scenario())


# Answers.


def test_an_answer_may_be_a_coroutine_a_future_or_bytes() -> None:
    async def scenario() -> None:
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        async def soon() -> bytes:
            return b"coroutine"

        kinds: dict[bytes, bytes | Awaitable[bytes]] = {b"b": b"bytes", b"c": soon(), b"f": future}
        async with scene({"test.Echo/Try": unary(lambda message, _: kinds[message])}) as served:
            client = served.client()
            client.send(call(1, TRY, b"b"), call(3, TRY, b"c"), call(5, TRY, b"f"))
            assert await client.content(5) == b""
            future.set_result(b"future")

            assert [await client.content(stream) for stream in (1, 3, 5)] == [
                framed(b"bytes"),
                framed(b"coroutine"),
                framed(b"future"),
            ]

    run(scenario())


@pytest.mark.parametrize("answer", [None, "text", bytearray(b"x")])
@pytest.mark.parametrize("awaited", [False, True])
def test_an_answer_of_another_kind_is_told_to_the_operator(answer: Any, awaited: bool) -> None:
    async def scenario() -> None:
        async def later() -> Any:
            return answer

        method = unary(lambda _message, _call: later() if awaited else answer)
        async with scene({"test.Echo/Try": method}) as served:
            client = served.client()
            client.send(call(1, TRY))

            assert await client.status(1) == 13
            (text,) = served.said()
            assert type(answer).__name__ in text

    run(scenario())


def test_metadata_travels_with_the_answer() -> None:
    async def scenario() -> None:
        def answer(_message: bytes, call: UnaryCall) -> bytes:
            call.initial_metadata = [(b"x-first", b"1"), (b"x-bin", b"\0\1\2")]
            call.trailing_metadata = [(b"x-last", b"2")]
            return b"ok"

        async with scene({"test.Echo/Try": unary(answer)}) as served:
            client = served.client()
            client.send(call(1, TRY))
            head, tail = await client.blocks(1)

            assert (head[b"x-first"], head[b"x-bin"]) == (b"1", b"AAEC")
            assert tail == {b"grpc-status": b"0", b"x-last": b"2"}

    run(scenario())


@pytest.mark.parametrize("where", ["initial_metadata", "trailing_metadata"])
@pytest.mark.parametrize("fails", [False, True])
def test_metadata_that_cannot_be_sent_is_told_to_the_operator(where: str, fails: bool) -> None:
    async def scenario() -> None:
        def answer(_message: bytes, call: UnaryCall) -> bytes:
            setattr(call, where, [(b"Not A Name", b"1")])
            if fails:
                raise NotFound("nothing here")
            return b"ok"

        async with scene({"test.Echo/Try": unary(answer)}) as served:
            client = served.client()
            client.send(call(1, TRY))
            sent_on_failure = fails and where == "initial_metadata"

            assert await client.status(1) == (5 if fails else 13)
            assert any("Not A Name" in text for text in served.said()) is not sent_on_failure
            client.send(call(3, ECHO))
            assert await client.status(3) == 0

    run(scenario())


def test_more_metadata_than_the_client_takes_is_not_sent() -> None:
    async def scenario() -> None:
        def answer(message: bytes, call: UnaryCall) -> bytes:
            call.trailing_metadata = [(b"x-large", b"y" * 900)]
            if message:
                raise NotFound("nothing here, " + "x" * 900)
            return b"ok"

        async with scene({"test.Echo/Try": unary(answer)}) as served:
            client = served.client(greet=False)
            client.greet([(h2.Setting.MAX_HEADER_LIST_SIZE, 800)])
            client.send(call(1, TRY), call(3, TRY, b"fail"))

            assert await client.status(1) == 8
            (block,) = await client.blocks(3)
            assert block[b"grpc-status"] == b"5"
            assert block[b"grpc-message"].startswith(b"nothing here, xxx")
            size = sum(len(name) + len(value) + 32 for name, value in block.items())
            assert 700 < size <= 800
            assert served.noticed == []

    run(scenario())


# Errors.

ERRORS: list[Any] = [
    pytest.param(BadRequest("what is this"), 3, "what is this", id="client"),
    pytest.param(NotFound("not here"), 5, "not here", id="not-found"),
    pytest.param(AccessDenied("not you"), 7, "not you", id="refused"),
    pytest.param(RpcError(10, "it said so"), 10, "it said so", id="rpc"),
    pytest.param(RpcError(99, "it said so"), 2, "it said so", id="rpc-with-a-code-that-is-none"),
    pytest.param(UpstreamUnavailable("10.0.0.1:99", sent=False), 14, "cannot be reached", id="upstream"),
    pytest.param(UpstreamUnavailable("10.0.0.1:99"), 14, "may have carried it out", id="upstream-broke"),
    pytest.param(UpstreamTimeout("10.0.0.1:99"), 4, "did not answer in time", id="upstream-timeout"),
    pytest.param(StoreUnavailable("10.0.0.1:99"), 14, "store of this gateway", id="store"),
]


@pytest.mark.parametrize(("error", "code", "text"), ERRORS)
@pytest.mark.parametrize("awaited", [False, True])
def test_errors_have_the_codes_of_the_table(error: GatewayError, code: int, text: str, awaited: bool) -> None:
    async def scenario() -> None:
        def fail(_message: bytes, _call: UnaryCall) -> bytes:
            raise error

        async def fail_later(message: bytes, call: UnaryCall) -> bytes:
            return fail(message, call)

        async with scene({"test.Echo/Try": unary(fail_later if awaited else fail)}) as served:
            client = served.client()
            client.send(call(1, TRY))
            (block,) = await client.blocks(1)

            assert block[b":status"] == b"200"
            assert block[b"content-type"] == b"application/grpc"
            assert int(block[b"grpc-status"]) == code
            assert text in block[b"grpc-message"].decode()
            assert "10.0.0.1" not in block[b"grpc-message"].decode()
            assert served.noticed == []
            assert served.server.by_code()[code] == 1

    run(scenario())


def test_what_nobody_raised_on_purpose_is_internal_and_told_to_the_operator_only() -> None:
    async def scenario() -> None:
        async with scene() as served:
            client = served.client()
            client.send(call(1, BROKEN))
            (block,) = await client.blocks(1)

            assert block[b"grpc-status"] == b"13"
            assert b"secret" not in block[b"grpc-message"]
            (text,) = served.said()
            assert text.startswith("/test.Echo/Broken: RuntimeError: a secret at ")

    run(scenario())


def test_an_upstreams_error_passes_with_everything_it_has() -> None:
    async def scenario() -> None:
        def fail(_message: bytes, _call: UnaryCall) -> bytes:
            raise RpcError(9, "caf\u00e9 %", trailing_metadata=[(b"x-a", b"b")], status_details=b"\x08\x09")

        async with scene({"test.Echo/Try": unary(fail)}) as served:
            client = served.client()
            client.send(call(1, TRY))
            (block,) = await client.blocks(1)

            assert block[b"grpc-message"] == b"caf%C3%A9 %25"
            assert block[b"x-a"] == b"b"
            assert block[b"grpc-status-details-bin"] == b"CAk"

    run(scenario())


def test_a_refusal_by_a_limit_says_when_to_come_back() -> None:
    async def scenario() -> None:
        def fail(_message: bytes, _call: UnaryCall) -> bytes:
            raise RateLimited(["login"], 3.0, [(b"Retry-After", b"3")])

        async with scene({"test.Echo/Try": unary(fail)}) as served:
            client = served.client()
            client.send(call(1, TRY))
            (block,) = await client.blocks(1)

            assert (block[b"grpc-status"], block[b"retry-after"]) == (b"8", b"3")

    run(scenario())


def test_a_handler_that_cancels_itself_ends_its_call() -> None:
    async def scenario() -> None:
        async def cancelled(_message: bytes, _call: UnaryCall) -> bytes:
            raise asyncio.CancelledError

        async with scene({"test.Echo/Try": unary(cancelled)}) as served:
            client = served.client()
            client.send(call(1, TRY))

            assert await client.status(1) == 1
            assert served.server.statistics.cancelled == 0

    run(scenario())


def test_a_handler_that_fails_after_its_caller_left_is_still_told() -> None:
    async def scenario() -> None:
        async def fail(_message: bytes, _call: UnaryCall) -> bytes:
            try:
                await asyncio.Event().wait()
            finally:
                raise RuntimeError("in the clean-up")

        async with scene({"test.Echo/Try": unary(fail)}) as served:
            client = served.client()
            client.send(call(1, TRY))
            await settle()
            client.send(h2.rst_stream_frame(1, 8))
            await settle()

            assert any("in the clean-up" in text for text in served.said())

    run(scenario())


def test_texts_of_single_calls_are_not_remembered_for_ever() -> None:
    from silence_gateway.edge import grpc_answers

    async def scenario() -> None:
        def fail(message: bytes, _call: UnaryCall) -> bytes:
            raise NotFound(message.decode())

        async with scene({"test.Echo/Try": unary(fail)}) as served:
            client = served.client()
            for number in range(600):
                client.send(call(2 * number + 1, TRY, b"%d" % number))
            await client.hear()

            assert served.server.by_code()[5] == 600
            assert len(grpc_answers._blocks) <= grpc_answers.MAX_REMEMBERED

    run(scenario())
