"""The benchmarks' backends are servers that grpcio and our connection both accept."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from silence_gateway.errors import RpcError
from silence_gateway.upstreams.connection import connect

pytestmark = pytest.mark.system

BENCH = Path(__file__).parents[2] / "bench"
METHOD = "/any.Thing/AtAll"


@contextmanager
def responder(*arguments: str, program: str = "responder.py") -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, str(BENCH / program), *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[1]
    finally:
        process.terminate()
        assert process.wait(5) == 0
        process.stdout.close()


def test_grpcio_and_we_get_the_constant_answer() -> None:
    """Enough calls to use up the windows several times."""

    async def ours(address: str) -> None:
        connection = await connect(address)
        for _ in range(20):
            calls = [connection.unary(b"/any.Thing/AtAll", bytes(9_000)) for _ in range(100)]
            assert {reply.message for reply in await asyncio.gather(*calls)} == {b"\x01" * 3_000}
        await connection.close()

    with responder("--message-hex", "01" * 3_000) as address:
        asyncio.run(ours(address))
        with grpc.insecure_channel(address) as channel:
            call = channel.unary_unary("/any.Thing/AtAll")
            assert {future.result() for future in [call.future(bytes(9_000)) for _ in range(300)]} == {
                b"\x01" * 3_000
            }


def test_it_can_answer_with_an_error() -> None:
    async def ours(address: str) -> None:
        connection = await connect(address)
        with pytest.raises(RpcError, match="out of stock") as caught:
            await connection.unary(b"/any.Thing/AtAll", b"")
        assert caught.value.code == 5
        assert connection.max_streams == 3
        await connection.close()

    with responder("--grpc-status", "5", "--grpc-message", "out of stock", "--max-streams", "3") as address:
        asyncio.run(ours(address))


def test_streams_larger_than_the_windows_come_whole_to_grpcio_and_to_us() -> None:
    async def ours(address: str) -> None:
        connection = await connect(address)

        async def read() -> list[int]:
            return [len(message) async for message in connection.stream(METHOD.encode(), b"")]

        assert await asyncio.gather(*(read() for _ in range(10))) == [[65_536] * 30] * 10
        await connection.close()

    with responder(
        "--message-bytes", "65536", "--messages", "30", program="streaming_responder.py"
    ) as address:
        asyncio.run(ours(address))
        with grpc.insecure_channel(address) as channel:
            answers = [channel.unary_stream(METHOD)(b"") for _ in range(10)]
            assert [[len(message) for message in answer] for answer in answers] == [[65_536] * 30] * 10


def test_an_echo_sends_back_what_grpcio_and_we_send() -> None:
    sent = [b"%d" % number * 3_000 for number in range(100)]

    async def given() -> AsyncIterator[bytes]:
        for message in sent:
            yield message

    async def ours(address: str) -> None:
        connection = await connect(address)
        assert [message async for message in connection.stream(METHOD.encode(), given())] == sent
        await connection.close()

    with responder("--echo", program="streaming_responder.py") as address:
        asyncio.run(ours(address))
        with grpc.insecure_channel(address) as channel:
            assert list(channel.stream_stream(METHOD)(iter(sent))) == sent
