"""
Which compression a channel and its calls ask for (`compression=`), and how that reaches what carries them.

It travels with a call's metadata (`packing.WithEncoding`); packing is the connection's business. Calls that
ask for nothing, on a channel that asks for nothing, never get here.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Any

from silence_gateway.upstreams.contracts import Caller, CallStream, Metadata, Reply
from silence_gateway.upstreams.packing import CALL_ENCODINGS, WithEncoding

_NUMBERED = 3  # of `CALL_ENCODINGS`, those that grpcio has


def encoding_of(compression: object) -> str:
    """
    Return what *compression*, one of `grpc.Compression` or its number, or of `CALL_ENCODINGS`, asks for.

    Raises:
        ValueError: It is none of these.
    """
    if isinstance(compression, int) and not isinstance(compression, bool) and 0 <= compression < _NUMBERED:
        return CALL_ENCODINGS[compression]
    if isinstance(compression, str) and compression in CALL_ENCODINGS:
        return compression
    raise ValueError(
        f"compression is {compression!r}, not one of grpc.Compression, nor of {', '.join(CALL_ENCODINGS)}"
    )


def asking(make: Callable[..., Any], credentials: object, compression: object) -> Callable[..., Any]:
    """
    Return *make*, a `Caller`'s way to make calls, for calls that ask for these.

    Raises:
        NotImplementedError: *credentials* cannot be had; the text says what to do instead.
        ValueError: *compression* makes no sense.
    """
    if credentials is not None:
        raise NotImplementedError(
            "credentials per call are not supported: send a token in metadata, or add it in an interceptor"
        )
    if compression is None:
        return make
    encoding = encoding_of(compression)

    def make_packed(method: bytes, messages: Any, metadata: Metadata, deadline_s: float | None) -> Any:
        return make(method, messages, WithEncoding(metadata, encoding), deadline_s)

    return make_packed


class Packed:
    """A `Caller` over *caller* whose calls ask for *encoding*, unless they ask for something themselves."""

    def __init__(self, caller: Caller, encoding: str) -> None:
        self._caller = caller
        self._encoding = encoding

    def unary(
        self, method: bytes, message: bytes, metadata: Metadata = (), deadline_s: float | None = None
    ) -> Awaitable[Reply]:
        """See `Caller.unary`."""
        return self._caller.unary(method, message, self._with_encoding(metadata), deadline_s)

    def stream(
        self,
        method: bytes,
        messages: bytes | AsyncIterable[bytes],
        metadata: Metadata = (),
        deadline_s: float | None = None,
    ) -> CallStream:
        """See `Caller.stream`."""
        return self._caller.stream(method, messages, self._with_encoding(metadata), deadline_s)

    def _with_encoding(self, metadata: Metadata) -> WithEncoding:
        return metadata if isinstance(metadata, WithEncoding) else WithEncoding(metadata, self._encoding)
