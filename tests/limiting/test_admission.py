"""What is left to do when a request is over, however it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from silence_gateway.core.http import HeaderList, Response, StreamingResponse, TunnelResponse, UpgradeResponse
from silence_gateway.core.sockets import Socket
from silence_gateway.errors import (
    BadRequest,
    GatewayError,
    RpcError,
    StoreUnavailable,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from silence_gateway.limiting.admission import Admission, Told

TOKENS = (b"x-tokens", b"7")


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 20))


class Over:
    """Whether a request is over, and what was told then."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.admission = Admission([], self.told.append)


class Pieces:
    """A body that yields some pieces and then ends as it is told to."""

    def __init__(self, *pieces: bytes, end: BaseException | None = None, trailers: HeaderList = []) -> None:  # noqa: B006 - never changed
        self.pieces = list(pieces)
        self.end = end or StopAsyncIteration()
        self.closed = 0
        self.trailers: HeaderList = []
        self.last = trailers

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> bytes:
        if self.pieces:
            return self.pieces.pop(0)
        self.trailers = self.last
        raise self.end

    async def aclose(self) -> None:
        self.closed += 1


async def read_all(response: Response) -> list[bytes]:
    assert isinstance(response, StreamingResponse)
    return [piece async for piece in response.chunks]


def test_a_whole_answer_is_the_end() -> None:
    over = Over()
    response = Response(200, [TOKENS], b"all of it")

    assert over.admission.of(response) is response
    assert over.told == [[TOKENS]]


def test_an_end_is_told_once() -> None:
    over = Over()
    over.admission.end([])
    over.admission.end(None)
    over.admission.fail(BadRequest("x"))

    assert over.told == [[]]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        pytest.param(UpstreamUnavailable("nobody there", sent=False), None, id="never-reached"),
        pytest.param(UpstreamUnavailable("broke"), [], id="reached"),
        pytest.param(UpstreamTimeout("late"), [], id="late"),
        pytest.param(BadRequest("garbage"), [], id="garbage"),
        pytest.param(StoreUnavailable("away"), [], id="our-own-trouble"),
        pytest.param(ZeroDivisionError(), [], id="a-bug"),
        pytest.param(asyncio.CancelledError(), [], id="the-client-left"),
        pytest.param(
            RpcError(8, "", initial_metadata=[(b"a", b"1")], trailing_metadata=[TOKENS]),
            [(b"a", b"1"), TOKENS],
            id="the-upstream-said-no",
        ),
    ],
)
def test_without_an_answer_it_counts_what_may_have_been_worked(error: BaseException, told: Told) -> None:
    over = Over()
    over.admission.fail(error)

    assert over.told == [told]


def test_a_stream_is_over_with_its_last_piece_and_its_trailers_tell_too() -> None:
    async def scenario() -> None:
        over = Over()
        pieces = Pieces(b"a", b"b", trailers=[TOKENS])
        response = over.admission.of(StreamingResponse(200, [(b"shelf", b"3")], pieces))
        assert over.told == []

        assert await read_all(response) == [b"a", b"b"]
        assert over.told == [[(b"shelf", b"3"), TOKENS]]
        assert isinstance(response, StreamingResponse)
        assert response.chunks.trailers == [TOKENS]  # type: ignore[attr-defined]

    run(scenario)


@pytest.mark.parametrize("error", [UpstreamUnavailable("broke"), asyncio.CancelledError(), KeyError("bug")])
def test_a_stream_that_breaks_is_over(error: BaseException) -> None:
    async def scenario() -> None:
        over = Over()
        response = over.admission.of(StreamingResponse(200, [TOKENS], Pieces(b"a", end=error)))
        with pytest.raises(type(error)):
            await read_all(response)

        assert over.told == [[TOKENS]]

    run(scenario)


def test_a_stream_that_nobody_reads_to_its_end_is_over_when_it_is_closed() -> None:
    async def scenario() -> None:
        over = Over()
        pieces = Pieces(b"a", b"b")
        response = over.admission.of(StreamingResponse(200, [], pieces))
        assert isinstance(response, StreamingResponse)
        assert await anext(response.chunks) == b"a"
        await response.chunks.aclose()  # type: ignore[attr-defined]

        assert (over.told, pieces.closed) == ([[]], 1)

    run(scenario)


def test_a_stream_whose_closing_fails_is_over_all_the_same() -> None:
    class Stubborn(Pieces):
        async def aclose(self) -> None:
            raise GatewayError("will not close")

    async def scenario() -> None:
        over = Over()
        response = over.admission.of(StreamingResponse(200, [], Stubborn()))
        assert isinstance(response, StreamingResponse)
        with pytest.raises(GatewayError):
            await response.chunks.aclose()  # type: ignore[attr-defined]

        assert over.told == [[]]

    run(scenario)


def test_a_stream_that_cannot_be_closed_is_over_when_that_is_tried() -> None:
    class Plain:
        def __aiter__(self) -> AsyncIterator[bytes]:
            return self

        async def __anext__(self) -> bytes:
            return b"for ever"

    async def scenario() -> None:
        over = Over()
        response = over.admission.of(StreamingResponse(200, [], Plain()))
        assert isinstance(response, StreamingResponse)
        await response.chunks.aclose()  # type: ignore[attr-defined]

        assert over.told == [[]]

    run(scenario)


class Listener:
    """Notes what happens on a WebSocket."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    def on_open(self, socket: Socket) -> None:
        self.heard.append(socket)

    def on_text(self, payload: bytes) -> None:
        self.heard.append(payload)

    def on_binary(self, payload: bytes) -> None:
        self.heard.append(payload)

    def on_close(self, code: int, reason: str) -> None:
        self.heard.append((code, reason))
        if reason == "bug":
            raise KeyError(reason)

    def on_drained(self) -> None:
        self.heard.append("drained")

    def on_shutdown(self) -> None:
        self.heard.append("shutdown")


@pytest.mark.parametrize("reason", ["bye", "bug"])
def test_a_websocket_is_over_when_it_is_closed_and_its_listener_hears_everything(reason: str) -> None:
    over, listener = Over(), Listener()
    response = over.admission.of(UpgradeResponse(listener))
    assert isinstance(response, UpgradeResponse)
    socket: Any = object()
    watched = response.listener
    watched.on_open(socket)
    watched.on_text(b"t")
    watched.on_binary(b"b")
    watched.on_drained()
    watched.on_shutdown()
    assert over.told == []
    try:
        watched.on_close(1000, reason)
    except KeyError:
        assert reason == "bug"

    assert listener.heard == [socket, b"t", b"b", "drained", "shutdown", (1000, reason)]
    assert over.told == [[]]


def test_a_websocket_that_does_not_come_about_is_over_and_others_hear_of_that_too() -> None:
    heard: list[str] = []
    over = Over()
    refused = UpgradeResponse(Listener())
    refused.on_refused = lambda: heard.append("refused")
    for response in (over.admission.of(refused), Over().admission.of(UpgradeResponse(Listener()))):
        assert isinstance(response, UpgradeResponse)
        assert response.on_refused is not None
        response.on_refused()

    assert (over.told, heard) == ([None], ["refused"])


class NobodyThere:
    """The far end of a tunnel that is never dug."""

    def open(self, peer: object) -> None:
        raise NotImplementedError

    def send(self, data: bytes) -> None:
        raise NotImplementedError

    def send_end(self) -> None:
        raise NotImplementedError

    def pause_reading(self) -> None:
        raise NotImplementedError

    def resume_reading(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def abort(self) -> None:
        raise NotImplementedError


def test_a_websocket_that_passes_through_is_over_when_its_tunnel_is() -> None:
    over, heard = Over(), []
    response = TunnelResponse(NobodyThere(), [])
    response.on_over = lambda: heard.append("over")

    watched = over.admission.of(response)
    assert isinstance(watched, TunnelResponse)
    assert over.told == []
    watched.on_over()

    assert (over.told, heard) == ([[]], ["over"])
