"""
Clients of services without generated stubs: typed, and of message classes that are there anyway.

Message classes of protobuf-py and of google.protobuf both do; neither is imported here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Protocol, Self, TypeVar, overload

from silence_gateway.upstreams.channel_methods import ManyRequests, OneRequest
from silence_gateway.upstreams.interceptors import Kind
from silence_gateway.upstreams.stream_answer import StreamAnswer
from silence_gateway.upstreams.unary_answer import UnaryAnswer

Q = TypeVar("Q")
T = TypeVar("T")
C = TypeVar("C", bound=Callable[..., Any])


class MakesMethods(Protocol):
    """What a client calls through: a `Channel`, or `grpc.aio.Channel`."""

    @property
    def unary_unary(self) -> Callable[..., Any]: ...  # noqa: D102 - see `Channel`

    @property
    def unary_stream(self) -> Callable[..., Any]: ...  # noqa: D102

    @property
    def stream_unary(self) -> Callable[..., Any]: ...  # noqa: D102

    @property
    def stream_stream(self) -> Callable[..., Any]: ...  # noqa: D102


def serializer_of(kind: Any) -> Callable[[Any], bytes]:
    """
    Return what turns messages of *kind* into bytes.

    Raises:
        TypeError: It is no message class.
    """
    found = getattr(kind, "to_binary", None) or getattr(kind, "SerializeToString", None)
    if found is None:
        if kind is bytes:
            return bytes
        raise TypeError(f"{kind!r} is no message class of protobuf-py or google.protobuf, nor bytes")
    serialize: Callable[[Any], bytes] = found
    return serialize


def deserializer_of(kind: type[T]) -> Callable[[bytes], T]:
    """
    Return what turns bytes into messages of *kind*.

    Raises:
        TypeError: It is no message class.
    """
    found = getattr(kind, "from_binary", None) or getattr(kind, "FromString", None)
    if found is None:
        if kind is bytes:
            return kind
        raise TypeError(f"{kind!r} is no message class of protobuf-py or google.protobuf, nor bytes")
    deserialize: Callable[[bytes], T] = found
    return deserialize


class Rpc(Generic[C]):
    """One method of a `ServiceClient`; as an attribute of an instance it is the function that calls it."""

    def __init__(self, kind: Kind, path: str, request: type[Any], response: type[Any]) -> None:
        self._kind = kind
        self._path = path if path.startswith("/") else f"/{path}"  # grpc.aio.Channel wants it
        self._serialize = serializer_of(request)
        self._deserialize = deserializer_of(response)
        self._name = ""

    def __set_name__(self, _owner: type[object], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, client: None, owner: object = None) -> Self: ...

    @overload
    def __get__(self, client: ServiceClient, owner: object = None) -> C: ...

    def __get__(self, client: ServiceClient | None, owner: object = None) -> Self | C:
        if client is None:
            return self
        make = getattr(client.channel, self._kind)
        call: C = make(self._path, self._serialize, self._deserialize)
        # Found there before this is asked again.
        client.__dict__[self._name] = call
        return call


class ServiceClient:
    """
    A client of one service. Name its methods in a subclass, and call them on an instance.

        class Shop(ServiceClient):
            get_item = ServiceClient.unary_unary("shop.v1.Shop/GetItem", GetItemRequest, Item)
            watch = ServiceClient.unary_stream("shop.v1.Shop/Watch", WatchRequest, Item)

        item = await Shop(channel).get_item(GetItemRequest(name="latte"), timeout=1)

    Attributes:
        channel: What it calls through.
    """

    def __init__(self, channel: MakesMethods) -> None:
        self.channel = channel

    @staticmethod
    def unary_unary(path: str, request: type[Q], response: type[T]) -> Rpc[OneRequest[Q, UnaryAnswer[T]]]:
        """Name a method that takes one message and answers with one."""
        return Rpc("unary_unary", path, request, response)

    @staticmethod
    def unary_stream(path: str, request: type[Q], response: type[T]) -> Rpc[OneRequest[Q, StreamAnswer[T]]]:
        """Name a method that takes one message and answers with many."""
        return Rpc("unary_stream", path, request, response)

    @staticmethod
    def stream_unary(path: str, request: type[Q], response: type[T]) -> Rpc[ManyRequests[Q, UnaryAnswer[T]]]:
        """Name a method that takes many messages and answers with one."""
        return Rpc("stream_unary", path, request, response)

    @staticmethod
    def stream_stream(
        path: str, request: type[Q], response: type[T]
    ) -> Rpc[ManyRequests[Q, StreamAnswer[T]]]:
        """Name a method that takes many messages and answers with many."""
        return Rpc("stream_stream", path, request, response)
