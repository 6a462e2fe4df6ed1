"""From HTTP request to HTTP answer through our own connection and a real grpcio server."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from protobuf import Registry

from silence_gateway.clock import SystemClock
from silence_gateway.core.http import Request, Response, StreamingResponse
from silence_gateway.errors import RpcError, UpstreamTimeout
from silence_gateway.transcoding.descriptors import FixedSource
from silence_gateway.transcoding.service import TranscodedService
from silence_gateway.transcoding.table import RouteTable
from silence_gateway.upstreams.connection import connect

pytestmark = pytest.mark.system


class Library:
    """What the real server does; messages are bytes to it."""

    def __init__(self, registry: Registry) -> None:
        described = registry.message("library.v1.Inner")
        assert described is not None
        self.inner: Any = described.type
        self.metadata: dict[str, Any] = {}

    def query(self, request: bytes, context: Any) -> bytes:
        """Answer what was asked, or one error with details."""
        self.metadata = dict(context.invocation_metadata())
        context.send_initial_metadata((("shelf", "3"),))
        context.set_trailing_metadata((("reason", "none"),))
        if b"fail" in request:
            status = status_pb2.Status(code=9, message="not now")
            status.details.add().Pack(error_details_pb2.ErrorInfo(reason="CLOSED"))
            context.abort_with_status(rpc_status.to_status(status))
        if b"hang" in request:
            wait_for_the_end(context)
        return request

    def watch(self, request: bytes, context: Any) -> Iterator[bytes]:
        """Count to three; fail before or after if asked to."""
        if b"early" in request:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such shelf")
        for number in (1, 2, 3):
            yield self.inner(n=number).to_binary()
        if b"late" in request:
            context.abort(grpc.StatusCode.DATA_LOSS, "torn")


def wait_for_the_end(context: Any) -> None:
    """Wait until the call is over, however it ends."""
    over = threading.Event()
    if context.add_callback(over.set):
        over.wait(10)


@pytest.fixture(scope="module")
def library(registry: Registry) -> Library:
    return Library(registry)


@pytest.fixture(scope="module")
def address(library: Library) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(4))
    handlers = {
        "Query": grpc.unary_unary_rpc_method_handler(library.query),
        "Watch": grpc.unary_stream_rpc_method_handler(library.watch),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("library.v1.Library", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait(5)


@asynccontextmanager
async def asking(address: str, descriptors: bytes) -> AsyncIterator[Callable[..., Awaitable[Response]]]:
    """Yield what answers a GET through a connection to *address*."""
    connection = await connect(address)
    try:
        service = TranscodedService("shelves", connection, FixedSource(descriptors), clock=SystemClock())
        await service.load()
        table = RouteTable.build([service])

        async def get(target: str, headers: dict[bytes, bytes] | None = None) -> Response:
            request = Request("GET", target, headers or {})
            request.request_id = "r-1"
            found = table.find("GET", request.path)
            assert found is not None
            return await found.binding.answer(request, found.variables)

        yield get
    finally:
        await connection.close()


def test_a_unary_call_with_its_metadata(address: str, library: Library, library_set: bytes) -> None:
    async def scenario() -> Response:
        async with asking(address, library_set) as get:
            return await get(
                "/v1/query?text=hi&numbers=1", {b"grpc-metadata-a-bin": b"AAE", b"authorization": b"B x"}
            )

    response = asyncio.run(scenario())

    assert json.loads(response.body) == {"text": "hi", "numbers": [1]}
    assert (b"grpc-metadata-shelf", b"3") in response.headers
    assert (b"grpc-trailer-reason", b"none") in response.headers
    assert library.metadata["a-bin"] == b"\x00\x01"
    assert (library.metadata["authorization"], library.metadata["x-request-id"]) == ("B x", "r-1")


def test_an_error_with_details(address: str, library_set: bytes) -> None:
    async def scenario() -> Response:
        async with asking(address, library_set) as get:
            return await get("/v1/query?text=fail")

    response = asyncio.run(scenario())

    assert response.status == 400
    told = json.loads(response.body)
    assert (told["code"], told["message"]) == (9, "not now")
    assert told["details"][0]["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"


def test_a_deadline_of_the_caller(address: str, library_set: bytes) -> None:
    async def scenario() -> None:
        async with asking(address, library_set) as get:
            await get("/v1/query?text=hang", {b"grpc-timeout": b"100m"})

    with pytest.raises(UpstreamTimeout):
        asyncio.run(scenario())


@pytest.mark.parametrize(
    ("name", "pieces", "broken"),
    [
        ("fine", [b'{"n":1}\n', b'{"n":2}\n', b'{"n":3}\n'], False),
        (
            "late",
            [
                b'{"n":1}\n',
                b'{"n":2}\n',
                b'{"n":3}\n',
                b'{"error":{"code":15,"message":"torn","details":[]}}\n',
            ],
            True,
        ),
    ],
)
def test_a_stream(address: str, library_set: bytes, name: str, pieces: list[bytes], *, broken: bool) -> None:
    async def scenario() -> tuple[list[bytes], bool]:
        taken: list[bytes] = []
        async with asking(address, library_set) as get:
            response = await get(f"/v1/watch/{name}", {b"accept": b"application/x-ndjson"})
            assert isinstance(response, StreamingResponse)
            try:
                async for piece in response.chunks:
                    taken.append(piece)  # noqa: PERF401 - what came before a failure counts
            except RpcError:
                return taken, True
        return taken, False

    assert asyncio.run(scenario()) == (pieces, broken)


def test_a_stream_that_fails_before_its_first_message_has_its_status(
    address: str, library_set: bytes
) -> None:
    async def scenario() -> Response:
        async with asking(address, library_set) as get:
            return await get("/v1/watch/early")

    response = asyncio.run(scenario())

    assert (response.status, json.loads(response.body)["message"]) == (404, "no such shelf")
