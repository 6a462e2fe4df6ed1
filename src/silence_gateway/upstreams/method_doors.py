"""The four doors through which stubs get their methods, and their types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

from silence_gateway.upstreams.channel_methods import ManyRequests, OneRequest
from silence_gateway.upstreams.interceptors import Kind
from silence_gateway.upstreams.stream_answer import StreamAnswer
from silence_gateway.upstreams.unary_answer import UnaryAnswer

T = TypeVar("T")
Q = TypeVar("Q")


class MethodDoors:
    """
    Makes the functions that stubs keep, as `grpc.aio.Channel` does.

    Without a serializer requests are bytes, and without a deserializer messages are. What generated code says
    in *_registered_method* makes no difference here.
    """

    @overload
    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Q], bytes],
        response_deserializer: Callable[[bytes], T],
        _registered_method: bool | None = ...,
    ) -> OneRequest[Q, UnaryAnswer[T]]: ...

    @overload
    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = ...,
        response_deserializer: Callable[[bytes], Any] | None = ...,
        _registered_method: bool | None = ...,
    ) -> OneRequest[Any, UnaryAnswer[Any]]: ...

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> OneRequest[Any, UnaryAnswer[Any]]:
        """Return a function that calls *method* with one message, for one message."""
        return self._method("unary_unary", method, request_serializer, response_deserializer)

    @overload
    def unary_stream(
        self,
        method: str,
        request_serializer: Callable[[Q], bytes],
        response_deserializer: Callable[[bytes], T],
        _registered_method: bool | None = ...,
    ) -> OneRequest[Q, StreamAnswer[T]]: ...

    @overload
    def unary_stream(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = ...,
        response_deserializer: Callable[[bytes], Any] | None = ...,
        _registered_method: bool | None = ...,
    ) -> OneRequest[Any, StreamAnswer[Any]]: ...

    def unary_stream(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> OneRequest[Any, StreamAnswer[Any]]:
        """Return a function that calls *method* with one message, for many."""
        return self._method("unary_stream", method, request_serializer, response_deserializer)

    @overload
    def stream_unary(
        self,
        method: str,
        request_serializer: Callable[[Q], bytes],
        response_deserializer: Callable[[bytes], T],
        _registered_method: bool | None = ...,
    ) -> ManyRequests[Q, UnaryAnswer[T]]: ...

    @overload
    def stream_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = ...,
        response_deserializer: Callable[[bytes], Any] | None = ...,
        _registered_method: bool | None = ...,
    ) -> ManyRequests[Any, UnaryAnswer[Any]]: ...

    def stream_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> ManyRequests[Any, UnaryAnswer[Any]]:
        """Return a function that calls *method* with many messages, for one."""
        return self._method("stream_unary", method, request_serializer, response_deserializer)

    @overload
    def stream_stream(
        self,
        method: str,
        request_serializer: Callable[[Q], bytes],
        response_deserializer: Callable[[bytes], T],
        _registered_method: bool | None = ...,
    ) -> ManyRequests[Q, StreamAnswer[T]]: ...

    @overload
    def stream_stream(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = ...,
        response_deserializer: Callable[[bytes], Any] | None = ...,
        _registered_method: bool | None = ...,
    ) -> ManyRequests[Any, StreamAnswer[Any]]: ...

    def stream_stream(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> ManyRequests[Any, StreamAnswer[Any]]:
        """Return a function that calls *method* with many messages, for many."""
        return self._method("stream_stream", method, request_serializer, response_deserializer)

    def _method(
        self,
        kind: Kind,
        method: str,
        serialize: Callable[[Any], bytes] | None,
        deserialize: Callable[[bytes], Any] | None,
    ) -> Callable[..., Any]:
        raise NotImplementedError
