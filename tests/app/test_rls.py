"""The rate limit service as a part of a gateway: what it is built from, and how it ends."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from silence_gateway.app.build import build
from silence_gateway.app.config.load import load_text
from silence_gateway.app.gateway import Gateway
from silence_gateway.app.rls import HEALTH_NAMES, RlsDoors
from silence_gateway.clock import SystemClock
from silence_gateway.core.limits import WhenDown
from silence_gateway.edge.grpc_health import Serving
from silence_gateway.edge.listen import open_sockets
from silence_gateway.errors import ConfigError
from silence_gateway.events import Event, RulesLoaded
from silence_gateway.stores.contracts import Store
from silence_gateway.stores.memory import MemoryStore
from silence_gateway.stores.valkey import ValkeyStore
from silence_gateway.stores.windows_memory import MemoryCounters
from silence_gateway.stores.windows_valkey import ValkeyCounters
from silence_gateway.watch.logs import LogWriter

RULES = "{domain: shop, descriptors: [{key: addr, rate_limit: {unit: minute, requests_per_unit: 2}}]}"
RLS = "rls: {listen: 127.0.0.1:9901, config: rules.yaml, local_cache: 10}\n"


def built(folder: Path, config: str, store: Store, events: list[Event] | None = None) -> Gateway:
    rules = folder / "rules.yaml"
    if not rules.exists():
        rules.write_text(RULES)
    loaded = load_text(config, folder / "g.yaml", {})
    heard: list[Event] = [] if events is None else events
    return build(loaded, store, SystemClock(), heard.append, LogWriter(os.open(os.devnull, os.O_WRONLY)))


def doors_of(gateway: Gateway) -> RlsDoors:
    assert gateway.rls is not None
    return gateway.rls


def running(gateway: Gateway, work: Callable[[RlsDoors], Awaitable[None]]) -> None:
    async def scenario() -> None:
        try:
            await gateway.start({"rls.listen": open_sockets(["127.0.0.1:0"], reuse_port=False)})
            await work(doors_of(gateway))
        finally:
            await gateway.stop()

    asyncio.run(scenario())


def test_a_memory_store_counts_in_this_process(tmp_path: Path) -> None:
    doors = doors_of(built(tmp_path, RLS, MemoryStore()))

    assert isinstance(doors.service.counters, MemoryCounters)
    assert doors.falling_back is None


@pytest.mark.parametrize(
    ("url", "spread"), [("valkey://127.0.0.1:1/0", False), ("valkey+cluster://127.0.0.1:1", True)]
)
def test_a_shared_store_counts_for_the_fleet_and_its_absence_is_met_as_configured(
    tmp_path: Path, url: str, spread: bool
) -> None:
    config = RLS + f"store: {{url: '{url}', when_down: deny}}"
    falling_back = doors_of(built(tmp_path, config, ValkeyStore(url, "edge"))).falling_back

    assert falling_back is not None
    assert falling_back.when_down is WhenDown.DENY
    assert isinstance(falling_back.shared, ValkeyCounters)
    assert falling_back.shared.spread is spread


def test_rules_that_cannot_be_used_keep_the_gateway_from_starting(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text("domain: 3\ndescriptor: []")

    with pytest.raises(ConfigError):
        built(tmp_path, RLS, MemoryStore())


def test_rules_in_force_are_told_at_the_start(tmp_path: Path) -> None:
    events: list[Event] = []

    async def work(_doors: RlsDoors) -> None:
        assert RulesLoaded(domains=1, rules=1) in events

    running(built(tmp_path, RLS, MemoryStore(), events), work)


def test_it_is_ready_to_serve_though_no_method_of_any_upstream_is_known(tmp_path: Path) -> None:
    gateway = built(tmp_path, RLS + "upstreams: {shop: {endpoints: ['127.0.0.1:1']}}", MemoryStore())
    gateway.phase = "ready"

    readiness = gateway.readiness()
    assert readiness.word == "degraded"
    assert readiness.parts["rate limit service"] == "1 rules for 1 domains"


def test_health_says_no_as_soon_as_the_gateway_drains(tmp_path: Path) -> None:
    gateway = built(tmp_path, RLS, MemoryStore())

    async def work(doors: RlsDoors) -> None:
        assert doors.health.states == dict.fromkeys(HEALTH_NAMES, Serving.SERVING)
        assert await gateway.drain() == 0
        assert doors.health.states == dict.fromkeys(HEALTH_NAMES, Serving.NOT_SERVING)

    running(gateway, work)


def test_hits_given_back_are_told_to_the_fleet(tmp_path: Path) -> None:
    async def work(doors: RlsDoors) -> None:
        counter = ("shop", 60_000_000, "addr=1")
        heard = asyncio.Event()
        doors.refunds.bus.subscribe("rls/forget", lambda _payload: heard.set())
        doors.service.remembered.remember(counter, 3, 2**62, doors.service.remembered.generation)
        doors.service.tell_refund(counter)
        await asyncio.wait_for(heard.wait(), 5)

        assert doors.service.remembered.counts == {}

    running(built(tmp_path, RLS, MemoryStore()), work)
