"""A call is packed as it or its channel asks, over whatever carries it, and as far as the peer reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from tests.upstreams.channel_sides import TalkativeService
from tests.upstreams.test_packing import reading

from silence_gateway.testing.h2_peer import scripted_server
from silence_gateway.upstreams.channel import Channel
from silence_gateway.upstreams.channel_packing import encoding_of
from silence_gateway.upstreams.connection import ConnectionSettings, connect
from silence_gateway.upstreams.contracts import Caller
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.interceptors import Interceptor, OutgoingCall, ProceedUnary
from silence_gateway.upstreams.retry_settings import RetrySettings
from silence_gateway.upstreams.settings import UpstreamSettings

LONG = b"again and " * 200
ALL = b"identity,deflate,gzip,zstd"

Got = list[tuple[bytes, list[tuple[bool, bytes]]]]


async def over_a_connection(address: str, stack: AsyncExitStack, compression: str) -> Caller | str:
    connection = await connect(address, settings=ConnectionSettings(compression=compression))
    stack.push_async_callback(connection.close)
    return connection


async def over_a_pool(address: str, stack: AsyncExitStack, compression: str) -> Caller | str:
    settings = replace(UpstreamSettings.of(address), health=None, compression=compression)
    return await stack.enter_async_context(GrpcUpstream(settings))


async def over_a_pool_that_repeats(address: str, stack: AsyncExitStack, compression: str) -> Caller | str:
    retry = RetrySettings(methods=frozenset({"a.B/*"}))
    settings = replace(UpstreamSettings.of(address), health=None, compression=compression, retry=retry)
    return await stack.enter_async_context(GrpcUpstream(settings))


WAYS = [over_a_connection, over_a_pool, over_a_pool_that_repeats]
KINDS = ["unary_unary", "unary_stream", "stream_unary", "stream_stream"]


async def call(channel: Channel, kind: str, **asked: Any) -> None:
    """Make one call of *kind* with one request."""
    function = getattr(channel, kind)("/a.B/C")
    answer = function([LONG] if kind.startswith("stream_") else LONG, **asked)
    assert (await answer if kind.endswith("_unary") else [one async for one in answer]) in (
        b"well",
        [b"well"],
    )


def scenario(way: Callable[..., Any], accepts: bytes, work: Callable[[Channel], Any], **made: Any) -> Got:
    """Run *work* on a channel over a server that reads *accepts*; return what that got."""
    got: Got = []
    compression = made.pop("settings", "identity")

    async def run() -> None:
        async with (
            asyncio.timeout(5),
            scripted_server(reading(accepts, got)) as address,
            AsyncExitStack() as stack,
            Channel(await way(address, stack, compression), **made) as channel,
        ):
            await work(channel)

    asyncio.run(run())
    return got


def packed(encoding: bytes) -> tuple[bytes, list[tuple[bool, bytes]]]:
    return encoding, [(encoding != b"", LONG)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_call_says_how_it_is_packed(way: Callable[..., Any], kind: str) -> None:
    async def work(channel: Channel) -> None:
        await call(channel, kind, compression=grpc.Compression.Gzip)
        await call(channel, kind, compression="deflate", metadata=[("x-a", "1")])
        await call(channel, kind, compression="zstd", wait_for_ready=True)
        await call(channel, kind)

    assert scenario(way, ALL, work) == [packed(b"gzip"), packed(b"deflate"), packed(b"zstd"), packed(b"")]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_channel_says_it_for_its_calls_unless_they_do(way: Callable[..., Any], kind: str) -> None:
    async def work(channel: Channel) -> None:
        await call(channel, kind)
        await call(channel, kind, compression=grpc.Compression.NoCompression)
        await call(channel, kind, compression=None, wait_for_ready=True, metadata=[("x-a", "1")])

    assert scenario(way, ALL, work, compression="gzip") == [packed(b"gzip"), packed(b""), packed(b"gzip")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_can_switch_off_what_the_settings_say(kind: str) -> None:
    async def work(channel: Channel) -> None:
        await call(channel, kind, compression="identity")

    assert scenario(over_a_pool, ALL, work, settings="zstd") == [packed(b"")]


@pytest.mark.parametrize("compression", [grpc.Compression.Deflate, "zstd"])
def test_deflate_and_zstd_are_sent_once_the_server_has_said_that_it_reads_them(compression: Any) -> None:
    async def work(channel: Channel) -> None:
        for _ in range(2):
            await call(channel, "unary_unary")
            await call(channel, "unary_unary", compression=compression)

    named = b"zstd" if compression == "zstd" else b"deflate"
    for accepts, encodings in ((ALL, [b"", named, b"", named]), (b"gzip", [b"", b"", b"", b""])):
        got = scenario(over_a_connection, accepts, work)
        assert got == [packed(encoding) for encoding in encodings]


def test_a_channel_that_packs_still_knows_what_its_calls_can_hope_for() -> None:
    async def work(channel: Channel) -> None:
        await channel.channel_ready()
        assert channel.get_state().name == "READY"

    scenario(over_a_pool, ALL, work, compression="gzip")


def test_an_interceptor_sees_and_says_how_a_call_is_packed() -> None:
    seen: list[Any] = []

    class Packs(Interceptor):
        async def unary_unary(self, call: OutgoingCall, proceed: ProceedUnary) -> Any:
            seen.append(call.compression)
            call.compression = call.compression or "gzip"
            return await proceed(call)

    async def work(channel: Channel) -> None:
        await call(channel, "unary_unary")
        await call(channel, "unary_unary", compression="deflate")

    got = scenario(over_a_pool, ALL, work, interceptors=[Packs()])
    assert got == [packed(b"gzip"), packed(b"deflate")]
    assert seen == [None, "deflate"]


@pytest.mark.parametrize("wrong", [3, -1, True, "br", "GZIP", object()])
def test_what_makes_no_sense_is_refused_at_once(wrong: Any) -> None:
    with pytest.raises(ValueError, match="nor of identity, deflate, gzip, zstd"):
        Channel("127.0.0.1:1", compression=wrong)

    async def run() -> None:
        channel = Channel("127.0.0.1:1", interceptors=[Interceptor()])
        for kind in KINDS:
            with pytest.raises(ValueError, match="not one of"):
                getattr(channel, kind)("/a.B/C")(b"", compression=wrong)

    asyncio.run(run())


def test_grpcio_s_members_and_our_names_are_the_same() -> None:
    assert [encoding_of(each) for each in grpc.Compression] == ["identity", "deflate", "gzip"]
    assert encoding_of("deflate") == "deflate"


@asynccontextmanager
async def counting(address: str, counts: list[int]) -> AsyncIterator[str]:
    """Pass on to *address* what comes, and count the bytes of it."""
    host, port = address.split(":")
    clients: set[asyncio.Task[None]] = set()

    async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, counted: bool) -> None:
        with suppress(ConnectionError):
            while content := await source.read(65_536):
                counts[0] += len(content) if counted else 0
                sink.write(content)
        sink.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, onward = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pass_on(reader, onward, counted=True), pass_on(back, writer, counted=False))

    def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        clients.add(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_server(on_client, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    await asyncio.gather(*clients)


@pytest.mark.system
@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
@pytest.mark.parametrize("ours", [True, False], ids=["our channel", "grpcio's channel"])
def test_a_real_server_reads_what_stubs_ask_for_and_answers_packed_the_same(
    echo: SimpleNamespace, start_server: Any, compression: Any, *, ours: bool
) -> None:
    server = start_server(service=TalkativeService, compression=compression)
    text, long = echo.pb2.Text, "x" * 50_000

    async def run() -> None:
        counts = [0]
        async with asyncio.timeout(10), counting(server.address, counts) as address:
            make = Channel if ours else grpc.aio.insecure_channel
            async with make(address) as channel:
                stub = echo.grpc.EchoStub(channel)
                await stub.Unary(text(text="the server says now what it reads"))

                async def all_kinds(**asked: Any) -> int:
                    before = counts[0]
                    assert (await stub.Unary(text(text=long), **asked)).text == long
                    split = stub.Split(text(text=long, count=2), **asked)
                    assert [one.text async for one in split] == [long, long]
                    assert (await stub.Join([text(text=long)], **asked)).text == long
                    chat = stub.Chat([text(text=long)], **asked)
                    assert [one.text async for one in chat] == [long.upper()]
                    return counts[0] - before

                assert await all_kinds(compression=compression) < 4_000
                assert await all_kinds() > 200_000
                assert await all_kinds(compression=grpc.Compression.NoCompression) > 200_000
            async with make(address, compression=compression) as channel:
                stub = echo.grpc.EchoStub(channel)
                await stub.Unary(text(text="the server says now what it reads"))
                assert await all_kinds() < 4_000
                # grpcio's own channel takes NoCompression for saying nothing.
                off = await all_kinds(compression=grpc.Compression.NoCompression)
                assert (off > 200_000) == ours

    asyncio.run(run())
