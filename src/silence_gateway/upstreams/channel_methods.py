"""
The four kinds of methods of a `Channel`, as functions that stubs keep and call.

Hot path: `unary_unary` without interceptors is one closure; whatever it does not need is not asked for.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from typing import Any, Protocol, TypeAlias, TypeVar

from silence_gateway.errors import GatewayError
from silence_gateway.upstreams.channel_call import Terms, deadline_of
from silence_gateway.upstreams.channel_packing import asking
from silence_gateway.upstreams.channel_words import OURS, Pairs, to_wire
from silence_gateway.upstreams.contracts import Caller, CallStream
from silence_gateway.upstreams.interceptors import (
    InterceptedStream,
    InterceptedUnary,
    Kind,
    OutgoingCall,
    ProceedStream,
    ProceedUnary,
)
from silence_gateway.upstreams.stream_answer import StreamAnswer
from silence_gateway.upstreams.unary_answer import UnaryAnswer, carried, made_to_fail
from silence_gateway.upstreams.written_requests import WrittenRequests

Q_contra = TypeVar("Q_contra", contravariant=True)
T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")

Requests: TypeAlias = "AsyncIterable[T] | Iterable[T] | None"
"""Where the requests of a call come from; None to `write` them."""


class OneRequest(Protocol[Q_contra, T_co]):
    """Calls a method that takes one request; returns T_co, the call."""

    def __call__(
        self,
        request: Q_contra,
        *,
        timeout: float | None = None,
        metadata: Pairs | None = None,
        credentials: object = None,
        wait_for_ready: bool | None = None,
        compression: str | int | None = None,
    ) -> T_co:
        """Begin a call, within *timeout* seconds; *credentials* are refused, *compression*: see `Channel`."""


class ManyRequests(Protocol[Q_contra, T_co]):
    """Calls a method that takes a stream of requests; returns T_co, the call."""

    def __call__(
        self,
        request_iterator: AsyncIterable[Q_contra] | Iterable[Q_contra] | None = None,
        timeout: float | None = None,
        metadata: Pairs | None = None,
        credentials: object = None,
        wait_for_ready: bool | None = None,
        compression: str | int | None = None,
    ) -> T_co:
        """Begin a call, within *timeout* seconds; *credentials* are refused, *compression*: see `Channel`."""


class Line(Protocol):
    """What methods need of their channel."""

    caller: Caller
    when_ready: Caller
    awake: bool

    def wake(self) -> None:
        """Begin to connect, if that is the channel's to do; raises if it is closed."""

    def keep(self, call: StreamAnswer[Any]) -> None:
        """Remember a stream that is running, without holding it."""


def unary_call(line: Line, terms: Terms) -> OneRequest[Any, UnaryAnswer[Any]]:
    """Return a function that calls with one message, for one message."""
    path, serialize, clock, unary = terms.path, terms.serialize, terms.clock, line.caller.unary

    def call(
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Pairs | None = None,
        credentials: object = None,
        wait_for_ready: bool | None = None,
        compression: str | int | None = None,
    ) -> UnaryAnswer[Any]:
        make = line.when_ready.unary if wait_for_ready else unary
        if credentials is not None or compression is not None:
            make = asking(make, credentials, compression)
        if not line.awake:
            line.wake()
        deadline_s = None if timeout is None else deadline_of(timeout, clock)
        message = serialize(request)
        try:
            made = make(path, message, to_wire(metadata) if metadata else (), deadline_s)
        except GatewayError as error:
            made = made_to_fail(error)
        return carried(terms, deadline_s, made)

    return call


def unary_stream_call(line: Line, terms: Terms) -> OneRequest[Any, StreamAnswer[Any]]:
    """Return a function that calls with one message, for many."""

    def call(
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Pairs | None = None,
        credentials: object = None,
        wait_for_ready: bool | None = None,
        compression: str | int | None = None,
    ) -> StreamAnswer[Any]:
        make = _way_of_streams(line, wait_for_ready, credentials, compression)
        deadline_s = deadline_of(timeout, terms.clock)
        stream = make(terms.path, terms.serialize(request), to_wire(metadata), deadline_s)
        return _kept(line, StreamAnswer(terms, deadline_s, stream))

    return call


def stream_unary_call(line: Line, terms: Terms) -> ManyRequests[Any, UnaryAnswer[Any]]:
    """Return a function that calls with many messages, for one."""

    def call(
        request_iterator: Requests[Any] = None,
        timeout: float | None = None,
        metadata: Pairs | None = None,
        credentials: object = None,
        wait_for_ready: bool | None = None,
        compression: str | int | None = None,
    ) -> UnaryAnswer[Any]:
        make = _way_of_streams(line, wait_for_ready, credentials, compression)
        deadline_s = deadline_of(timeout, terms.clock)
        requests = WrittenRequests(request_iterator, terms.serialize)
        answer: UnaryAnswer[Any] = UnaryAnswer(terms, deadline_s, requests)
        return answer.begin(answer.run_stream(make, to_wire(metadata)))

    return call


def stream_stream_call(line: Line, terms: Terms) -> ManyRequests[Any, StreamAnswer[Any]]:
    """Return a function that calls with many messages, for many."""

    def call(
        request_iterator: Requests[Any] = None,
        timeout: float | None = None,
        metadata: Pairs | None = None,
        credentials: object = None,
        wait_for_ready: bool | None = None,
        compression: str | int | None = None,
    ) -> StreamAnswer[Any]:
        make = _way_of_streams(line, wait_for_ready, credentials, compression)
        deadline_s = deadline_of(timeout, terms.clock)
        requests = WrittenRequests(request_iterator, terms.serialize)
        stream = make(terms.path, requests, to_wire(metadata), deadline_s)
        return _kept(line, StreamAnswer(terms, deadline_s, stream, requests))

    return call


def _way_of_streams(
    line: Line, wait_for_ready: bool | None, credentials: object, compression: str | int | None
) -> Callable[..., CallStream]:
    """Have *line* connect, if it has not, and return how a call that asks for these is made."""
    make = asking((line.when_ready if wait_for_ready else line.caller).stream, credentials, compression)
    line.wake()
    return make


def _kept(line: Line, answer: StreamAnswer[Any]) -> StreamAnswer[Any]:
    line.keep(answer)
    return answer


_PLAIN: dict[Kind, Callable[[Line, Terms], Callable[..., Any]]] = {
    "unary_unary": unary_call,
    "unary_stream": unary_stream_call,
    "stream_unary": stream_unary_call,
    "stream_stream": stream_stream_call,
}


def method_of(line: Line, kind: Kind, terms: Terms, handlers: list[Callable[..., Any]]) -> Callable[..., Any]:
    """Return the function for a method of *kind* whose calls go through *handlers*, the first one first."""
    if not handlers:
        return _PLAIN[kind](line, terms)
    # Interceptors speak our words; only the outermost call speaks the caller's.
    inside = terms.in_words(OURS)
    plain = _PLAIN[kind](line, inside)

    def send(call: OutgoingCall) -> Any:
        return plain(
            call.request,
            timeout=call.timeout,
            metadata=call.metadata,
            wait_for_ready=call.wait_for_ready,
            compression=call.compression,
        )

    step = _through_unary if kind.endswith("_unary") else _through_stream
    proceed: Callable[[OutgoingCall], Any] = send
    for handler in reversed(handlers[1:]):
        proceed = step(inside, handler, proceed)
    return _outermost(line, kind, terms, handlers[0], proceed)


def _through_unary(terms: Terms, handler: Callable[..., Any], proceed: ProceedUnary) -> ProceedUnary:
    def begin(call: OutgoingCall) -> UnaryAnswer[Any]:
        answer: InterceptedUnary[Any] = InterceptedUnary(terms, deadline_of(call.timeout, terms.clock))
        return answer.begin(answer.run_intercepted(handler, call, proceed))

    return begin


def _through_stream(terms: Terms, handler: Callable[..., Any], proceed: ProceedStream) -> ProceedStream:
    as_they_are = terms.without_deserializing()

    def begin(call: OutgoingCall) -> StreamAnswer[Any]:
        stream = InterceptedStream(handler, call, proceed)
        return StreamAnswer(as_they_are, deadline_of(call.timeout, terms.clock), stream)

    return begin


def _outermost(
    line: Line, kind: Kind, terms: Terms, handler: Callable[..., Any], proceed: Callable[[OutgoingCall], Any]
) -> Callable[..., Any]:
    many = kind.startswith("stream_")
    method = terms.path.decode()
    as_they_are = terms.without_deserializing()

    def call(
        request: Any = None,
        timeout: float | None = None,
        metadata: Pairs | None = None,
        credentials: object = None,
        wait_for_ready: bool | None = None,
        compression: str | int | None = None,
        request_iterator: Requests[Any] = None,
    ) -> UnaryAnswer[Any] | StreamAnswer[Any]:
        asking(line.caller.unary, credentials, compression)  # refuses here what would be refused later
        line.wake()
        deadline_s = deadline_of(timeout, terms.clock)
        requests: WrittenRequests | None = None
        if many:
            # What is written by hand goes through as it is, and becomes bytes after the last interceptor.
            requests = WrittenRequests(request_iterator if request is None else request, _as_it_is)
        pairs = [*metadata.items()] if isinstance(metadata, Mapping) else [*(metadata or ())]
        outgoing = OutgoingCall(
            method, request if requests is None else requests, timeout, pairs, wait_for_ready, compression
        )
        if kind.endswith("_unary"):
            answer: InterceptedUnary[Any] = InterceptedUnary(terms, deadline_s, requests)
            return answer.begin(answer.run_intercepted(handler, outgoing, proceed))
        stream = InterceptedStream(handler, outgoing, proceed)
        streaming: StreamAnswer[Any] = StreamAnswer(as_they_are, deadline_s, stream, requests)
        line.keep(streaming)
        return streaming

    return call


def _as_it_is(message: Any) -> Any:
    return message
