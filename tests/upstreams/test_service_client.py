"""Typed clients without stubs, and clients that the Connect generator makes, against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from connectrpc.client import ConnectClient, ConnectClientSync
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.request import Headers
from protobuf.wkt.google.protobuf.wrappers_pb import StringValue
from tests.upstreams.channel_sides import TalkativeService

from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError
from silence_gateway.upstreams.channel import Channel
from silence_gateway.upstreams.service_client import ServiceClient

# A StringValue is to the wire what the server's Text is: a text in field 1.


class Echo(ServiceClient):
    say = ServiceClient.unary_unary("echo.Echo/Unary", StringValue, StringValue)
    split = ServiceClient.unary_stream("echo.Echo/Split", StringValue, StringValue)
    join = ServiceClient.stream_unary("/echo.Echo/Join", StringValue, StringValue)
    chat = ServiceClient.stream_stream("echo.Echo/Chat", StringValue, StringValue)


async def letters(text: str = "abc") -> AsyncIterator[StringValue]:
    for letter in text:
        yield StringValue(value=letter)


@pytest.mark.system
@pytest.mark.parametrize("ours", [True, False], ids=["our channel", "grpcio's channel"])
def test_all_four_kinds_with_messages_of_protobuf_py(start_server: Any, ours: bool) -> None:
    server = start_server(service=TalkativeService)

    async def scenario() -> None:
        channel = Channel(server.address) if ours else grpc.aio.insecure_channel(server.address)
        async with asyncio.timeout(10), channel:
            echo = Echo(channel)

            assert await echo.say(StringValue(value="hi"), timeout=5) == StringValue(value="hi")
            assert echo.say is echo.say
            assert await echo.join(letters()) == StringValue(value="abc")
            assert [each.value async for each in echo.chat(letters())] == ["A", "B", "C"]
            split = echo.split(StringValue(value="none"), metadata=[("x-a", "1")])
            assert [each async for each in split] == []

    asyncio.run(scenario())


def test_classes_of_google_protobuf_and_bytes_do_as_well(echo: SimpleNamespace) -> None:
    class Mixed(ServiceClient):
        say = ServiceClient.unary_unary("echo.Echo/Unary", echo.pb2.Text, bytes)

    made = vars(Mixed)["say"]
    assert made._serialize(echo.pb2.Text(text="a")) == b"\x0a\x01a"
    assert made._deserialize(b"\x0a\x01a") == b"\x0a\x01a"
    assert Mixed.say is made


def test_what_is_no_message_class_is_refused_where_it_is_named() -> None:
    with pytest.raises(TypeError, match="no message class"):
        ServiceClient.unary_unary("a.B/C", str, bytes)
    with pytest.raises(TypeError, match="no message class"):
        ServiceClient.unary_unary("a.B/C", bytes, int)


def method(name: str, stream_type: StreamType) -> MethodInfo[StringValue, StringValue]:
    return MethodInfo(
        name=name,
        service_name="echo.Echo",
        input=StringValue,
        output=StringValue,
        idempotency_level=IdempotencyLevel.UNKNOWN,
        stream_type=stream_type,
    )


class EchoClient(ConnectClient):
    """As protoc-gen-connectrpc writes them."""

    async def unary(
        self,
        request: StringValue,
        *,
        headers: Headers | Mapping[str, str] | None = None,
        timeout_ms: int | None = None,
        use_get: bool = False,
    ) -> StringValue:
        return await self.execute_unary(
            request=request,
            method=method("Unary", StreamType.UNARY),
            headers=headers,
            timeout_ms=timeout_ms,
            use_get=use_get,
        )

    def split(self, request: StringValue, *, timeout_ms: int | None = None) -> AsyncIterator[StringValue]:
        return self.execute_server_stream(
            request=request, method=method("Split", StreamType.SERVER_STREAM), timeout_ms=timeout_ms
        )

    async def join(self, request: AsyncIterator[StringValue]) -> StringValue:
        return await self.execute_client_stream(
            request=request, method=method("Join", StreamType.CLIENT_STREAM)
        )

    def chat(self, request: AsyncIterator[StringValue]) -> AsyncIterator[StringValue]:
        return self.execute_bidi_stream(request=request, method=method("Chat", StreamType.BIDI_STREAM))


class Seeing(TalkativeService):
    """Answers with what it was sent around the message."""

    def Unary(self, request: Any, context: Any) -> Any:  # noqa: N802 - as in the proto
        if request.text == "refuse":
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")
        pairs = [f"{name}={value!r}" for name, value in context.invocation_metadata() if name[:2] == "x-"]
        return self._pb2.Text(text=f"{' '.join(pairs)} {context.time_remaining() is not None}")


@pytest.mark.system
def test_clients_that_the_connect_generator_made_call_over_a_channel(start_server: Any) -> None:
    server = start_server(service=Seeing)

    async def scenario() -> None:
        async with asyncio.timeout(10), Channel(server.address) as channel:
            async with channel.connect_client(EchoClient) as client:
                assert isinstance(client, EchoClient)
                headers = Headers([("X-A", "1"), ("x-a", "2"), ("x-b-bin", "AAE")])
                told = await client.unary(StringValue(), headers=headers, timeout_ms=5_000)
                assert told.value == "x-a='1' x-a='2' x-b-bin=b'\\x00\\x01' True"
                assert (await client.unary(StringValue(), headers={"x-c": "3"})).value == "x-c='3' True"
                assert (await client.unary(StringValue(), use_get=True)).value == " True"
                assert (await client.join(letters())).value == "abc"
                assert [each.value async for each in client.chat(letters())] == ["A", "B", "C"]
                assert [each async for each in client.split(StringValue())] == []
                with pytest.raises(RpcError.PermissionDenied, match="not you") as caught:
                    await client.unary(StringValue(value="refuse"))
                assert caught.value.code is Code.PERMISSION_DENIED
                with pytest.raises(ValueError, match="must be base64"):
                    await client.unary(StringValue(), headers={"x-b-bin": "*"})
            assert (await Echo(channel).join(letters("still open"))).value == "still open"

    asyncio.run(scenario())


def test_only_async_generated_clients_go_over_a_channel() -> None:
    channel = Channel("127.0.0.1:1")
    for wrong in (ConnectClientSync, dict):
        with pytest.raises(TypeError, match="generated for async callers"):
            channel.connect_client(wrong)
