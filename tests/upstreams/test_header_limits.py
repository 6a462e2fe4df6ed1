"""No header list longer than its reader takes is sent, either way; who would have is told why."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.core import h2_frames as h2
from silence_gateway.core import hpack
from silence_gateway.core.grpc_metadata import encode_metadata
from silence_gateway.core.h2_frames import Setting
from silence_gateway.errors import ConfigError, RpcError, UpstreamProtocolError
from silence_gateway.testing.h2_peer import HEAD, OK, H2Peer, scripted_server
from silence_gateway.upstreams.connection import ConnectionSettings, connect
from silence_gateway.upstreams.request_heads import FIELD_SLACK, RequestHeads, timeout_field

METHOD = b"/a.B/C"
LONG = [(b"x-long", b"y" * 3_000)]


def within_seconds(scenario: Coroutine[Any, Any, None]) -> None:
    async def run() -> None:
        async with asyncio.timeout(5):
            await scenario

    asyncio.run(run())


def limited(*limits: int) -> Callable[[H2Peer], Awaitable[None]]:
    """Script a server that takes header lists of the first limit, and after each answer of the next one."""

    async def script(peer: H2Peer) -> None:
        await peer.greet([(Setting.MAX_HEADER_LIST_SIZE, limits[0])])
        for limit in limits[1:]:
            stream = await peer.request()
            peer.send(h2.settings_frame([(Setting.MAX_HEADER_LIST_SIZE, limit)]))
            peer.answer(stream, b"well")
        while True:
            try:
                peer.answer(await peer.request(), b"well")
            except AssertionError:
                return

    return script


def test_a_call_with_too_many_headers_for_the_server_fails_here_and_now() -> None:
    async def scenario() -> None:
        async with scripted_server(limited(2_000)) as address:
            connection = await connect(address)
            with pytest.raises(
                RpcError, match=r"headers of the call are 3\d\d\d bytes.*takes 2000"
            ) as caught:
                await connection.unary(METHOD, b"", LONG)
            assert caught.value.code == 8
            with pytest.raises(RpcError, match="takes 2000"):
                await anext(aiter(connection.stream(METHOD, b"", LONG)))
            assert connection.open_streams == 0
            assert (await connection.unary(METHOD, b"", [(b"x", b"1")], 1e12)).message == b"well"
            await connection.close()

    within_seconds(scenario())


def test_the_limit_may_change_while_calls_are_made() -> None:
    async def scenario() -> None:
        async with scripted_server(limited(10_000, 1_000, 4_000)) as address:
            connection = await connect(address)
            assert (await connection.unary(METHOD, b"", LONG)).message == b"well"
            with pytest.raises(RpcError, match="takes 1000"):
                await connection.unary(METHOD, b"", LONG)
            await connection.unary(METHOD, b"")
            assert (await connection.unary(METHOD, b"", LONG)).message == b"well"
            await connection.close()

    within_seconds(scenario())


def test_a_limit_below_what_every_call_needs_is_said_of_every_call() -> None:
    async def scenario() -> None:
        async with scripted_server(limited(100)) as address:
            connection = await connect(address)
            with pytest.raises(RpcError, match="takes 100"):
                await connection.unary(METHOD, b"")
            await connection.close()

    within_seconds(scenario())


NAMES = st.sampled_from(
    [b"x-a", b"accept", b"date", b"strict-transport-security", b"x-raw-bin", b"grpc-secret"]
)


@settings(max_examples=200, deadline=None)
@given(
    metadata=st.lists(
        st.tuples(NAMES, st.binary(max_size=40).map(lambda raw: raw.hex().encode())), max_size=12
    ),
    limit=st.integers(0, 3_000),
    timeout_s=st.one_of(st.none(), st.floats(0.001, 1e5)),
)
def test_what_is_said_to_be_roomy_is_never_too_long(
    metadata: list[tuple[bytes, bytes]], limit: int, timeout_s: float | None
) -> None:
    heads = RequestHeads(b"https", b"shop.internal:443", b"silence-gateway")
    heads.limit(limit)
    block = heads.block(METHOD) + (timeout_field(timeout_s) if timeout_s else b"") + encode_metadata(metadata)

    pairs = hpack.BlockReader(list[tuple[bytes, bytes]]).read(block)
    size = sum(len(name) + len(value) + 32 for name, value in pairs)

    assert (heads.too_long(block) is None) is (size <= limit)
    if len(block) + len(metadata) * FIELD_SLACK <= heads.roomy:
        assert size <= limit


@pytest.mark.parametrize("where", ["head", "trailers"])
def test_our_own_limit_ends_the_call_that_passes_it_and_no_other(where: str) -> None:
    padding = [(b"x-many", b"y" * 100)] * 10

    async def script(peer: H2Peer) -> None:
        await peer.greet()
        _, _, _, content, _ = await peer.frame(h2.SETTINGS)
        assert dict(h2.read_settings(content))[Setting.MAX_HEADER_LIST_SIZE] == 1_100
        for _ in range(2):
            stream = await peer.request()
            peer.send_headers(stream, [*HEAD, *padding] if where == "head" else HEAD)
            peer.send_message(stream, b"x")
            peer.send_headers(stream, OK if where == "head" else [*OK, *padding], end_stream=True)
        peer.answer(await peer.request(), b"well")
        await peer.gone()

    async def scenario() -> None:
        async with scripted_server(script) as address:
            connection = await connect(address, settings=ConnectionSettings(max_header_list_bytes=1_100))
            with pytest.raises(UpstreamProtocolError, match=r"too many headers.* above 1100"):
                await connection.unary(METHOD, b"")
            with pytest.raises(UpstreamProtocolError, match="too many headers"):
                _ = [message async for message in connection.stream(METHOD, b"")]
            assert (await connection.unary(METHOD, b"")).message == b"well"
            await connection.close()

    within_seconds(scenario())


def test_a_limit_above_what_a_block_may_take_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_header_list_bytes"):
        ConnectionSettings(max_header_list_bytes=h2.MAX_BLOCK_BYTES + 1)


@pytest.mark.system
def test_a_real_server_with_little_room_is_never_asked_for_more(start_server: Any) -> None:
    server = start_server(
        options=[("grpc.max_metadata_size", 1_500), ("grpc.absolute_max_metadata_size", 2_000)]
    )

    async def scenario() -> None:
        connection = await connect(server.address)
        with pytest.raises(RpcError, match="takes 2000") as caught:
            await connection.unary(b"/echo.Echo/Unary", b"", LONG)
        assert caught.value.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
        assert (await connection.unary(b"/echo.Echo/Unary", b"", [(b"x-a", b"1" * 500)])).message == b""
        await connection.close()

    asyncio.run(scenario())
