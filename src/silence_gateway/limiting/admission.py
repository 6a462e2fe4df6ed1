"""
What is left to do once a request that was let through has its answer.

Places under concurrency limits are released and costs that the answer tells are settled: when a whole
answer is there, when a stream has ended or its client has left, when a WebSocket is closed, or when
there will be no answer at all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeAlias

from silence_gateway.core.http import HeaderList, Response, StreamingResponse, TunnelResponse, UpgradeResponse
from silence_gateway.core.sockets import Socket, SocketListener
from silence_gateway.errors import RpcError, UpstreamFault

Told: TypeAlias = "Sequence[tuple[bytes, bytes]] | None"
"""The headers of an answer and its trailers behind them; None if provably nobody has worked on it."""

NOTHING: HeaderList = []


class Admission:
    """
    A request that passed, until it is over.

    Args:
        lines: Header lines for its answer.
        finish: Called once, with what the answer told.
    """

    __slots__ = ("_finish", "lines")

    def __init__(self, lines: HeaderList, finish: Callable[[Told], None]) -> None:
        self.lines = lines
        self._finish: Callable[[Told], None] | None = finish

    def end(self, told: Told) -> None:
        """The request is over; harmless when it was already."""
        finish, self._finish = self._finish, None
        if finish is not None:
            finish(told)

    def fail(self, error: BaseException) -> None:
        """The request is over, without an answer that it could be sent with."""
        self.end(told_by(error))

    def of(self, response: Response) -> Response:
        """Return *response* as it must be sent so that its end is noticed."""
        if isinstance(response, StreamingResponse):
            response.chunks = WatchedChunks(response.chunks, self, response.headers)
        elif isinstance(response, UpgradeResponse):
            response.listener = WatchedSocket(response.listener, self)
            refused = response.on_refused

            def on_refused() -> None:
                self.end(None)
                if refused is not None:
                    refused()

            response.on_refused = on_refused
        elif isinstance(response, TunnelResponse):
            over = response.on_over

            def on_over() -> None:
                self.end(NOTHING)
                over()

            response.on_over = on_over
        else:
            self.end(response.headers)
        return response


def told_by(error: BaseException) -> Told:
    """
    Return what a request that ended with *error* tells of its cost.

    An upstream that was never reached has not worked on it. Of anything else nobody knows, a client that
    has left included: it costs what was reserved.
    """
    if isinstance(error, RpcError):
        return [*error.initial_metadata, *error.trailing_metadata]
    if isinstance(error, UpstreamFault) and not error.sent:
        return None
    return NOTHING


class WatchedChunks:
    """The pieces of a streamed answer, whose end is noticed however it comes."""

    __slots__ = ("admission", "chunks", "headers")

    def __init__(self, chunks: AsyncIterator[bytes], admission: Admission, headers: HeaderList) -> None:
        self.chunks = chunks
        self.admission = admission
        self.headers = headers

    @property
    def trailers(self) -> HeaderList:
        """What came behind the pieces."""
        trailers: HeaderList = getattr(self.chunks, "trailers", NOTHING)
        return trailers

    def __aiter__(self) -> WatchedChunks:
        return self

    async def __anext__(self) -> bytes:
        """Return the next piece."""
        try:
            return await anext(self.chunks)
        except BaseException:
            self.over()
            raise

    def over(self) -> None:
        """There are no more pieces; what came behind them tells as much as what came before."""
        self.admission.end([*self.headers, *self.trailers])

    async def aclose(self) -> None:
        """End the answer, if it has not ended."""
        close: Callable[[], Awaitable[None]] | None = getattr(self.chunks, "aclose", None)
        try:
            if close is not None:
                await close()
        finally:
            self.over()


class WatchedSocket:
    """What happens on a WebSocket, whose end is noticed."""

    __slots__ = ("admission", "listener")

    def __init__(self, listener: SocketListener, admission: Admission) -> None:
        self.listener = listener
        self.admission = admission

    def on_open(self, socket: Socket) -> None:
        """The handshake is done."""
        self.listener.on_open(socket)

    def on_text(self, payload: bytes) -> None:
        """A text message."""
        self.listener.on_text(payload)

    def on_binary(self, payload: bytes) -> None:
        """A binary message."""
        self.listener.on_binary(payload)

    def on_close(self, code: int, reason: str) -> None:
        """The connection is gone."""
        try:
            self.listener.on_close(code, reason)
        finally:
            self.admission.end(NOTHING)

    def on_drained(self) -> None:
        """There is room again."""
        self.listener.on_drained()

    def on_shutdown(self) -> None:
        """This instance is draining."""
        self.listener.on_shutdown()
