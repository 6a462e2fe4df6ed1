"""Descriptors by server reflection, against the answers of grpcio's own servicer and against liars."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import reflection, reflection_pb2

from silence_gateway.clock import SystemClock
from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError, UpstreamProtocolError, UpstreamTimeout
from silence_gateway.testing.clock import FakeClock
from silence_gateway.testing.local_caller import LocalCaller, StreamMethod
from silence_gateway.transcoding.descriptors import Descriptors, RawDescriptors
from silence_gateway.transcoding.reflection import METHODS, ReflectionSource
from silence_gateway.transcoding.wire import write_bytes
from silence_gateway.upstreams.connection import connect

V1, V1ALPHA = METHODS
LIBRARY = "library.v1.Library"


def pool_of(descriptor_set: bytes) -> Any:
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(descriptor_set).file:
        pool.Add(file)
    return pool


@pytest.fixture(scope="session")
def servicer(library_set: bytes) -> Any:
    return reflection.ReflectionServicer([LIBRARY, "library.v1.Gone"], pool=pool_of(library_set))


def answering(servicer: Any, shorten: Callable[[Any], None] = lambda _: None) -> StreamMethod:
    """A reflection method that asks *servicer* and passes each answer through *shorten*."""

    async def method(asked: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for question in asked:
            request = reflection_pb2.ServerReflectionRequest.FromString(question)
            for answer in servicer.ServerReflectionInfo(iter([request]), None):
                if answer.HasField("file_descriptor_response"):
                    shorten(answer)
                yield answer.SerializeToString()

    return method


def read(methods: dict[bytes, StreamMethod]) -> RawDescriptors:
    return asyncio.run(ReflectionSource(LocalCaller(stream_methods=methods), SystemClock()).read())


@pytest.mark.parametrize("version", METHODS)
def test_a_server_is_asked_in_the_version_that_it_knows(servicer: Any, version: bytes) -> None:
    found = read({version: answering(servicer)})

    descriptors = Descriptors.of(found)
    assert [service.type_name for service in descriptors.services] == [LIBRARY]
    assert [name for name, _ in descriptors.missing] == ["library.v1.Gone"]
    assert "google/api/http.proto" in found.files


def test_imports_that_do_not_come_along_are_asked_for(servicer: Any) -> None:
    def only_the_file_itself(answer: Any) -> None:
        del answer.file_descriptor_response.file_descriptor_proto[1:]

    whole = read({V1: answering(servicer)})
    piecewise = read({V1: answering(servicer, only_the_file_itself)})

    assert Descriptors.of(piecewise).services[0].type_name == LIBRARY
    bundled = {name for name in whole.files if name.startswith("google/protobuf/")}
    assert set(piecewise.files) == set(whole.files) - bundled


def test_imports_that_nobody_has_are_left_out(servicer: Any) -> None:
    def without_http(answer: Any) -> None:
        files = answer.file_descriptor_response.file_descriptor_proto
        kept = [
            data
            for data in files
            if b"google/api/http.proto" not in data and b"annotations.proto" not in data[:40]
        ]
        del files[:]
        files.extend(kept)

    found = read({V1: answering(servicer, without_http)})

    assert Descriptors.of(found).services[0].type_name == LIBRARY


def test_the_call_ends_well_when_everything_is_there(servicer: Any) -> None:
    """Nothing was cancelled: whoever counts calls sees a success."""
    caller = LocalCaller(stream_methods={V1: answering(servicer)})

    asyncio.run(ReflectionSource(caller, SystemClock()).read())

    assert [(call.method, call.cancelled) for call in caller.calls] == [(V1, False)]
    assert caller.calls[0].deadline_s is not None


def test_a_server_that_does_not_end_the_call_is_left(servicer: Any) -> None:
    answers = answering(servicer)
    clock = FakeClock()

    async def endless(asked: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for answer in answers(asked):
            yield answer
        yield b"one more thing"

    caller = LocalCaller(stream_methods={V1: endless})
    found = asyncio.run(ReflectionSource(caller, clock).read())

    assert Descriptors.of(found).services[0].type_name == LIBRARY
    assert caller.calls[0].cancelled


def test_a_server_without_reflection_says_so() -> None:
    with pytest.raises(RpcError) as caught:
        read({})
    assert caught.value.code == Code.UNIMPLEMENTED


def scripted(*answers: bytes | Exception) -> StreamMethod:
    async def method(asked: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        script = iter(answers)
        async for _ in asked:
            step = next(script, None)
            if step is None:
                return
            if isinstance(step, Exception):
                raise step
            yield step

    return method


def listing(*names: str) -> bytes:
    return write_bytes(6, b"".join(write_bytes(1, write_bytes(1, name.encode())) for name in names))


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([], id="silence"),
        pytest.param([b""], id="nothing"),
        pytest.param([b"\xff\xff"], id="garbage"),
        pytest.param([write_bytes(6, b"\xff")], id="garbage-inside"),
        pytest.param([listing("a"), b""], id="no-file"),
        pytest.param([listing("a"), write_bytes(4, write_bytes(1, b"\xff"))], id="not-a-file"),
        pytest.param([listing(*["a"] * 2000)], id="too-many-services"),
        pytest.param([listing("a")], id="ends-half-way"),
        pytest.param([write_bytes(6, write_bytes(1, write_bytes(1, b"\xff")))], id="name-not-utf8"),
    ],
)
def test_a_server_that_makes_no_sense_is_at_fault(answers: Sequence[bytes]) -> None:
    with pytest.raises(UpstreamProtocolError, match="server reflection"):
        read({V1: scripted(*answers)})


def test_endless_imports_come_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file imports another one that the server makes up."""
    from silence_gateway.transcoding import reflection as room

    monkeypatch.setattr(room, "MAX_FILES", 50)

    async def method(asked: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        number = 0
        async for _ in asked:
            file = descriptor_pb2.FileDescriptorProto(
                name=f"f{number}.proto", dependency=[f"f{number + 1}.proto"]
            )
            number += 1
            yield listing("a") if number == 1 else write_bytes(4, write_bytes(1, file.SerializeToString()))

    with pytest.raises(UpstreamProtocolError, match="more than 50 files"):
        read({V1: method})


def test_a_fault_on_the_way_passes_through() -> None:
    with pytest.raises(UpstreamTimeout):
        read({V1: scripted(UpstreamTimeout("too slow"))})


@pytest.fixture
def reflecting_server(servicer: Any) -> Iterator[str]:
    """A real grpcio server that has reflection v1alpha and nothing else."""
    server = grpc.server(ThreadPoolExecutor(4))
    from grpc_reflection.v1alpha import reflection_pb2_grpc

    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait(5)


@pytest.mark.system
def test_a_real_server_is_read_through_our_own_connection(reflecting_server: str) -> None:
    async def scenario() -> RawDescriptors:
        connection = await connect(reflecting_server)
        try:
            return await ReflectionSource(connection, SystemClock()).read()
        finally:
            await connection.close()

    found = asyncio.run(scenario())

    assert Descriptors.of(found).services[0].type_name == LIBRARY
