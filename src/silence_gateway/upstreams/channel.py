"""
The library door for generated code: a `Channel` takes the place of `grpc.aio.Channel`.

Stubs that grpcio-tools generated work on it unchanged, over whatever carries calls: a pool, a connection, or
addresses, for which it makes a pool of its own. What is the same as with grpcio and what is not:
docs/reference/grpc-channel.md.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar
from weakref import WeakSet

from silence_gateway.clock import Clock, SystemClock
from silence_gateway.errors import ConfigError
from silence_gateway.upstreams.channel_call import Carried, ChannelCall, Terms
from silence_gateway.upstreams.channel_methods import method_of
from silence_gateway.upstreams.channel_packing import Packed, encoding_of
from silence_gateway.upstreams.channel_targets import pool_of
from silence_gateway.upstreams.channel_words import OURS, WordsOfGrpcio
from silence_gateway.upstreams.connect_clients import connect_client
from silence_gateway.upstreams.connectivity import Connectivity, KnowsConnectivity, News
from silence_gateway.upstreams.contracts import Caller
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.interceptors import Interceptor, Kind, handlers
from silence_gateway.upstreams.method_doors import MethodDoors
from silence_gateway.upstreams.stream_answer import StreamAnswer
from silence_gateway.upstreams.unary_answer import UnaryAnswer
from silence_gateway.upstreams.when_ready import WhenReady

T = TypeVar("T")

_CLOSE_S = 1.0
"""How long calls that were cancelled may take to leave, before connections are closed over them."""


class Channel(MethodDoors):
    """
    Looks like `grpc.aio.Channel` to a generated stub. Use it from one event loop.

    Args:
        target: What carries the calls, which stays whoever made it's to close; or an address, or several, to
            which it connects by itself when first used, and which `close` closes.
        clock: What `timeout` is measured by; the machine's if absent. Must be the caller's.
        interceptors: What every call goes through; the first one sees it first.
        tls: For addresses: encrypt with this context, `ssl.create_default_context()` for example.
        server_name: For addresses: the name to check the certificate for and to send; the host if absent.
        timeout_s: For addresses: what a unary call without a timeout gets, in seconds.
        as_grpcio: Tell callers how calls went as grpcio does, with `grpc.StatusCode`, `grpc.aio.AioRpcError`
            and the like, for code that was written for it. grpcio must be installed.
        compression: How requests are packed, unless their calls say otherwise: one of `grpc.Compression`, or
            `identity`, `gzip`, `deflate` or `zstd`. None leaves it to the settings of *target*.

    Raises:
        ConfigError: An address makes no sense, or there is none.
        ValueError: *compression* makes no sense.
        TypeError: *target*, *clock*, *tls* or an interceptor is none.

    Attributes:
        caller: What carries the calls.
        when_ready: The same for calls that wait for it.
        awake: Whether calls can be made without further ado.
    """

    def __init__(
        self,
        target: Caller | str | Sequence[str],
        clock: Clock | None = None,
        *,
        interceptors: Sequence[Interceptor] = (),
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
        timeout_s: float = 5.0,
        as_grpcio: bool = False,
        compression: str | int | None = None,
    ) -> None:
        if not (clock is None or hasattr(clock, "monotonic_s")):
            raise TypeError(
                f"second comes a clock, and several addresses are one list, Channel([...]), not {clock!r}"
            )
        self._clock = clock or SystemClock()
        self._own: GrpcUpstream | None = None
        self._name = ""
        if not (isinstance(target, str | Sequence) or hasattr(target, "unary")) or isinstance(target, bytes):
            raise TypeError(
                f"a channel goes to an address, to several, a GrpcUpstream or a connection, not to {target!r}"
            )
        if isinstance(target, str | Sequence):
            addresses = (target,) if isinstance(target, str) else tuple(target)
            self._own = pool_of(addresses, self._clock, tls, server_name, timeout_s)
            carrier: Caller = self._own
        elif tls is not None or server_name is not None:
            raise ConfigError("tls and server_name go with addresses; an upstream has its own settings")
        else:
            carrier = target
            if isinstance(target, GrpcUpstream):
                self._name = target.settings.name
        self._carrier = self.caller = carrier
        self.when_ready: Caller = WhenReady(carrier, self._clock)
        if compression is not None:
            encoding = encoding_of(compression)
            self.caller = Packed(carrier, encoding)
            self.when_ready = Packed(self.when_ready, encoding)
        self.awake = False
        handlers(interceptors, "unary_unary")
        self._interceptors = tuple(interceptors)
        self._words = WordsOfGrpcio() if as_grpcio else OURS
        self._starting: asyncio.Task[None] | None = None
        self._closed = False
        self._closing = News()
        self._unary: set[UnaryAnswer[Any]] = set()
        self._carried = Carried()
        self._streams: WeakSet[StreamAnswer[Any]] = WeakSet()

    async def __aenter__(self) -> Self:
        self.wake()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    def connect_client(self, kind: type[T]) -> T:
        """
        Return a client of *kind*, which protoc-gen-connectrpc generated, that calls over this channel.

        Raises:
            TypeError: *kind* is no such class, or one for callers that are not async.
        """
        return connect_client(kind, self)

    def get_state(self, try_to_connect: bool = False) -> Connectivity:
        """Return what a call can hope for now; *try_to_connect* begins to connect, if that is ours to do."""
        if try_to_connect and not self._closed:
            self.wake()
        state: Connectivity = self._words.connectivity(self._state())
        return state

    async def wait_for_state_change(self, last_observed_state: Connectivity) -> None:
        """Wait until the state is another one than *last_observed_state*."""
        while self.get_state() is last_observed_state:
            await self._change()

    async def channel_ready(self) -> None:
        """
        Connect, and wait until a call can be taken.

        Raises:
            InvalidStateError: The channel is closed.
        """
        while True:
            self.wake()
            if self._state() is Connectivity.READY:
                return
            await self._change()

    async def close(self, grace: float | None = None) -> None:
        """
        Take no more calls, give those that run *grace* seconds to end, and cancel the others.

        Connections are closed if the channel was made for addresses. Closing it twice is harmless.
        """
        self._closed = True
        self.awake = False
        self._closing.tell()
        calls: list[ChannelCall[Any]] = [*self._unary, *self._streams]
        carried = [call for call in self._carried if not call.done()]
        if grace and (calls or carried):
            await self._ended(calls, carried, grace)
        for call in calls:
            call.cancel()
        for each in carried:
            each.cancel()
        if self._own is not None:
            if self._starting is not None:
                await self._starting
            await self._own.stop(_CLOSE_S)

    def wake(self) -> None:
        """
        Begin to connect, if that is the channel's to do.

        Raises:
            InvalidStateError: The channel is closed.
        """
        if self._closed:
            raise self._words.misuse("the channel is closed")
        if not self.awake:
            self.awake = True
            if self._own is not None:
                # A task of its own runs before those of the calls that are made after this.
                self._starting = asyncio.get_running_loop().create_task(self._own.start())

    def keep(self, call: StreamAnswer[Any]) -> None:
        """Remember a stream that is running, without holding it."""
        self._streams.add(call)

    def _method(
        self,
        kind: Kind,
        method: str,
        serialize: Callable[[Any], bytes] | None,
        deserialize: Callable[[bytes], Any] | None,
    ) -> Callable[..., Any]:
        terms = Terms(
            method.encode() if method.startswith("/") else b"/" + method.encode(),
            serialize or bytes,
            deserialize,
            words=self._words,
            clock=self._clock,
            upstream=self._name,
            running=self._unary,
            carried=self._carried,
        )
        return method_of(self, kind, terms, handlers(self._interceptors, kind))

    def _state(self) -> Connectivity:
        if self._closed:
            return Connectivity.SHUTDOWN
        carrier = self._carrier
        return carrier.connectivity if isinstance(carrier, KnowsConnectivity) else Connectivity.READY

    async def _change(self) -> None:
        """Wait until the state may have changed."""
        waiting = [self._closing.wait()]
        if isinstance(self._carrier, KnowsConnectivity):
            waiting.append(self._carrier.connectivity_changed())
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()

    async def _ended(
        self, calls: list[ChannelCall[Any]], carried: list[asyncio.Future[Any]], within_s: float
    ) -> None:
        loop = asyncio.get_running_loop()
        ends = [loop.create_task(call.code()) for call in calls]
        patience = loop.create_task(self._clock.sleep(within_s))
        whole = loop.create_task(asyncio.wait([*ends, *carried]))
        try:
            await asyncio.wait((patience, whole), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (patience, whole, *ends):
                task.cancel()
