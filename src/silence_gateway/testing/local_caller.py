"""
A `Caller` whose methods are Python functions: no socket, no server, no time.

For tests of whatever makes gRPC calls. It keeps every call it was asked for, so that a test can look
at what was sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError
from silence_gateway.upstreams.contracts import Metadata, Reply

UnaryMethod: TypeAlias = Callable[[bytes], bytes]
"""Answers one message, or raises RpcError or UpstreamFault."""

StreamMethod: TypeAlias = Callable[[AsyncIterator[bytes]], AsyncIterator[bytes]]
"""Answers a stream of messages with a stream of messages, or raises on the way."""


@dataclass
class LocalCall:
    """
    A call that was made.

    Attributes:
        method: As `/package.Service/Method`.
        message: The message it was made with; empty for a stream of messages.
        metadata: What came along.
        deadline_s: As it was given.
        cancelled: Whether the caller gave it up.
    """

    method: bytes
    message: bytes
    metadata: list[tuple[bytes, bytes]]
    deadline_s: float | None
    cancelled: bool = False


@dataclass
class LocalCaller:
    """
    Calls functions instead of servers; a method that is in neither table is UNIMPLEMENTED.

    Attributes:
        unary_methods: By `/package.Service/Method`.
        stream_methods: The same, for methods that answer with a stream.
        initial_metadata: What every answer begins with.
        trailing_metadata: What every answer ends with.
        calls: Every call so far, oldest first.
    """

    unary_methods: Mapping[bytes, UnaryMethod] = field(default_factory=dict)
    stream_methods: Mapping[bytes, StreamMethod] = field(default_factory=dict)
    initial_metadata: Metadata = ()
    trailing_metadata: Metadata = ()
    calls: list[LocalCall] = field(default_factory=list)

    async def unary(
        self, method: bytes, message: bytes, metadata: Metadata = (), deadline_s: float | None = None
    ) -> Reply:
        """Answer with what the function of *method* returns."""
        call = LocalCall(method, message, list(metadata), deadline_s)
        self.calls.append(call)
        function = self.unary_methods.get(method)
        if function is None:
            raise RpcError(Code.UNIMPLEMENTED, f"no method {method.decode()}")
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            call.cancelled = True
            raise
        return Reply(function(message), self.initial_metadata, self.trailing_metadata)

    def stream(
        self,
        method: bytes,
        messages: bytes | AsyncIterable[bytes],
        metadata: Metadata = (),
        deadline_s: float | None = None,
    ) -> LocalStream:
        """Answer with what the function of *method* yields."""
        single = messages if isinstance(messages, bytes) else b""
        call = LocalCall(method, single, list(metadata), deadline_s)
        self.calls.append(call)
        asked = one(messages) if isinstance(messages, bytes) else aiter(messages)
        return LocalStream(self, call, self.stream_methods.get(method), asked)


class LocalStream:
    """A `CallStream` that runs a function."""

    def __init__(
        self, caller: LocalCaller, call: LocalCall, function: StreamMethod | None, asked: AsyncIterator[bytes]
    ) -> None:
        self.caller = caller
        self.call = call
        self.over = False
        self.answers = unimplemented(call.method) if function is None else function(asked)

    def __aiter__(self) -> LocalStream:
        return self

    async def __anext__(self) -> bytes:
        """Return the next message; nothing more once the call was cancelled."""
        if self.call.cancelled:
            raise RpcError(Code.CANCELLED, "cancelled here")
        try:
            return await anext(self.answers)
        except BaseException:
            self.over = True
            raise

    async def initial_metadata(self) -> Metadata:
        """Return what every answer begins with."""
        return self.caller.initial_metadata

    async def trailing_metadata(self) -> Metadata:
        """Return what every answer ends with."""
        return self.caller.trailing_metadata

    def cancel(self) -> None:
        """Note that nobody waits any more; harmless once it is over."""
        if not self.over:
            self.call.cancelled = True


async def one(message: bytes) -> AsyncIterator[bytes]:
    """Yield *message*."""
    yield message


async def unimplemented(method: bytes) -> AsyncIterator[bytes]:
    """Refuse, as a server does that does not know *method*."""
    raise RpcError(Code.UNIMPLEMENTED, f"no method {method.decode()}")
    yield b""
