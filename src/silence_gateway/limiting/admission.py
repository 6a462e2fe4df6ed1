"""
What is left to do once a request that was let through has its answer.

Places under concurrency limits are released and costs that the answer tells are settled: when a whole
answer is there, when a stream has ended or its client has left, when a WebSocket is closed, or when
there will be no answer at all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

from silence_gateway.core.http import HeaderList, Response, StreamingResponse, UpgradeResponse
from silence_gateway.core.sockets import Socket, SocketListener

Finish = Callable[[Iterable[tuple[bytes, bytes]] | None], None]
"""Told once, with the answer's headers (a stream's trailers behind them), or None if there is no answer."""


class Admission:
    """
    A request that passed, until `finish` is told how it ended.

    Attributes:
        lines: Header lines for its answer.
    """

    __slots__ = ("_finish", "lines")

    def __init__(self, lines: HeaderList, finish: Finish) -> None:
        self.lines = lines
        self._finish: Finish | None = finish

    def end(self, headers: Iterable[tuple[bytes, bytes]] | None) -> None:
        """The request is over; harmless when it was already."""
        finish, self._finish = self._finish, None
        if finish is not None:
            finish(headers)

    def of(self, response: Response) -> Response:
        """Return *response* as it must be sent so that its end is noticed."""
        if isinstance(response, StreamingResponse):
            response.chunks = WatchedChunks(response.chunks, self, response.headers)
        elif isinstance(response, UpgradeResponse):
            response.listener = WatchedSocket(response.listener, self)
            response.on_refused = lambda: self.end(None)
        else:
            self.end(response.headers)
        return response


class WatchedChunks:
    """The pieces of a streamed answer, whose end is noticed however it comes."""

    __slots__ = ("admission", "chunks", "headers")

    def __init__(self, chunks: AsyncIterator[bytes], admission: Admission, headers: HeaderList) -> None:
        self.chunks = chunks
        self.admission = admission
        self.headers = headers

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
        trailers: HeaderList = getattr(self.chunks, "trailers", [])
        self.admission.end([*self.headers, *trailers])

    async def aclose(self) -> None:
        """End the answer, if it has not ended."""
        close: Callable[[], Any] | None = getattr(self.chunks, "aclose", None)
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
            self.admission.end([])

    def on_drained(self) -> None:
        """There is room again."""
        self.listener.on_drained()

    def on_shutdown(self) -> None:
        """This instance is draining."""
        self.listener.on_shutdown()
