"""The parts joined, in one process on a memory store: what is promised by name is there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import pytest

from silence_gateway.admin.contracts import Ask
from silence_gateway.app.build import build
from silence_gateway.app.config.load import load_text
from silence_gateway.app.gateway import Gateway
from silence_gateway.app.local_admin import local_instance
from silence_gateway.app.loop_lag import LoopLag
from silence_gateway.clock import SystemClock
from silence_gateway.core.http import Request
from silence_gateway.edge.listen import open_sockets
from silence_gateway.events import nobody
from silence_gateway.stores.memory import MemoryStore
from silence_gateway.watch.logs import LogWriter

CONFIG = """
store: {url: "memory://"}
upstreams: {shop: {endpoints: ["127.0.0.1:1"]}}
limits: [{name: all, match: {any: true}, key: [const], rate: 2/minute}]
access: {deny: [203.0.113.0/24]}
realtime: {anonymous: true, api_key: k}
auth: {jwt: {hmac_secret: 0123456789abcdef0123456789abcdef, required: false}}
"""
# The names of the contract, as far as this version has the parts.
METRICS = [
    "silence_requests_total",
    "silence_request_duration_seconds",
    "silence_overhead_seconds",
    "silence_limit_decisions_total",
    "silence_limit_near_total",
    "silence_limit_unique_clients",
    "silence_store_state",
    "silence_upstream_calls_total",
    "silence_upstream_call_seconds",
    "silence_endpoint_healthy",
    "silence_breaker_state",
    "silence_sessions",
    "silence_channel_deliveries_total",
    "silence_ws_closes_total",
    "silence_loop_lag_seconds",
    "silence_config_hash",
]


def joined(work: Callable[[Gateway], Awaitable[None]]) -> None:
    async def scenario() -> None:
        loaded = load_text(CONFIG, "gateway.yaml", {})
        gateway = build(
            loaded, MemoryStore(), SystemClock(), nobody, LogWriter(os.open(os.devnull, os.O_WRONLY))
        )
        try:
            await work(gateway)
        finally:
            await gateway.stop()

    asyncio.run(scenario())


def test_every_metric_of_the_contract_is_shown() -> None:
    async def work(gateway: Gateway) -> None:
        loaded = load_text(CONFIG, "gateway.yaml", {})
        instance = local_instance(gateway, loaded, LogWriter(1), LoopLag(SystemClock()), lambda: None)
        names = {family.name for family in await instance.families()}
        assert set(METRICS) <= names
        assert all(family.help for family in await instance.families())

    joined(work)


@pytest.mark.parametrize(
    "path", ["stats", "limits", "sessions", "upstreams", "nodes", "config", "access/deny"]
)
def test_every_page_of_the_admin_api_answers(path: str) -> None:
    async def work(gateway: Gateway) -> None:
        loaded = load_text(CONFIG, "gateway.yaml", {})
        instance = local_instance(gateway, loaded, LogWriter(1), LoopLag(SystemClock()), lambda: None)
        answer = await instance.call(Ask("GET", path))
        assert answer.status == 200
        assert answer.body

    joined(work)


def test_layers_stand_in_the_order_that_is_said() -> None:
    async def work(gateway: Gateway) -> None:
        gateway.access.start()
        handler = gateway.server.handler

        async def ask(peer: str, **headers: str) -> tuple[int, set[bytes]]:
            lines = {name.encode(): value.encode() for name, value in headers.items()}
            request = Request("GET", "/v1/things", lines, peer=peer)
            response = await handler(request)
            return response.status, {name.lower() for name, _ in [*response.headers, *request.extra_headers]}

        # A denied address is refused before its token is looked at, and spends nothing.
        assert (await ask("203.0.113.9", authorization="Bearer nonsense"))[0] == 403
        # A bad token is refused before any limit counts it.
        assert (await ask("192.0.2.1", authorization="Bearer nonsense"))[0] == 401
        # A path that nobody serves is counted all the same, and says what is left.
        for _ in range(2):
            status, headers = await ask("192.0.2.1")
            assert status == 503  # the only upstream has not told its methods yet
            assert b"ratelimit" in headers
        assert (await ask("192.0.2.1"))[0] == 429

    joined(work)


def test_a_gateway_that_knows_no_methods_is_not_ready_unless_it_serves_sessions() -> None:
    async def work(gateway: Gateway) -> None:
        assert gateway.readiness().word == "starting"
        await gateway.start({"listen": open_sockets(["127.0.0.1:0"], reuse_port=False)})
        # Realtime is there: traffic may come, and what is missing is said.
        assert gateway.readiness().word == "degraded"
        assert "not known yet" in gateway.readiness().parts["methods of shop"]
        gateway.hub, hub = None, gateway.hub
        assert gateway.readiness().word == "starting"
        gateway.hub = hub
        assert await gateway.drain() == 0
        assert gateway.readiness().word == "draining"

    joined(work)
