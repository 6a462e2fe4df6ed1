"""
Clients that protoc-gen-connectrpc generated, over a `Channel`.

Such a client does nothing but call the four `execute_...` methods of its base class with a message and a
description of the method. Here they call the channel instead; the Connect runtime is not imported, and what
travels is gRPC. What came around the answer is told in its words (`connect_metadata.py`).
"""

from __future__ import annotations

import binascii
import inspect
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

from silence_gateway.upstreams.connect_metadata import message_of, messages_of
from silence_gateway.upstreams.interceptors import Kind
from silence_gateway.upstreams.service_client import MakesMethods, deserializer_of, serializer_of

C = TypeVar("C")


@runtime_checkable
class HasItems(Protocol):
    """Headers of the Connect runtime."""

    def allitems(self) -> Iterable[tuple[str, str]]:
        """Return every pair, repeated names included."""


Headers: TypeAlias = "HasItems | Mapping[str, str] | None"


class MethodDescription(Protocol):
    """What a generated client says of a method (`connectrpc.method.MethodInfo`)."""

    @property
    def name(self) -> str: ...  # noqa: D102 - of the method

    @property
    def service_name(self) -> str: ...  # noqa: D102 - with its package

    @property
    def input(self) -> type[Any]: ...  # noqa: D102 - the class of requests

    @property
    def output(self) -> type[Any]: ...  # noqa: D102 - the class of answers


class _OverChannel:
    """The four ways in which a generated client calls."""

    _channel: MakesMethods
    _functions: dict[str, Callable[..., Any]]

    async def execute_unary(
        self,
        *,
        request: Any,
        method: MethodDescription,
        headers: Headers = None,
        timeout_ms: int | None = None,
        use_get: bool = False,  # noqa: ARG002 - gRPC has no other way than POST, so it means the same call
    ) -> Any:
        return await message_of(self._call("unary_unary", request, method, headers, timeout_ms))

    async def execute_client_stream(
        self,
        *,
        request: AsyncIterator[Any],
        method: MethodDescription,
        headers: Headers = None,
        timeout_ms: int | None = None,
    ) -> Any:
        return await message_of(self._call("stream_unary", request, method, headers, timeout_ms))

    def execute_server_stream(
        self,
        *,
        request: Any,
        method: MethodDescription,
        headers: Headers = None,
        timeout_ms: int | None = None,
    ) -> AsyncIterator[Any]:
        return messages_of(self._call("unary_stream", request, method, headers, timeout_ms))

    def execute_bidi_stream(
        self,
        *,
        request: AsyncIterator[Any],
        method: MethodDescription,
        headers: Headers = None,
        timeout_ms: int | None = None,
    ) -> AsyncIterator[Any]:
        return messages_of(self._call("stream_stream", request, method, headers, timeout_ms))

    async def close(self) -> None:
        """Do nothing: the channel stays whoever made it's to close."""

    async def __aenter__(self) -> Any:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        return

    def _call(
        self, kind: Kind, request: Any, method: MethodDescription, headers: Headers, timeout_ms: int | None
    ) -> Any:
        path = f"/{method.service_name}/{method.name}"
        function = self._functions.get(path)
        if function is None:
            function = self._functions[path] = getattr(self._channel, kind)(
                path, serializer_of(method.input), deserializer_of(method.output)
            )
        return function(request, timeout=_seconds(timeout_ms), metadata=_metadata(headers))


def connect_client(kind: type[C], channel: MakesMethods) -> C:
    """
    Return a client of the generated class *kind* whose calls go over *channel*.

    Raises:
        TypeError: *kind* is no class that protoc-gen-connectrpc generated for async callers.
    """
    if not inspect.iscoroutinefunction(getattr(kind, "execute_unary", None)):
        raise TypeError(f"{kind!r} is no class that protoc-gen-connectrpc generated for async callers")
    made: Any = type(kind.__name__, (_OverChannel, kind), {"__doc__": kind.__doc__})
    client = made.__new__(made)
    client._channel = channel  # noqa: SLF001 - a constructor: the class's own makes an HTTP client
    client._functions = {}  # noqa: SLF001
    ready: C = client
    return ready


def _seconds(timeout_ms: int | None) -> float | None:
    return None if timeout_ms is None else timeout_ms / 1_000


def _metadata(headers: Headers) -> list[tuple[str, str | bytes]]:
    """
    Return headers as metadata; what has a name in `-bin` is base64 among headers.

    Raises:
        ValueError: It is not.
    """
    if not headers:
        return []
    # Theirs are mappings too, but as such they leave out repeated names.
    pairs = headers.allitems() if isinstance(headers, HasItems) else headers.items()
    return [
        (name.lower(), _from_base64(name, value) if name.lower().endswith("-bin") else value)
        for name, value in pairs
    ]


def _from_base64(name: str, value: str) -> bytes:
    try:
        return b64decode(value + "=" * (-len(value) % 4), validate=True)
    except binascii.Error as exc:
        raise ValueError(f"the header {name!r} must be base64: {exc}") from exc
