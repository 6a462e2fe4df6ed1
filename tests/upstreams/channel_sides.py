"""One stub on grpcio's channel and on ours, so that the same scenario can be told of both."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from tests.upstreams.conftest import EchoService

from silence_gateway.upstreams.channel import Channel
from silence_gateway.upstreams.connection import connect
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.interceptors import Interceptor, OutgoingCall, ProceedStream, ProceedUnary
from silence_gateway.upstreams.settings import UpstreamSettings


class TalkativeService(EchoService):
    """
    Does more by its words than `EchoService`.

    Attributes:
        stream_left: Set once the client of a quiet stream has left it.
    """

    def __init__(self, pb2: Any) -> None:
        super().__init__(pb2)
        self.stream_left = threading.Event()

    def Unary(self, request: Any, context: Any) -> Any:  # noqa: N802 - as in the proto
        if request.text == "rich":
            packed = any_pb2.Any()
            packed.Pack(error_details_pb2.QuotaFailure(violations=[{"subject": "user:1"}]))
            status = status_pb2.Status(code=8, message="too much", details=[packed])
            context.abort_with_status(rpc_status.to_status(status))
        return super().Unary(request, context)

    def Split(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        if request.text in ("quiet", "long"):
            context.add_callback(self.stream_left.set)
        if request.text == "quiet":
            context.send_initial_metadata((("x-early", "yes"),))
            self.hanging.set()
            self.release.wait(10)
        context.set_trailing_metadata((("x-end", "yes"),))
        yield from super().Split(request, context)

    def Join(self, requests: Iterator[Any], context: Any) -> Any:  # noqa: N802
        context.send_initial_metadata((("x-early", "yes"),))
        texts = []
        for request in requests:
            if request.text == "abort":
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no more of this")
            texts.append(request.text)
        return self._pb2.Text(text="".join(texts), count=len(texts))

    def Chat(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:  # noqa: N802
        for request in requests:
            if request.text == "abort":
                context.abort(grpc.StatusCode.ABORTED, "you said so")
            if request.text == "bye":
                return
            yield self._pb2.Text(text=request.text.upper())


class Passing(Interceptor):
    """Says something about every kind of call, and changes nothing."""

    async def unary_unary(self, call: OutgoingCall, proceed: ProceedUnary) -> Any:
        return await proceed(call)

    stream_unary = unary_unary

    def unary_stream(self, call: OutgoingCall, proceed: ProceedStream) -> AsyncIterator[Any]:
        return proceed(call)

    stream_stream = unary_stream


class Side:
    """
    A channel of either kind to a real server, and a generated stub on it.

    Attributes:
        ours: Whether the channel is ours.
        connected: Makes another channel of this kind, to any address; the side closes it.
    """

    def __init__(
        self,
        kind: str,
        echo: SimpleNamespace,
        server: Any,
        stack: AsyncExitStack,
        stub: Any,
        channel: Any,
    ) -> None:
        self.ours = kind != "grpcio"
        self.kind = kind
        self.echo = echo
        self.server = server
        self.service: TalkativeService = server.service
        self.stub = stub
        self.channel = channel
        self._stack = stack

    def text(self, text: str = "", **more: Any) -> Any:
        return self.echo.pb2.Text(text=text, **more)

    async def stub_at(self, address: str) -> tuple[Any, Any]:
        """Return a stub and a channel of this kind at another address."""
        channel = await _channel(self.kind, address, self._stack)
        return self.echo.grpc.EchoStub(channel), channel


DIALLING = ["grpcio", "ours at an address", "ours over an upstream", "ours with interceptors"]
KINDS = [*DIALLING, "ours over a connection"]
"""A connection is made before there is a channel over it, so waiting for one is not a matter of that kind."""


async def _channel(kind: str, address: str, stack: AsyncExitStack) -> Any:
    if kind == "grpcio":
        return await stack.enter_async_context(grpc.aio.insecure_channel(address))
    if kind == "ours at an address":
        return await stack.enter_async_context(Channel(address, as_grpcio=True))
    if kind == "ours with interceptors":
        through = [Passing(), Passing()]
        return await stack.enter_async_context(Channel(address, as_grpcio=True, interceptors=through))
    if kind == "ours over an upstream":
        upstream = await stack.enter_async_context(GrpcUpstream(UpstreamSettings.of(address)))
        return Channel(upstream, as_grpcio=True)
    connection = await connect(address)
    stack.push_async_callback(connection.close)
    return Channel(connection, as_grpcio=True)


@asynccontextmanager
async def side(kind: str, echo: SimpleNamespace, server: Any) -> AsyncIterator[Side]:
    async with AsyncExitStack() as stack:
        channel = await _channel(kind, server.address, stack)
        yield Side(kind, echo, server, stack, echo.grpc.EchoStub(channel), channel)


Scenario = Callable[[Side], Awaitable[None]]
OnBoth = Callable[[Scenario], None]


def running_on(kind: str, echo: SimpleNamespace, start_server: Any) -> OnBoth:
    """Return what runs a scenario on a channel of *kind*."""
    server = start_server(service=TalkativeService)

    def run(scenario: Scenario) -> None:
        async def both() -> None:
            async with asyncio.timeout(10), side(kind, echo, server) as one:
                await scenario(one)

        asyncio.run(both())

    return run


async def until_set(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 5)


async def failing(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    """Return the error that *call* raises."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error: grpc.aio.AioRpcError = caught.value
    return error
