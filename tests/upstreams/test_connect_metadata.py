"""`ResponseMetadata` of the Connect runtime shows what came around the messages of a call."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import grpc
import pytest
from connectrpc.client import ResponseMetadata
from protobuf.wkt.google.protobuf.wrappers_pb import StringValue
from tests.upstreams.channel_sides import TalkativeService
from tests.upstreams.test_service_client import EchoClient, letters

from silence_gateway.errors import RpcError
from silence_gateway.upstreams.channel import Channel

pytestmark = pytest.mark.system


class Around(TalkativeService):
    """Sends metadata before and after every answer; text that is asked for ends in an error."""

    def _say(self, text: str, context: Any) -> None:
        context.send_initial_metadata((("x-head", "1"), ("x-head", "2"), ("x-raw-bin", b"\x00\x01")))
        context.set_trailing_metadata((("x-tail", "3"),))
        if text == "refuse":
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "not you")

    def Unary(self, request: Any, context: Any) -> Any:  # noqa: N802 - as in the proto
        self._say(request.text, context)
        return request

    def Split(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        self._say(request.text, context)
        if request.text:
            yield self._pb2.Text(text="a")
            yield self._pb2.Text(text="b")

    def Join(self, requests: Iterator[Any], context: Any) -> Any:  # noqa: N802
        self._say("", context)
        return self._pb2.Text(text="".join(each.text for each in requests))

    def Chat(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:  # noqa: N802
        self._say("", context)
        yield from requests


@pytest.fixture
def over(start_server: Any) -> Callable[[Callable[[EchoClient], Awaitable[None]]], None]:
    """Runs a scenario with a client over a channel."""
    server = start_server(service=Around)

    def run(scenario: Callable[[EchoClient], Awaitable[None]]) -> None:
        async def within() -> None:
            async with asyncio.timeout(10), Channel(server.address) as channel:
                await scenario(channel.connect_client(EchoClient))

        asyncio.run(within())

    return run


def check(told: ResponseMetadata, status: int | None = 200) -> None:
    assert told.http_status == status
    assert told.headers.getall("x-head") == ["1", "2"]
    assert told.headers["x-raw-bin"] == "AAE"
    assert told.trailers["x-tail"] == "3"


def test_all_four_kinds_tell_what_came_around_their_messages(over: Any) -> None:
    async def scenario(client: EchoClient) -> None:
        with ResponseMetadata() as told:
            assert (await client.unary(StringValue(value="hi"), use_get=True)).value == "hi"
        check(told)
        with ResponseMetadata() as told:
            assert (await client.join(letters())).value == "abc"
        check(told)
        with ResponseMetadata() as told:
            assert [each.value async for each in client.chat(letters())] == ["a", "b", "c"]
        check(told)
        with ResponseMetadata() as told:
            assert [each async for each in client.split(StringValue())] == []
        check(told)

    over(scenario)


def test_a_call_that_is_cancelled_ends_as_cancelled_and_tells_nothing(over: Any) -> None:
    async def scenario(client: EchoClient) -> None:
        async def asks() -> ResponseMetadata:
            with ResponseMetadata() as told, contextlib.suppress(asyncio.CancelledError):
                await client.unary(StringValue(value="hi"))
                raise AssertionError
            return told

        asking = asyncio.create_task(asks())
        await asyncio.sleep(0)
        asking.cancel()
        told = await asking
        assert (told.http_status, list(told.headers), list(told.trailers)) == (None, [], [])

    over(scenario)


def test_a_stream_tells_its_headers_with_its_first_message(over: Any) -> None:
    async def scenario(client: EchoClient) -> None:
        with ResponseMetadata() as told:
            stream: Any = client.split(StringValue(value="two"))
            assert (await anext(stream)).value == "a"
            assert (told.http_status, told.headers["x-head"]) == (200, "1")
            assert not told.trailers
            await stream.aclose()

    over(scenario)


def test_calls_that_fail_tell_it_as_well_but_no_status_of_http(over: Any) -> None:
    async def scenario(client: EchoClient) -> None:
        with ResponseMetadata() as told, pytest.raises(RpcError.PermissionDenied):
            await client.unary(StringValue(value="refuse"))
        check(told, None)
        with ResponseMetadata() as told, pytest.raises(RpcError.PermissionDenied):
            [each async for each in client.split(StringValue(value="refuse"))]
        check(told, None)

    over(scenario)


def test_nobody_is_told_who_does_not_ask(over: Any) -> None:
    async def scenario(client: EchoClient) -> None:
        with ResponseMetadata() as told:
            pass
        await client.unary(StringValue(value="hi"))
        assert [each.value async for each in client.split(StringValue(value="two"))] == ["a", "b"]
        assert (told.http_status, len(told.headers), len(told.trailers)) == (None, 0, 0)

    over(scenario)


def test_a_server_that_is_not_there_has_said_nothing() -> None:
    async def scenario() -> None:
        async with Channel("127.0.0.1:1") as channel:
            client = channel.connect_client(EchoClient)
            with ResponseMetadata() as told, pytest.raises(RpcError.Unavailable):
                await client.unary(StringValue(value="hi"))
            assert (told.http_status, len(told.headers), len(told.trailers)) == (None, 0, 0)

    asyncio.run(scenario())
