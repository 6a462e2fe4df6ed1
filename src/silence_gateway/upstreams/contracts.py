"""
What it means to call a gRPC method, whoever carries the call.

Implemented by one connection (`connection.py`), by a pool of endpoints (`pool.py`) and by
`testing.ScriptedUpstream`. Messages are bytes: what is inside is the business of `transcoding/`.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Sequence
from typing import Protocol, TypeAlias

Metadata: TypeAlias = "Sequence[tuple[bytes, bytes]]"
"""Lower-case name and value, in order. Values of `-bin` names are raw bytes, not base64."""


class Reply:
    """The answer to a unary call: one message and what came around it. Made for every call, so slots."""

    __slots__ = ("initial_metadata", "message", "trailing_metadata")

    def __init__(self, message: bytes, initial_metadata: Metadata, trailing_metadata: Metadata) -> None:
        self.message = message
        self.initial_metadata = initial_metadata
        self.trailing_metadata = trailing_metadata


class CallStream(Protocol):
    """
    A call whose answer is a stream of messages.

    Iterate to get messages as they arrive; memory is bounded by HTTP/2 flow control, because the
    window is given back only for messages that were taken. Iteration ends after an OK status, and
    raises RpcError or UpstreamFault otherwise. Leaving it unfinished needs `cancel()`.
    """

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over the messages."""

    async def initial_metadata(self) -> Metadata:
        """Wait for and return the header pairs sent before the first message; raises if it failed without."""

    async def trailing_metadata(self) -> Metadata:
        """Wait for and return the header pairs sent with the status; empty before the end is an error."""

    def cancel(self) -> None:
        """Tell the upstream that nobody waits any more (RST_STREAM CANCEL); harmless when finished."""


class Caller(Protocol):
    """Something that carries gRPC calls."""

    def unary(
        self, method: bytes, message: bytes, metadata: Metadata = (), deadline_s: float | None = None
    ) -> Awaitable[Reply]:
        """
        Call *method* (`/package.Service/Method`) with one message, for one message.

        Args:
            method: The full method path.
            message: The request, serialised.
            metadata: Pairs to send with the call.
            deadline_s: Monotonic seconds (`Clock.monotonic_s`) at which to give up; what remains of it
                is sent as grpc-timeout.

        Raises:
            RpcError: The upstream answered with a status that is not OK.
            UpstreamUnavailable: No endpoint could take it, or the connection broke; `sent` tells whether
                the upstream may have seen it.
            UpstreamTimeout: The deadline passed.
            UpstreamProtocolError: The answer was not gRPC.

        Cancelling the awaiting task cancels the call at the upstream.
        """

    def stream(
        self,
        method: bytes,
        messages: bytes | AsyncIterable[bytes],
        metadata: Metadata = (),
        deadline_s: float | None = None,
    ) -> CallStream:
        """
        Call *method* with one message (bytes) or many (an async iterable), for a stream of messages.

        Nothing is raised here: what goes wrong is raised by the returned stream, as for `unary`.
        """
