"""Requests are packed as the operator wants and the peer reads, and not otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from silence_gateway.core import h2_frames as h2
from silence_gateway.core.grpc_messages import MessageInbox
from silence_gateway.errors import ConfigError, RpcError
from silence_gateway.testing.h2_peer import HEAD, OK, H2Peer, scripted_server
from silence_gateway.upstreams.connection import ConnectionSettings, connect
from silence_gateway.upstreams.packing import NEVER, Packing
from silence_gateway.upstreams.settings import UpstreamSettings

METHOD = b"/a.B/C"
LONG, SHORT = b"again and " * 500, b"again"
MISCELLANY = Random(7).randbytes(1_200)


def within_seconds(scenario: Coroutine[Any, Any, None]) -> None:
    async def run() -> None:
        async with asyncio.timeout(5):
            await scenario

    asyncio.run(run())


def reading(
    accepts: bytes, got: list[tuple[bytes, list[tuple[bool, bytes]]]]
) -> Callable[[H2Peer], Awaitable[None]]:
    """Script a server that says what it reads, and writes down encoding and messages of every request."""
    says = [(b"grpc-accept-encoding", accepts)] if accepts else []

    async def script(peer: H2Peer) -> None:
        await peer.greet()
        while True:
            try:
                stream, headers = await peer.headers()
                await peer.request()
            except AssertionError:
                return
            encoding = dict(headers).get(b"grpc-encoding", b"")
            inbox = MessageInbox(encoding, 1_000_000)
            for kind, _, on, content, _ in peer.received:
                if kind == h2.DATA and on == stream:
                    inbox.put(content)
            raws = iter(inbox.take, None)
            got.append((encoding, [(raw[0], inbox.unpack(raw)) for raw in raws]))
            peer.send_headers(stream, [*HEAD, *says])
            peer.send_message(stream, b"well")
            peer.send_headers(stream, OK, end_stream=True)

    return script


@pytest.mark.parametrize(
    ("wanted", "accepts", "encodings"),
    [
        pytest.param("identity", b"identity,gzip,zstd", [b"", b""], id="not-wanted"),
        pytest.param("gzip", b"identity, GZIP", [b"gzip", b"gzip"], id="gzip"),
        pytest.param("gzip", b"", [b"gzip", b"gzip"], id="gzip-to-one-that-says-nothing"),
        pytest.param("gzip", b"identity", [b"gzip", b""], id="gzip-to-one-that-cannot"),
        pytest.param("zstd", b"identity,gzip,zstd", [b"", b"zstd"], id="zstd-once-it-is-named"),
        pytest.param("zstd", b"identity,gzip", [b"", b""], id="zstd-to-one-that-cannot"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True], ids=["unary", "stream"])
def test_the_peer_gets_what_it_reads(
    wanted: str, accepts: bytes, encodings: list[bytes], *, streamed: bool
) -> None:
    got: list[tuple[bytes, list[tuple[bool, bytes]]]] = []

    async def messages() -> AsyncIterator[bytes]:
        for message in (LONG, SHORT):
            yield message

    async def scenario() -> None:
        async with scripted_server(reading(accepts, got)) as address:
            connection = await connect(address, settings=ConnectionSettings(compression=wanted))
            for _ in encodings:
                if streamed:
                    assert [one async for one in connection.stream(METHOD, messages())] == [b"well"]
                else:
                    assert (await connection.unary(METHOD, LONG)).message == b"well"
            await connection.close()

    within_seconds(scenario())
    assert [encoding for encoding, _ in got] == encodings
    for encoding, content in got:
        assert content[0] == (encoding != b"", LONG)
        assert content[1:] == ([(False, SHORT)] if streamed else [])


@pytest.mark.parametrize(
    ("message", "packed"),
    [(b"a" * 1_023, False), (b"a" * 1_024, True), (MISCELLANY, False)],
    ids=["short", "long-enough", "no-gain"],
)
def test_what_would_gain_nothing_is_left_as_it_is(message: bytes, *, packed: bool) -> None:
    got: list[tuple[bytes, list[tuple[bool, bytes]]]] = []

    async def scenario() -> None:
        async with scripted_server(reading(b"", got)) as address:
            connection = await connect(address, settings=ConnectionSettings(compression="gzip"))
            await connection.unary(METHOD, message)
            await connection.close()

    within_seconds(scenario())
    assert got == [(b"gzip" if packed else b"", [(packed, message)])]


def test_a_peer_that_refuses_the_encoding_and_says_what_it_reads_is_not_asked_twice() -> None:
    async def script(peer: H2Peer) -> None:
        await peer.greet()
        stream, headers = await peer.headers()
        assert dict(headers)[b"grpc-encoding"] == b"gzip"
        await peer.request()
        refusal = [*HEAD, (b"grpc-status", b"12"), (b"grpc-accept-encoding", b"identity")]
        peer.send_headers(stream, refusal, end_stream=True)
        stream, headers = await peer.headers()
        assert b"grpc-encoding" not in dict(headers)
        peer.answer(await peer.request(), b"well")
        await peer.gone()

    async def scenario() -> None:
        async with scripted_server(script) as address:
            connection = await connect(address, settings=ConnectionSettings(compression="gzip"))
            with pytest.raises(RpcError) as caught:
                await connection.unary(METHOD, LONG)
            assert caught.value.code == 12
            assert (await connection.unary(METHOD, LONG)).message == b"well"
            await connection.close()

    within_seconds(scenario())


def test_what_is_wanted_is_checked() -> None:
    with pytest.raises(ConfigError, match="compression is 'br'"):
        ConnectionSettings(compression="br")
    with pytest.raises(ConfigError, match="compression must be one of identity, gzip, zstd"):
        UpstreamSettings(name="shop", compression="br")
    assert Packing("identity", 1).over == NEVER


@pytest.mark.system
def test_a_real_server_reads_packed_requests(echo: SimpleNamespace, real_server: Any) -> None:
    text = echo.pb2.Text

    async def words() -> AsyncIterator[bytes]:
        for word in ("long " * 1_000, "short", "long " * 2_000):
            yield text(text=word).SerializeToString()

    async def scenario() -> None:
        connection = await connect(real_server.address, settings=ConnectionSettings(compression="gzip"))
        for _ in range(2):
            reply = await connection.unary(b"/echo.Echo/Unary", text(text="x" * 50_000).SerializeToString())
            assert text.FromString(reply.message).text == "x" * 50_000
        joined = [text.FromString(one).text async for one in connection.stream(b"/echo.Echo/Join", words())]
        assert [len(one) for one in joined] == [15_005]
        assert connection.statistics.bytes_out < 3_000
        await connection.close()

    asyncio.run(scenario())
