"""What is learned from one connection is used for the next, and a goodbye is told from a fault."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from silence_gateway.clock import SystemClock
from silence_gateway.core.h2_frames import ErrorCode, goaway_frame
from silence_gateway.testing.h2_peer import H2Peer, scripted_server
from silence_gateway.upstreams.connection import GrpcConnection
from silence_gateway.upstreams.connector import grpc_connector
from silence_gateway.upstreams.dialing import Connector
from silence_gateway.upstreams.settings import PoolSettings, UpstreamSettings

SETTINGS = UpstreamSettings(
    name="shop", pool=PoolSettings(keepalive_s=7, max_streams=3, connect_timeout_s=2), max_message_bytes=999
)


async def until_lost(connect: Connector, address: str) -> tuple[GrpcConnection, str]:
    lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    connection = await connect(address, on_lost=lost.set_result, on_capacity=lambda: None)
    assert isinstance(connection, GrpcConnection)
    return connection, await lost


def server_that_says_goodbye(code: int, debug: bytes) -> Callable[[H2Peer], Coroutine[Any, Any, None]]:
    async def script(peer: H2Peer) -> None:
        await peer.greet()
        await asyncio.sleep(0)
        peer.send(goaway_frame(0, code, debug))
        await peer.gone()

    return script


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_an_endpoint_that_complains_of_pings_is_asked_half_as_often() -> None:
    async def scenario() -> None:
        script = server_that_says_goodbye(ErrorCode.ENHANCE_YOUR_CALM, b"too_many_pings")
        async with scripted_server(script) as address:
            connect = grpc_connector(SETTINGS, SystemClock())

            seen = [await until_lost(connect, address) for _ in range(3)]

            assert [connection.settings.keepalive_s for connection, _ in seen] == [7, 14, 28]
            assert all("ENHANCE_YOUR_CALM" in reason for _, reason in seen)

    run(scenario)


def test_an_orderly_goodbye_has_no_reason() -> None:
    async def scenario() -> None:
        async with scripted_server(server_that_says_goodbye(ErrorCode.NO_ERROR, b"")) as address:
            _, reason = await until_lost(grpc_connector(SETTINGS, SystemClock()), address)

            assert reason == ""

    run(scenario)


@pytest.mark.parametrize("code", [ErrorCode.INTERNAL_ERROR, ErrorCode.PROTOCOL_ERROR])
def test_any_other_goodbye_has_one(code: ErrorCode) -> None:
    async def scenario() -> None:
        async with scripted_server(server_that_says_goodbye(code, b"sorry")) as address:
            connection, reason = await until_lost(grpc_connector(SETTINGS, SystemClock()), address)

            assert "sorry" in reason
            bounds = connection.settings
            assert (bounds.max_streams, bounds.max_message_bytes, bounds.connect_timeout_s) == (3, 999, 2)

    run(scenario)
