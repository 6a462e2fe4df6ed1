"""One connection against real grpcio servers."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import trustme

from silence_gateway.errors import RpcError, UpstreamTimeout, UpstreamUnavailable
from silence_gateway.upstreams.connection import ConnectionSettings, GrpcConnection, connect
from silence_gateway.upstreams.contracts import Caller

pytestmark = pytest.mark.system

UNARY, SPLIT, JOIN, CHAT, HANG = (
    b"/echo.Echo/" + name for name in (b"Unary", b"Split", b"Join", b"Chat", b"Hang")
)


def later_s(seconds: float) -> float:
    return time.monotonic() + seconds


async def seen(event: Any) -> None:
    """Wait for something that happens in a thread of the server."""
    assert await asyncio.to_thread(event.wait, 5)


def test_many_calls_at_once_leave_in_few_writes(echo: SimpleNamespace, real_server: Any) -> None:
    async def scenario() -> None:
        connection: Caller = await connect(real_server.address)
        assert isinstance(connection, GrpcConnection)
        await connection.unary(UNARY, b"")
        flushes = connection.statistics.flushes

        calls = [connection.unary(UNARY, echo.pb2.Text(text=str(n)).SerializeToString()) for n in range(90)]
        await asyncio.sleep(0)
        assert connection.statistics.flushes == flushes + 3, "after each 32 calls, and at the end of the turn"
        assert connection.open_streams == 90
        replies = await asyncio.gather(*calls)

        assert [echo.pb2.Text.FromString(reply.message).text for reply in replies] == [
            str(n) for n in range(90)
        ]
        assert connection.open_streams == 0
        assert connection.statistics.by_code[0] == 91
        await connection.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("code", range(1, 17))
def test_every_status_arrives_with_its_text(echo: SimpleNamespace, real_server: Any, code: int) -> None:
    async def scenario() -> None:
        connection = await connect(real_server.address)
        request = echo.pb2.Text(text="why? überhaupt 100%\n", status=code).SerializeToString()

        with pytest.raises(RpcError) as caught:
            await connection.unary(UNARY, request)

        assert caught.value.code == code
        assert caught.value.details == "why? überhaupt 100%\n"
        assert dict(caught.value.trailing_metadata)[b"x-end"] == b"yes"
        assert connection.statistics.by_code[code] == 1
        await connection.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("code", range(1, 17))
@pytest.mark.parametrize("count", [0, 2])
def test_every_status_of_a_stream_arrives_after_its_messages(
    echo: SimpleNamespace, real_server: Any, code: int, count: int
) -> None:
    async def scenario() -> None:
        connection = await connect(real_server.address)
        request = echo.pb2.Text(count=count, status=code).SerializeToString()
        stream = connection.stream(SPLIT, request)

        for _ in range(count):
            await anext(stream)
        with pytest.raises(RpcError, match="after the last") as caught:
            await anext(stream)

        assert caught.value.code == code
        assert connection.statistics.by_code[code] == 1
        await connection.close()

    asyncio.run(scenario())


def test_metadata_travels_both_ways(real_server: Any) -> None:
    async def scenario() -> None:
        connection = await connect(real_server.address)
        sent = [(b"x-a", b"1"), (b"x-raw-bin", b"\x00\xff\x10"), (b"x-a", b"2"), (b"grpc-secret", b"no")]

        reply = await connection.unary(UNARY, b"", sent)

        assert list(reply.initial_metadata) == sent[:3] or sorted(reply.initial_metadata) == sorted(sent[:3])
        assert (b"x-end", b"yes") in reply.trailing_metadata
        assert all(
            not name.startswith((b":", b"grpc-", b"content-type")) for name, _ in reply.initial_metadata
        )
        await connection.close()

    asyncio.run(scenario())


def test_the_server_is_told_what_remains_of_the_deadline(real_server: Any) -> None:
    async def scenario() -> None:
        connection = await connect(real_server.address)
        await connection.unary(UNARY, b"", deadline_s=later_s(20))
        await connection.unary(UNARY, b"")
        await connection.close()

    asyncio.run(scenario())

    with_deadline, without = real_server.service.deadlines_s
    assert 15 < with_deadline <= 20.01
    assert without is None or without > 10_000


def test_a_deadline_that_passes_ends_the_call_here_and_there(real_server: Any) -> None:
    async def scenario() -> None:
        connection = await connect(real_server.address)
        started = time.monotonic()

        with pytest.raises(UpstreamTimeout) as caught:
            await connection.unary(HANG, b"", deadline_s=started + 0.1)

        assert caught.value.sent
        assert 0.09 < time.monotonic() - started < 2
        assert connection.open_streams == 0
        assert connection.statistics.timeouts == 1
        await seen(real_server.service.left)
        await connection.close()

    asyncio.run(scenario())


def test_cancelling_the_waiting_task_cancels_at_the_server(real_server: Any) -> None:
    async def scenario() -> None:
        connection = await connect(real_server.address)

        async def call() -> None:
            await connection.unary(HANG, b"")

        task = asyncio.create_task(call())
        await seen(real_server.service.hanging)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        await seen(real_server.service.left)
        assert connection.open_streams == 0
        assert connection.statistics.cancelled == 1
        await connection.close()

    asyncio.run(scenario())


def test_streams_of_all_kinds(echo: SimpleNamespace, real_server: Any) -> None:
    async def scenario() -> None:
        connection = await connect(real_server.address)
        text = echo.pb2.Text

        async def words() -> AsyncIterator[bytes]:
            for word in ("a", "b", "c"):
                yield text(text=word).SerializeToString()

        split = connection.stream(SPLIT, text(text="x", count=500).SerializeToString())
        assert [text.FromString(message).count async for message in split] == list(range(500))
        joined = [text.FromString(message).text async for message in connection.stream(JOIN, words())]
        assert joined == ["abc"]
        chat = [text.FromString(message).text async for message in connection.stream(CHAT, words())]
        assert chat == ["A", "B", "C"]
        assert connection.open_streams == 0
        await connection.close()

    asyncio.run(scenario())


def test_a_conversation_takes_turns(echo: SimpleNamespace, real_server: Any) -> None:
    """Each request is made from the answer before it."""

    async def scenario() -> None:
        connection = await connect(real_server.address)
        text = echo.pb2.Text
        to_say: asyncio.Queue[str | None] = asyncio.Queue()

        async def requests() -> AsyncIterator[bytes]:
            while (word := await to_say.get()) is not None:
                yield text(text=word).SerializeToString()

        answers = connection.stream(CHAT, requests())
        heard = "a"
        for _ in range(5):
            to_say.put_nowait(heard.lower() + "b")
            heard = text.FromString(await anext(aiter(answers))).text
        to_say.put_nowait(None)

        assert heard == "ABBBBB"
        assert [message async for message in answers] == []
        await connection.close()

    asyncio.run(scenario())


def test_a_stream_may_fail_after_messages(echo: SimpleNamespace, real_server: Any) -> None:
    async def scenario() -> None:
        connection = await connect(real_server.address)
        stream = connection.stream(SPLIT, echo.pb2.Text(count=3, status=9).SerializeToString())

        got = 0
        with pytest.raises(RpcError) as caught:
            async for _ in stream:
                got += 1

        assert (got, caught.value.code, caught.value.details) == (3, 9, "after the last")
        await connection.close()

    asyncio.run(scenario())


def test_large_messages_pass_flow_control_both_ways(echo: SimpleNamespace, start_server: Any) -> None:
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = start_server(options=options)

    async def scenario() -> None:
        connection = await connect(server.address)
        request = echo.pb2.Text(text="x" * 1_000_000, count=3_000_000).SerializeToString()

        replies = await asyncio.gather(*(connection.unary(UNARY, request) for _ in range(6)))

        for reply in replies:
            answer = echo.pb2.Text.FromString(reply.message)
            assert (len(answer.text), len(answer.payload)) == (1_000_000, 3_000_000)
        big = echo.pb2.Text(count=20, payload=bytes(500_000)).SerializeToString()
        stream = connection.stream(SPLIT, big)
        assert sum([len(message) async for message in stream]) > 10_000_000
        await connection.close()

    asyncio.run(scenario())


def test_a_message_above_the_cap_is_a_clear_error(echo: SimpleNamespace, real_server: Any) -> None:
    async def scenario() -> None:
        connection = await connect(real_server.address, settings=ConnectionSettings(max_message_bytes=1_000))

        with pytest.raises(RpcError, match=r"1000 bytes \(max_message") as caught:
            await connection.unary(UNARY, echo.pb2.Text(count=1_001).SerializeToString())

        assert caught.value.code == 8
        assert (await connection.unary(UNARY, b"")).message == b""
        await connection.close()

    asyncio.run(scenario())


def test_gzip_answers_are_unpacked(echo: SimpleNamespace, start_server: Any) -> None:
    server = start_server(compression=grpc.Compression.Gzip)

    async def scenario() -> None:
        connection = await connect(server.address)
        reply = await connection.unary(UNARY, echo.pb2.Text(count=100_000).SerializeToString())
        bytes_in = connection.statistics.bytes_in
        stream = connection.stream(SPLIT, echo.pb2.Text(count=5, payload=bytes(9_000)).SerializeToString())
        texts = [echo.pb2.Text.FromString(message) async for message in stream]

        assert len(echo.pb2.Text.FromString(reply.message).payload) == 100_000
        assert bytes_in < 10_000
        assert [len(text.payload) for text in texts] == [9_000] * 5
        await connection.close()

    asyncio.run(scenario())


def test_tls_with_alpn(echo: SimpleNamespace, start_server: Any) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("echo.test", "127.0.0.1")
    chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    credentials = grpc.ssl_server_credentials([(certificate.private_key_pem.bytes(), chain)])
    server = start_server(credentials=credentials)

    async def scenario() -> None:
        tls = ssl.create_default_context()
        authority.configure_trust(tls)
        connection = await connect(server.address, tls=tls, server_name="echo.test")
        assert (await connection.unary(UNARY, b"")).message == b""
        await connection.close()

        with pytest.raises(UpstreamUnavailable, match="certificate") as caught:
            await connect(server.address, tls=ssl.create_default_context())
        assert not caught.value.sent
        with pytest.raises(UpstreamUnavailable, match="certificate"):
            await connect(server.address, tls=tls, server_name="other.test")

    asyncio.run(scenario())


def test_a_unix_socket(start_server: Any, tmp_path: Path) -> None:
    server = start_server(path=tmp_path / "s")

    async def scenario() -> None:
        connection = await connect(server.address)
        assert (await connection.unary(UNARY, b"")).message == b""
        await connection.close()

    asyncio.run(scenario())


def test_nothing_accepted_is_lost_when_the_server_stops_gracefully(real_server: Any) -> None:
    """Calls that the server began are answered; of the others each says whether it may have been seen."""

    async def scenario() -> None:
        lost: list[str] = []
        connection = await connect(real_server.address, on_lost=lambda _, reason: lost.append(reason))
        hanging = asyncio.ensure_future(connection.unary(HANG, b""))
        await seen(real_server.service.hanging)
        answered = 0
        faults: list[UpstreamUnavailable] = []
        refusals: list[RpcError] = []
        warm = asyncio.Event()

        async def caller() -> None:
            nonlocal answered
            while connection.accepting:
                try:
                    await connection.unary(UNARY, b"")
                    answered += 1
                except UpstreamUnavailable as error:
                    faults.append(error)
                except RpcError as error:
                    refusals.append(error)
                if answered >= 100:
                    warm.set()

        callers = [asyncio.create_task(caller()) for _ in range(16)]
        await warm.wait()
        stopping = real_server.server.stop(5)
        await asyncio.gather(*callers)

        # What it had read but not begun grpcio cancels, which is told as what it means, or says UNAVAILABLE.
        going = "the upstream cancelled the call because it is going away"
        assert {str(error) for error in faults if error.sent} <= {going}
        # A few of these answers overtake its goodbye, and are told as they came.
        assert {error.code for error in refusals} <= {1, 14}
        assert lost == [connection.stopped_because]
        assert connection.dismissed
        assert not hanging.done()
        real_server.service.release.set()
        assert b"released" in (await hanging).message
        await asyncio.wait_for(connection.wait_closed(), 5)
        await asyncio.to_thread(stopping.wait, 5)

    asyncio.run(scenario())


def test_nobody_there_is_said_at_once() -> None:
    async def scenario() -> None:
        with pytest.raises(UpstreamUnavailable, match=r"cannot connect to 127\.0\.0\.1:1") as caught:
            await connect("127.0.0.1:1")
        assert not caught.value.sent

    asyncio.run(scenario())
