"""Messages of 64 MiB in streams, against a real server: what they take of memory here, both ways."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Iterator

import pytest

from silence_gateway.upstreams.connection import ConnectionSettings, connect

pytestmark = pytest.mark.system

MEBIBYTE = 1_048_576
SIZE = 64 * MEBIBYTE
COUNT = 2

# A process of its own, so that only our memory is measured. It ends when its standard input does.
SERVER = """
import sys, zlib
from concurrent.futures import ThreadPoolExecutor
import grpc

def sums(requests, context):
    for request in requests:
        yield b"%d:%d" % (len(request), zlib.crc32(request))

def make(request, context):
    count, size = map(int, request.split(b"x"))
    for number in range(count):
        yield bytes([number]) * size

server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1),
                                                     ("grpc.max_send_message_length", -1)])
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Large", {
    "Sums": grpc.stream_stream_rpc_method_handler(sums),
    "Make": grpc.unary_stream_rpc_method_handler(make),
}),))
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
sys.stdin.read()
server.stop(0).wait()
"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Where a server is that reads and writes messages of any size."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"GRPC_VERBOSITY": "NONE"},
    )
    assert process.stdout is not None
    assert process.stdin is not None
    yield f"127.0.0.1:{process.stdout.readline().strip()}"
    process.stdin.close()
    process.wait(10)
    process.stdout.close()


@pytest.fixture
def traced() -> Iterator[None]:
    """Have what Python allocates counted from here on."""
    tracemalloc.start()
    yield
    tracemalloc.stop()


def peak_mib() -> float:
    return tracemalloc.get_traced_memory()[1] / MEBIBYTE


@pytest.mark.usefixtures("traced")
def test_a_message_that_is_sent_is_not_held_twice(address: str) -> None:
    message = os.urandom(SIZE)

    async def messages() -> AsyncIterator[bytes]:
        for _ in range(COUNT):
            yield message

    async def scenario() -> None:
        connection = await connect(address)
        tracemalloc.reset_peak()
        answers = [answer async for answer in connection.stream(b"/test.Large/Sums", messages())]

        assert answers == [b"%d:%d" % (SIZE, zlib.crc32(message))] * COUNT
        await connection.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert peak_mib() < SIZE / MEBIBYTE + 8


@pytest.mark.usefixtures("traced")
def test_a_message_that_comes_is_put_together_once(address: str) -> None:
    async def scenario() -> None:
        connection = await connect(address, settings=ConnectionSettings(max_message_bytes=SIZE))
        got = 0
        async for message in connection.stream(b"/test.Large/Make", b"%dx%d" % (COUNT, SIZE)):
            assert (len(message), message[0], message[-1]) == (SIZE, got, got)
            got += 1
            del message
        assert got == COUNT
        await connection.close()

    asyncio.run(asyncio.wait_for(scenario(), 60))
    assert peak_mib() < 2 * SIZE / MEBIBYTE + 16
