"""Stubs that grpcio-tools generated run unchanged on our channel, against a real grpcio server."""

from __future__ import annotations

import asyncio
import gc
import math
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from random import Random
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
import trustme

from silence_gateway.core.status import Code
from silence_gateway.errors import BadRequest, RpcError, UpstreamTimeout
from silence_gateway.upstreams.channel import Channel
from silence_gateway.upstreams.connection import GrpcConnection, connect
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.interceptors import Interceptor
from silence_gateway.upstreams.settings import UpstreamSettings

pytestmark = pytest.mark.system

Scenario = Callable[[Any, GrpcConnection], Awaitable[None]]
Run = Callable[[Scenario], None]


@pytest.fixture
def run(echo: SimpleNamespace, real_server: Any) -> Run:
    """Run a scenario with a generated stub and the connection under it."""

    def runner(scenario: Scenario) -> None:
        async def connected() -> None:
            connection = await connect(real_server.address)
            async with asyncio.timeout(5):
                await scenario(echo.grpc.EchoStub(Channel(connection)), connection)
            assert connection.open_streams == 0
            await connection.close()

        asyncio.run(connected())

    return runner


def test_unary_unary(echo: SimpleNamespace, run: Run) -> None:
    async def scenario(stub: Any, _: GrpcConnection) -> None:
        call = stub.Unary(
            echo.pb2.Text(text="hello"), timeout=5, metadata=(("x-a", "1"), ("x-b-bin", b"\0\1"))
        )
        answer = await call

        assert answer == echo.pb2.Text(text="hello")
        assert sorted(await call.initial_metadata()) == [("x-a", "1"), ("x-b-bin", b"\0\1")]
        assert ("x-end", "yes") in await call.trailing_metadata()
        assert (await call.code(), await call.details()) == (Code.OK, "")
        assert call.done()
        assert not call.cancel()

    run(scenario)


def test_an_error_can_be_caught_or_asked_for(echo: SimpleNamespace, run: Run) -> None:
    async def scenario(stub: Any, _: GrpcConnection) -> None:
        call = stub.Unary(echo.pb2.Text(text="no such thing", status=5))
        with pytest.raises(RpcError) as caught:
            await call
        assert (caught.value.code, caught.value.details) == (Code.NOT_FOUND, "no such thing")

        only_asked = stub.Unary(echo.pb2.Text(text="again", status=9))
        assert await only_asked.code() is Code.FAILED_PRECONDITION
        assert await only_asked.details() == "again"
        assert ("x-end", "yes") in await only_asked.trailing_metadata()

    run(scenario)


def test_a_fault_of_the_way_is_a_status_with_a_cause(echo: SimpleNamespace, run: Run) -> None:
    async def scenario(stub: Any, connection: GrpcConnection) -> None:
        with pytest.raises(RpcError) as caught:
            await stub.Hang(echo.pb2.Text(), timeout=0.05)
        assert caught.value.code == Code.DEADLINE_EXCEEDED
        assert isinstance(caught.value.__cause__, UpstreamTimeout)

        connection.abort()
        with pytest.raises(RpcError) as caught:
            await stub.Unary(echo.pb2.Text())
        assert caught.value.code == Code.UNAVAILABLE

    run(scenario)


def test_unary_stream(echo: SimpleNamespace, run: Run) -> None:
    async def scenario(stub: Any, _: GrpcConnection) -> None:
        call = stub.Split(echo.pb2.Text(count=3))
        assert [message.count async for message in call] == [0, 1, 2]
        assert await call.code() is Code.OK

        failing = stub.Split(echo.pb2.Text(count=1, status=8))
        assert (await failing.read()).count == 0
        with pytest.raises(RpcError, match="after the last"):
            await failing.read()
        assert await failing.code() is Code.RESOURCE_EXHAUSTED

    run(scenario)


def test_stream_unary_from_either_kind_of_iterator(echo: SimpleNamespace, run: Run) -> None:
    async def scenario(stub: Any, _: GrpcConnection) -> None:
        texts = [echo.pb2.Text(text=letter) for letter in "abc"]

        async def requests() -> AsyncIterator[Any]:
            for text in texts:
                yield text

        assert (await stub.Join(requests())).text == "abc"
        assert (await stub.Join(iter(texts))).text == "abc"
        assert (await stub.Join([])).count == 0

    run(scenario)


def test_requests_written_by_hand(echo: SimpleNamespace, run: Run) -> None:
    async def scenario(stub: Any, _: GrpcConnection) -> None:
        chat = stub.Chat(timeout=5)
        for word in ("one", "two"):
            await chat.write(echo.pb2.Text(text=word))
            assert (await chat.read()).text == word.upper()
        await chat.done_writing()
        assert await chat.read() is None
        with pytest.raises(asyncio.InvalidStateError):
            await chat.write(echo.pb2.Text())

        join = stub.Join()
        for word in ("a", "b"):
            await join.write(echo.pb2.Text(text=word))
        await join.done_writing()
        assert (await join).text == "ab"

    run(scenario)


def test_cancelling_reaches_the_server(echo: SimpleNamespace, run: Run, real_server: Any) -> None:
    async def scenario(stub: Any, _: GrpcConnection) -> None:
        call = stub.Hang(echo.pb2.Text())
        assert await asyncio.to_thread(real_server.service.hanging.wait, 5)
        assert call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert call.cancelled()
        assert await call.code() is Code.CANCELLED
        assert await asyncio.to_thread(real_server.service.left.wait, 5)

        stream = stub.Split(echo.pb2.Text(count=1_000_000))
        await stream.read()
        assert stream.cancel()
        assert await stream.code() is Code.CANCELLED

    run(scenario)


def test_many_more_calls_than_a_server_takes_at_once_are_all_answered(
    start_server: Any, echo: SimpleNamespace
) -> None:
    """A grpcio server turns some away although we keep to its cap, as it counts calls a moment longer."""
    server = start_server(options=[("grpc.max_concurrent_streams", 4)])
    settings = UpstreamSettings.of(server.address, timeout_s=20)

    async def scenario() -> None:
        async with GrpcUpstream(settings) as upstream:
            stub = echo.grpc.EchoStub(Channel(upstream))
            answers = await asyncio.gather(*(stub.Unary(echo.pb2.Text(text=f"{n}")) for n in range(200)))

            assert [answer.text for answer in answers] == [f"{n}" for n in range(200)]
            assert upstream.statistics.endpoints[0].breaker == "closed"

    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_a_stream_that_is_left_is_cancelled(echo: SimpleNamespace, run: Run) -> None:
    async def scenario(stub: Any, connection: GrpcConnection) -> None:
        for _ in range(3):
            async for _ in stub.Split(echo.pb2.Text(count=100_000, payload=bytes(100))):
                break

        gc.collect()
        assert connection.open_streams == 0
        assert connection.statistics.cancelled == 3

    run(scenario)


@pytest.mark.parametrize("method", ["Hang", "Join"])
def test_a_call_cancelled_before_it_was_waited_for_is_cancelled(
    echo: SimpleNamespace, run: Run, method: str
) -> None:
    async def scenario(stub: Any, connection: GrpcConnection) -> None:
        async with GrpcUpstream(UpstreamSettings.of(connection.address)) as upstream:
            for each in (stub, echo.grpc.EchoStub(Channel(upstream))):
                call = getattr(each, method)(echo.pb2.Text() if method == "Hang" else None)

                call.cancel()

                with pytest.raises(asyncio.CancelledError):
                    await call
                assert await call.code() == Code.CANCELLED
            assert connection.open_streams == 0
            assert upstream.statistics.endpoints[0].in_flight == 0
            gc.collect()  # a coroutine that was never awaited would warn, which fails the test

    run(scenario)


def test_the_code_of_a_call_that_could_not_be_made_does_not_keep_anybody_waiting(
    echo: SimpleNamespace, run: Run
) -> None:
    async def scenario(_: Any, connection: GrpcConnection) -> None:
        async with GrpcUpstream(UpstreamSettings.of(connection.address)) as upstream:
            call = echo.grpc.EchoStub(Channel(upstream)).Unary(echo.pb2.Text(), metadata=(("Bad Name", "x"),))

            assert await call.code() == Code.INTERNAL
            with pytest.raises(BadRequest):
                await call

    run(scenario)


def test_random_cancels_at_any_moment_leave_nothing_behind(echo: SimpleNamespace, real_server: Any) -> None:
    rng = Random(7)
    text = echo.pb2.Text

    async def requests() -> AsyncIterator[Any]:
        for _ in range(5):
            await asyncio.sleep(0)
            yield text(text="a")

    async def use(stub: Any, kind: int, ticks: int, how: int) -> None:
        if kind == 0:
            call = stub.Unary(text(text="a"))
        elif kind == 1:
            call = stub.Join(requests())
        else:
            call = stub.Split(text(count=5)) if kind == 2 else stub.Chat(requests())
        awaited = asyncio.ensure_future(call if kind < 2 else _read_all(call))
        for _ in range(ticks):
            await asyncio.sleep(0)
        awaited.cancel() if how else call.cancel()
        await asyncio.wait((awaited,))
        code = await call.code()
        assert code in (Code.OK, Code.CANCELLED)
        assert awaited.cancelled() or code is Code.OK

    async def scenario() -> None:
        connection = await connect(real_server.address)
        async with GrpcUpstream(UpstreamSettings.of(real_server.address)) as upstream:
            for caller in (connection, upstream):
                async with Channel(caller, interceptors=[Interceptor()]) as channel:
                    stub = echo.grpc.EchoStub(channel)
                    for _ in range(10):
                        await asyncio.gather(
                            *(
                                use(stub, rng.randrange(4), rng.randrange(12), rng.randrange(2))
                                for _ in range(30)
                            )
                        )
                    assert channel._unary == set()
            assert upstream.statistics.endpoints[0].in_flight == 0
        assert connection.open_streams == 0
        await connection.close()
        gc.collect()  # a coroutine that was never awaited would warn, which fails the test

    asyncio.run(asyncio.wait_for(scenario(), 30))


async def _read_all(stream: Any) -> list[Any]:
    return [message async for message in stream]


def test_the_iterator_of_a_call_that_ended_early_is_let_go_of(echo: SimpleNamespace, run: Run) -> None:
    async def scenario(stub: Any, _: GrpcConnection) -> None:
        let_go = asyncio.Event()

        async def forever() -> AsyncIterator[Any]:
            try:
                while True:
                    yield echo.pb2.Text(payload=bytes(1_000))
                    await asyncio.sleep(0)
            finally:
                let_go.set()

        call = stub.Join(forever(), timeout=0.1)

        with pytest.raises(RpcError.DeadlineExceeded):
            await call
        await let_go.wait()

    run(scenario)


def test_an_infinite_timeout_is_one_that_can_be_sent(echo: SimpleNamespace, run: Run) -> None:
    async def scenario(stub: Any, _: GrpcConnection) -> None:
        assert (await stub.Unary(echo.pb2.Text(text="a"), timeout=math.inf)).text == "a"
        assert [each async for each in stub.Split(echo.pb2.Text(), timeout=math.inf)] == []

    run(scenario)


def test_a_channel_that_was_never_used_closes(echo: SimpleNamespace) -> None:
    async def scenario() -> None:
        channel = Channel(["127.0.0.1:1", "127.0.0.1:2"])
        echo.grpc.EchoStub(channel)
        await channel.close()
        async with Channel("127.0.0.1:1"):
            pass

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_tls_to_one_address(start_server: Any, echo: SimpleNamespace) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("shop.test")
    key, chain = certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes()
    server = start_server(credentials=grpc.ssl_server_credentials([(key, chain)]))
    context = ssl.create_default_context()
    authority.configure_trust(context)

    async def scenario() -> None:
        async with Channel(server.address, tls=context, server_name="shop.test") as channel:
            assert (await echo.grpc.EchoStub(channel).Unary(echo.pb2.Text(text="a"))).text == "a"

        async with Channel(server.address, tls=ssl.create_default_context()) as distrusting:
            with pytest.raises(RpcError.Unavailable, match=r"(?i)certificate"):
                await echo.grpc.EchoStub(distrusting).Unary(echo.pb2.Text(text="a"))

    asyncio.run(asyncio.wait_for(scenario(), 10))


def test_several_addresses_are_all_used_and_one_that_is_dead_costs_no_call(
    start_server: Any, echo: SimpleNamespace
) -> None:
    servers = [start_server(), start_server()]
    addresses = [*(server.address for server in servers), "127.0.0.1:1"]

    async def scenario() -> None:
        async with Channel(addresses) as channel:
            stub = echo.grpc.EchoStub(channel)
            for _ in range(40):
                await stub.Unary(echo.pb2.Text(text="a"))

        assert all(server.service.deadlines_s for server in servers)

    asyncio.run(asyncio.wait_for(scenario(), 10))
