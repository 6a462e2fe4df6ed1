"""Stock grpcio clients, sync and aio, against our server: what they do must simply work."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
import uvloop
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from silence_gateway.edge.grpc_health import HEALTH, HealthService, Serving
from silence_gateway.edge.grpc_reflection import Reflection
from silence_gateway.edge.grpc_server import GrpcServer, StreamCall, UnaryCall, streaming, unary
from silence_gateway.edge.listen import open_sockets, server_tls
from silence_gateway.errors import RpcError

pytestmark = pytest.mark.system

CAFE = "silence.cafe.v1.Cafe"
FOUR_MIB = 4_194_304


class Echo:
    """A service of every kind of method."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()
        self.begun = threading.Event()
        self.health = HealthService()

    def echo(self, message: bytes, call: UnaryCall) -> bytes:
        call.initial_metadata = [(b"x-first", b"1"), (b"x-first-bin", b"\0\1")]
        call.trailing_metadata = [pair for pair in call.metadata if pair[0].startswith(b"x-")]
        return message

    async def later(self, message: bytes, _call: UnaryCall) -> bytes:
        await asyncio.sleep(0.01)
        return message

    async def hang(self, _message: bytes, _call: UnaryCall) -> bytes:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        raise AssertionError

    def fail(self, message: bytes, _call: UnaryCall) -> bytes:
        raise RpcError(int(message), f"code {int(message)}: \u00fc%\n", trailing_metadata=[(b"x-a", b"b")])

    async def split(self, call: StreamCall) -> None:
        message = await call.only_message()
        for at in range(len(message)):
            await call.send(message[at : at + 1])

    async def join(self, call: StreamCall) -> None:
        await call.send(b"".join([message async for message in call]))

    async def chat(self, call: StreamCall) -> None:
        async for message in call:
            await call.send(message)

    async def endless(self, call: StreamCall) -> None:
        self.begun.set()
        try:
            while True:
                await call.send(bytes(1_000))
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    def server(self) -> GrpcServer:
        cafe = (files("silence_gateway.app.sample") / "cafe.binpb").read_bytes()
        reflection = Reflection([cafe], [CAFE, HEALTH])
        return GrpcServer(
            {
                "a.Echo/Echo": unary(self.echo),
                "a.Echo/Later": unary(self.later),
                "a.Echo/Hang": unary(self.hang),
                "a.Echo/Fail": unary(self.fail),
                "a.Echo/Split": streaming(self.split),
                "a.Echo/Join": streaming(self.join),
                "a.Echo/Chat": streaming(self.chat),
                "a.Echo/Endless": streaming(self.endless),
                **self.health.methods(),
                **reflection.methods(),
            },
            max_message_bytes=FOUR_MIB,
        )


@dataclass
class Running:
    """A server in a loop of its own thread, so that sync clients can be used."""

    echo: Echo
    server: GrpcServer
    address: str
    loop: asyncio.AbstractEventLoop

    def do(self, action: Callable[[], Any]) -> Any:
        """Do something in the server's loop."""

        async def done() -> Any:
            result = action()
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(done(), self.loop).result(20)


@contextlib.contextmanager
def running(tls: ssl.SSLContext | None = None, *, uv: bool = True) -> Iterator[Running]:
    loop = uvloop.new_event_loop() if uv else asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    echo = Echo()
    server = echo.server()
    (sock,) = open_sockets(["127.0.0.1:0"], reuse_port=False)
    served = Running(echo, server, f"127.0.0.1:{sock.getsockname()[1]}", loop)
    try:
        served.do(lambda: server.start([sock], tls))
        yield served
    finally:
        served.do(server.abort)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def served(request: pytest.FixtureRequest) -> Iterator[Running]:
    with running(uv=request.param == "uvloop") as made:
        yield made


@pytest.fixture
def channel(served: Running) -> Iterator[grpc.Channel]:
    served.echo.begun.clear()
    served.echo.cancelled.clear()
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", FOUR_MIB + 100)]
    with grpc.insecure_channel(served.address, options) as made:
        yield made


def method(channel: Any, name: str, kind: str = "unary_unary") -> Any:
    return getattr(channel, kind)(f"/a.Echo/{name}")


def aio(scenario: Callable[[Any], Coroutine[Any, Any, None]], address: str, **options: Any) -> None:
    """Run *scenario* with an aio channel."""

    async def main() -> None:
        opened = [("grpc.use_local_subchannel_pool", 1), *options.items()]
        async with asyncio.timeout(20), grpc.aio.insecure_channel(address, opened) as channel:
            await scenario(channel)

    asyncio.run(main())


def test_a_sync_client_calls_and_metadata_travels_both_ways(channel: grpc.Channel) -> None:
    sent = (("x-a", "b"), ("x-b-bin", b"\0\1\xff"), ("x-a", "c"))
    answer, call = method(channel, "Echo").with_call(b"hello", metadata=sent)

    assert answer == b"hello"
    assert {("x-first", "1"), ("x-first-bin", b"\0\1")} <= set(call.initial_metadata())
    assert tuple((key, value) for key, value in call.trailing_metadata()) == sent


@pytest.mark.parametrize("size", [0, 1, 16_379, 16_380, 70_000, FOUR_MIB])
def test_messages_of_any_size_pass(channel: grpc.Channel, size: int) -> None:
    message = bytes(range(256)) * (size // 256) + bytes(size % 256)

    assert method(channel, "Echo")(message) == message


def test_a_message_above_the_bound_is_refused_and_the_channel_lives_on(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        method(channel, "Echo")(bytes(FOUR_MIB + 1))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert method(channel, "Echo")(b"still here") == b"still here"


@pytest.mark.parametrize("code", range(1, 17))
def test_every_status_arrives_as_it_was_raised(channel: grpc.Channel, code: int) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        method(channel, "Fail")(b"%d" % code)

    error: Any = caught.value
    assert error.code().value[0] == code
    assert error.details() == f"code {code}: \u00fc%\n"
    assert ("x-a", "b") in error.trailing_metadata()


def test_an_unknown_method_is_unimplemented(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        method(channel, "Nope")(b"")

    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_every_kind_of_stream_works_for_a_sync_client(channel: grpc.Channel) -> None:
    assert list(method(channel, "Split", "unary_stream")(b"abc")) == [b"a", b"b", b"c"]
    assert method(channel, "Join", "stream_unary")(iter([b"a", b"", b"bc"])) == b"abc"
    messages = [b"%d" % number * 1_000 for number in range(200)]
    assert list(method(channel, "Chat", "stream_stream")(iter(messages))) == messages


def test_a_deadline_is_kept_and_the_handler_is_cancelled(served: Running, channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        method(channel, "Hang")(b"", timeout=0.1)

    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert served.echo.cancelled.wait(5)


@pytest.mark.parametrize(("name", "kind"), [("Hang", "unary_unary"), ("Endless", "unary_stream")])
def test_a_cancel_reaches_the_handler(served: Running, channel: grpc.Channel, name: str, kind: str) -> None:
    stub = method(channel, name, kind)
    call = stub.future(b"") if kind == "unary_unary" else stub(b"")
    assert served.echo.begun.wait(5)
    call.cancel()

    assert served.echo.cancelled.wait(5)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_client_that_compresses_is_understood(served: Running, compression: grpc.Compression) -> None:
    with grpc.insecure_channel(served.address, compression=compression) as channel:
        assert method(channel, "Echo")(b"x" * 100_000) == b"x" * 100_000
        assert method(channel, "Join", "stream_unary")(iter([b"a" * 5_000, b"b"])) == b"a" * 5_000 + b"b"


@pytest.mark.parametrize("name", ["Echo", "Later"])
def test_sixty_four_callers_share_one_channel(channel: grpc.Channel, name: str) -> None:
    call = method(channel, name)

    def caller(number: int) -> bool:
        return all(call(b"%d/%d" % (number, each)) == b"%d/%d" % (number, each) for each in range(20))

    with ThreadPoolExecutor(64) as pool:
        assert all(pool.map(caller, range(64)))


def test_an_aio_client_calls_in_every_way(served: Running) -> None:
    async def scenario(channel: Any) -> None:
        async def messages() -> AsyncIterator[bytes]:
            for number in range(50):
                yield b"%d" % number

        assert await method(channel, "Echo")(b"hello") == b"hello"
        assert [each async for each in method(channel, "Split", "unary_stream")(b"abc")] == [b"a", b"b", b"c"]
        assert await method(channel, "Join", "stream_unary")(messages()) == b"".join(
            [b"%d" % number for number in range(50)]
        )
        chat = method(channel, "Chat", "stream_stream")()
        for number in range(20):
            await chat.write(b"%d" % number)
            assert await chat.read() == b"%d" % number
        await chat.done_writing()
        assert await chat.read() is grpc.aio.EOF
        assert await chat.code() is grpc.StatusCode.OK

    aio(scenario, served.address)


def test_many_aio_callers_more_than_there_are_streams(served: Running) -> None:
    async def scenario(channel: Any) -> None:
        call = method(channel, "Later")
        answers = await asyncio.gather(*(call(b"%d" % number) for number in range(500)))
        assert answers == [b"%d" % number for number in range(500)]

    aio(scenario, served.address)
    assert not any(served.server.statistics.capped.values())


def test_large_messages_of_many_callers_at_once(served: Running) -> None:
    async def scenario(channel: Any) -> None:
        call = method(channel, "Echo")
        messages = [bytes((number,)) * 2_000_000 for number in range(24)]
        assert await asyncio.gather(*(call(message) for message in messages)) == messages

    aio(scenario, served.address)


def test_no_call_is_lost_when_a_server_drains() -> None:
    with running() as first, running() as second:
        options = (("grpc.lb_policy_name", "round_robin"), ("grpc.use_local_subchannel_pool", 1))
        with grpc.insecure_channel(f"ipv4:{first.address},{second.address}", options) as channel:
            call = method(channel, "Later")
            drained = threading.Event()
            failed: list[grpc.RpcError] = []

            def caller(_: int) -> int:
                count = 0
                while not drained.is_set() or count < 50:
                    try:
                        call(b"x", timeout=10)
                    except grpc.RpcError as error:
                        failed.append(error)
                    count += 1
                return count

            with ThreadPoolExecutor(16) as pool:
                counts = [pool.submit(caller, number) for number in range(16)]
                while first.server.by_code()[0] < 50:
                    call(b"x", timeout=10)
                cut_off = first.do(lambda: first.server.drain(10))
                drained.set()
                assert sum(count.result() for count in counts) >= 16 * 50

        assert failed == []
        assert cut_off == 0
        assert second.server.by_code()[0] > 0


def test_tls_with_a_client_certificate(tmp_path: Path) -> None:
    authority = trustme.CA()
    mine, theirs = authority.issue_cert("localhost"), authority.issue_cert("client")
    mine.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    mine.private_key_pem.write_to_path(tmp_path / "key.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    tls = server_tls(*(str(tmp_path / name) for name in ("cert.pem", "key.pem", "ca.pem")), protocol="h2")
    with running(tls) as served:
        root = authority.cert_pem.bytes()
        known = grpc.ssl_channel_credentials(
            root, theirs.private_key_pem.bytes(), theirs.cert_chain_pems[0].bytes()
        )
        options = (("grpc.ssl_target_name_override", "localhost"), ("grpc.use_local_subchannel_pool", 1))
        with grpc.secure_channel(served.address, known, options) as channel:
            assert method(channel, "Echo")(bytes(1_000_000)) == bytes(1_000_000)
            assert len(list(method(channel, "Split", "unary_stream")(b"abc"))) == 3
        with (
            grpc.secure_channel(served.address, grpc.ssl_channel_credentials(root), options) as channel,
            pytest.raises(grpc.RpcError) as caught,
        ):
            method(channel, "Echo")(b"", timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_the_stock_health_client_checks_lists_and_watches(served: Running, channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest
    states = health_pb2.HealthCheckResponse
    served.do(lambda: served.echo.health.set("shop", Serving.NOT_SERVING))

    assert stub.Check(request()).status == states.SERVING
    assert stub.Check(request(service="shop")).status == states.NOT_SERVING
    assert stub.List(health_pb2.HealthListRequest()).statuses["shop"].status == states.NOT_SERVING
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(request(service="nope"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    watch = stub.Watch(request(service="shop"))
    assert next(watch).status == states.NOT_SERVING
    served.do(lambda: served.echo.health.set("shop", Serving.SERVING))
    assert next(watch).status == states.SERVING
    watch.cancel()


def test_the_stock_reflection_client_finds_everything(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = DescriptorPool(database)

    assert CAFE in database.get_services()
    assert HEALTH in database.get_services()
    for service in database.get_services():
        assert pool.FindServiceByName(service).methods
    assert pool.FindMessageTypeByName("silence.cafe.v1.Drink").fields_by_name["name"]
    with pytest.raises(KeyError):
        pool.FindMessageTypeByName("no.Such")
