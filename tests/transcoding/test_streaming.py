"""Answers that are streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import pytest
from protobuf import Registry

from silence_gateway.core.http import StreamingResponse
from silence_gateway.errors import RpcError, UpstreamProtocolError, UpstreamTimeout, UpstreamUnavailable
from silence_gateway.testing.local_caller import LocalCaller

if TYPE_CHECKING:
    from tests.transcoding.conftest import Desk

LINES = {b"accept": b"application/x-ndjson"}
WATCH = b"/library.v1.Library/Watch"


def inner(registry: Registry, n: int) -> bytes:
    described = registry.message("library.v1.Inner")
    assert described is not None
    return described.type(n=n).to_binary()


@pytest.fixture
def watching(make_desk: Callable[..., Desk], registry: Registry) -> Callable[..., Desk]:
    """A desk whose Watch yields what it is given: numbers, raw bytes, and errors."""

    def make(*script: int | bytes | Exception) -> Desk:
        async def watch(_: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            for step in script:
                if isinstance(step, Exception):
                    raise step
                yield step if isinstance(step, bytes) else inner(registry, step)

        return make_desk(LocalCaller(stream_methods={WATCH: watch}, initial_metadata=[(b"shelf", b"3")]))

    return make


def test_an_array_is_sent_message_by_message(watching: Callable[..., Desk]) -> None:
    response, pieces, failure = watching(1, 2, 3).collect("GET", "/v1/watch/x")

    assert pieces == [b'[{"n":1}', b',{"n":2}', b',{"n":3}', b"]"]
    assert failure is None
    assert (response.status, response.headers) == (
        200,
        [(b"content-type", b"application/json"), (b"grpc-metadata-shelf", b"3")],
    )


def test_lines_are_sent_to_those_who_ask_for_them(watching: Callable[..., Desk]) -> None:
    response, pieces, failure = watching(1, 2).collect("GET", "/v1/watch/x", LINES)

    assert pieces == [b'{"n":1}\n', b'{"n":2}\n']
    assert failure is None
    assert response.headers[0] == (b"content-type", b"application/x-ndjson")


def test_an_empty_stream_is_an_empty_array_or_no_lines(watching: Callable[..., Desk]) -> None:
    assert watching().ask("GET", "/v1/watch/x").body == b"[]"
    assert watching().ask("GET", "/v1/watch/x", b"", LINES).body == b""


def trailers_of(response: object) -> object:
    """Return what whoever watches the pieces reads behind them."""
    assert isinstance(response, StreamingResponse)
    return getattr(response.chunks, "trailers", None)


def test_what_came_behind_the_messages_is_known_at_their_end(watching: Callable[..., Desk]) -> None:
    desk = watching(1, 2)
    desk.caller.trailing_metadata = [(b"x-tokens", b"7"), (b"grpc-status", b"0")]

    async def scenario() -> None:
        response = await desk.send("GET", "/v1/watch/x")
        assert isinstance(response, StreamingResponse)
        await anext(response.chunks)
        assert trailers_of(response) == []
        await response.chunks.aclose()  # type: ignore[attr-defined]
        assert trailers_of(response) == []

    asyncio.run(scenario())
    response, _, _ = desk.collect("GET", "/v1/watch/x", LINES)
    assert trailers_of(response) == [(b"grpc-trailer-x-tokens", b"7")]


def test_so_is_what_came_with_an_error(watching: Callable[..., Desk]) -> None:
    error = RpcError(8, "enough", trailing_metadata=[(b"x-tokens", b"7")])

    assert trailers_of(watching(1, error).collect("GET", "/v1/watch/x")[0]) == [
        (b"grpc-trailer-x-tokens", b"7")
    ]
    assert trailers_of(watching(1, UpstreamTimeout("late")).collect("GET", "/v1/watch/x")[0]) == []


def test_an_empty_stream_says_in_its_head_what_came_behind_it(watching: Callable[..., Desk]) -> None:
    desk = watching()
    desk.caller.trailing_metadata = [(b"x-tokens", b"7")]

    assert desk.ask("GET", "/v1/watch/x").headers[1:] == [
        (b"grpc-metadata-shelf", b"3"),
        (b"grpc-trailer-x-tokens", b"7"),
    ]


def test_an_error_before_the_first_message_has_its_http_status(watching: Callable[..., Desk]) -> None:
    response = watching(RpcError(5, "no such shelf")).ask("GET", "/v1/watch/x")

    assert response.status == 404
    assert json.loads(response.body) == {"code": 5, "message": "no such shelf", "details": []}


def test_a_fault_before_the_first_message_passes_through(watching: Callable[..., Desk]) -> None:
    desk = watching(UpstreamUnavailable("nobody there"))

    with pytest.raises(UpstreamUnavailable):
        desk.ask("GET", "/v1/watch/x")


def test_garbage_as_first_message_passes_through_and_ends_the_call(watching: Callable[..., Desk]) -> None:
    desk = watching(b"\xff\xff")

    with pytest.raises(UpstreamProtocolError):
        desk.ask("GET", "/v1/watch/x")
    assert desk.caller.calls[0].cancelled


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (RpcError(8, "enough"), 8),
        (UpstreamTimeout("too late"), 4),
        (UpstreamUnavailable("gone"), 14),
        (b"\xff\xff", 13),
    ],
)
@pytest.mark.parametrize("accept", [{}, LINES])
def test_an_error_on_the_way_is_said_and_then_breaks_the_stream(
    watching: Callable[..., Desk], broken: Exception | bytes, code: int, accept: dict[bytes, bytes]
) -> None:
    _, pieces, failure = watching(1, broken).collect("GET", "/v1/watch/x", accept)

    assert len(pieces) == 2
    record = json.loads(pieces[1].strip(b",\n"))
    assert record["error"]["code"] == code
    assert isinstance(failure, RpcError | UpstreamTimeout | UpstreamUnavailable | UpstreamProtocolError)
    assert not pieces[1].endswith(b"]")


@pytest.mark.parametrize("taken", [0, 1])
def test_closing_early_cancels_the_call_even_if_nothing_was_taken(
    watching: Callable[..., Desk], taken: int
) -> None:
    desk = watching(1, 2, 3)

    async def scenario() -> None:
        response = await desk.send("GET", "/v1/watch/x")
        assert isinstance(response, StreamingResponse)
        for _ in range(taken):
            await anext(response.chunks)
        await response.chunks.aclose()  # type: ignore[attr-defined]
        with pytest.raises(StopAsyncIteration):
            while True:
                await anext(response.chunks)

    asyncio.run(scenario())

    assert desk.caller.calls[0].cancelled


def test_leaving_before_the_first_message_cancels_the_call(make_desk: Callable[..., Desk]) -> None:
    async def silent(_: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        started.set()
        await asyncio.Event().wait()
        yield b""

    started = asyncio.Event()
    desk = make_desk(LocalCaller(stream_methods={WATCH: silent}))

    async def scenario() -> None:
        task = asyncio.create_task(desk.send("GET", "/v1/watch/x"))
        await asyncio.wait_for(started.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())

    assert len(desk.caller.calls) == 1


def test_raw_pieces_are_joined_without_anything_between(
    make_desk: Callable[..., Desk], registry: Registry
) -> None:
    described = registry.message("google.api.HttpBody")
    assert described is not None

    async def pieces_of(_: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        yield described.type(content_type="image/png", data=b"\x89P").to_binary()
        yield described.type(content_type="text/html", data=b"NG").to_binary()
        if failing:
            raise RpcError(13, "half way")

    failing = False
    desk = make_desk(LocalCaller(stream_methods={b"/library.v1.Library/Pieces": pieces_of}))

    response, pieces, failure = desk.collect("GET", "/v1/pieces/x")
    assert (pieces, failure) == ([b"\x89P", b"NG"], None)
    assert response.headers == [(b"content-type", b"image/png")]

    failing = True
    _, pieces, failure = desk.collect("GET", "/v1/pieces/x")
    assert pieces == [b"\x89P", b"NG"]
    assert isinstance(failure, RpcError)
