"""
A stream of messages to the pieces of an HTTP body, as they arrive.

The first message, or the status, is awaited before anything is sent, so that a call that fails early
has its HTTP status. A call that fails later says so in the stream (`{"error": google.rpc.Status}`) and
then raises, so that the edge breaks the connection off and no client takes a part for the whole.

These are classes with `aclose`, not async generators: a generator that was never started does not run
its `finally`, and the call behind it would go on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TypeAlias

from protobuf import Registry

from silence_gateway.core.http import HeaderList
from silence_gateway.errors import GatewayError, RpcError, UpstreamFault
from silence_gateway.transcoding.errors_as_json import error_record
from silence_gateway.transcoding.headers import headers_of
from silence_gateway.upstreams.contracts import CallStream

Write: TypeAlias = Callable[[bytes], bytes]
"""Makes what the caller reads of one message. Raises UpstreamProtocolError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """
    How messages are put side by side in a body.

    Attributes:
        before_first: Written before the first message.
        between: Written before every other message, and before an error record.
        after_each: Written after every message and after an error record.
        end: Written at a clean end after at least one message.
        empty: The whole body if there was no message.
        says_errors: Whether an error record can be told from the messages.
    """

    before_first: bytes = b""
    between: bytes = b""
    after_each: bytes = b""
    end: bytes = b""
    empty: bytes = b""
    says_errors: bool = True


ARRAY = Form(before_first=b"[", between=b",", end=b"]", empty=b"[]")
LINES = Form(after_each=b"\n")
RAW = Form(says_errors=False)


class BodyPieces:
    """
    The pieces of one streamed body; an async iterator that must be closed.

    Args:
        stream: The call, of which *first* has been taken already.
        messages: The iterator over *stream*.
        first: What the caller reads of its first message.
        write: Makes what the caller reads of one message.
        form: How messages are put side by side.
        registry: Where the types of error details are looked up.

    Attributes:
        trailers: Trailing metadata of a call that has ended, as header lines; empty before that.
    """

    __slots__ = ("failed", "first", "form", "messages", "over", "registry", "stream", "trailers", "write")

    def __init__(
        self,
        stream: CallStream,
        messages: AsyncIterator[bytes],
        first: bytes,
        write: Write,
        form: Form,
        registry: Registry,
    ) -> None:
        self.stream = stream
        self.messages = messages
        self.first = form.before_first + first + form.after_each
        self.write = write
        self.form = form
        self.registry = registry
        self.over = False
        self.failed: GatewayError | None = None
        self.trailers: HeaderList = []

    def __aiter__(self) -> BodyPieces:
        return self

    async def __anext__(self) -> bytes:
        """
        Return the next piece.

        Raises:
            StopAsyncIteration: The stream is over.
            RpcError: The upstream ended it with an error, which the piece before this told the caller.
            UpstreamFault: It broke; likewise.
        """
        if self.failed is not None:
            raise self.failed
        if self.over:
            raise StopAsyncIteration
        if self.first:
            first, self.first = self.first, b""
            return first
        form = self.form
        try:
            message = await anext(self.messages)
            return form.between + self.write(message) + form.after_each
        except StopAsyncIteration:
            self.over = True
            self.trailers = headers_of((), await self.stream.trailing_metadata())
            if not form.end:
                raise
            return form.end
        except (RpcError, UpstreamFault) as error:
            self.stream.cancel()
            self.failed = error
            if isinstance(error, RpcError):
                self.trailers = headers_of((), error.trailing_metadata)
            if not form.says_errors:
                raise
            return form.between + error_record(error, self.registry) + form.after_each

    async def aclose(self) -> None:
        """End the call, if it has not ended; harmless otherwise."""
        self.over = True
        self.stream.cancel()
