"""Who may connect from which page, and what is spoken."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from silence_gateway.core.http import Request, UpgradeResponse
from silence_gateway.errors import AccessDenied, Draining
from silence_gateway.realtime.connection import Connection
from silence_gateway.realtime.endpoint import websocket_endpoint


def request(target: str = "/connection/websocket", **headers: str) -> Request:
    named = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return Request("GET", target, {b"host": b"app.example.com", **named})


def test_a_foreign_page_is_refused_and_counted(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            hub = await world.hub()
            with pytest.raises(AccessDenied, match=r"realtime\.origins"):
                await websocket_endpoint(hub)(request(origin="https://evil.example.com"))

            assert hub.statistics.refused_origins == 1

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("target", "offered", "answered", "spoken"),
    [
        ("/c", "", "", True),
        ("/c", "centrifuge-json", "centrifuge-json", True),
        ("/c", "centrifuge-protobuf, centrifuge-json", "centrifuge-json", True),
        ("/c", "something-else", "", True),
        ("/c", "centrifuge-protobuf", "centrifuge-protobuf", False),
        ("/c?format=protobuf", "", "", False),
        ("/c?cf_protocol=protobuf", "", "", False),
        ("/c?format=json", "", "", True),
    ],
)
def test_json_is_spoken_and_protobuf_is_refused_for_good(
    make_world: Any, target: str, offered: str, answered: str, spoken: bool
) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            hub = await world.hub()
            response = await websocket_endpoint(hub)(request(target, sec_websocket_protocol=offered))
            assert isinstance(response, UpgradeResponse)
            client = world.client(hub)
            if not spoken:
                response.listener.on_open(client.socket)
                response.listener.on_text(b"{}")
                response.listener.on_close(3506, "")

            assert response.subprotocol == answered
            assert isinstance(response.listener, Connection) is spoken
            assert client.socket.closed == (None if spoken else (3506, "inappropriate protocol"))

    asyncio.run(scenario())


def test_nobody_is_let_in_while_draining(make_world: Any) -> None:
    async def scenario() -> None:
        async with make_world() as world:
            hub = await world.hub()
            await hub.drain(0)
            with pytest.raises(Draining):
                await websocket_endpoint(hub)(request())

    asyncio.run(scenario())
