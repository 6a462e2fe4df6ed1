"""What the pages show of `silence limits explain` and `show` is what they print."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from scripts import docs

import silence_gateway.app.sample
from silence_gateway.admin.contracts import Ask
from silence_gateway.app.build import build
from silence_gateway.app.config.load import load_text
from silence_gateway.app.limit_tables import explained, one_key
from silence_gateway.app.local_admin import local_instance
from silence_gateway.app.loop_lag import LoopLag
from silence_gateway.core.http import Request
from silence_gateway.events import nobody
from silence_gateway.stores.memory import MemoryHub, MemoryStore
from silence_gateway.testing.clock import FakeClock
from silence_gateway.watch.logs import LogWriter

CAFE = Path(silence_gateway.app.sample.__file__).with_name("cafe.binpb")
CONFIG = f"""
store: {{url: "memory://"}}
upstreams: {{cafe: {{endpoints: ["unix:/nowhere/cafe.sock"], descriptors: {CAFE}}}}}
limits:
  - {{name: orders, match: {{rpc: silence.cafe.v1.Cafe/PlaceOrder}}, rate: 10/minute}}
  - {{name: everybody, match: {{any: true}}, key: [const], rate: 5000/s,
     algorithm: token_bucket, burst: 10000}}
"""
NOON_US = 1_800_000_000_000_000
RPC = "silence.cafe.v1.Cafe/PlaceOrder"
SPENT, EXCEPTED = "203.0.113.7", "203.0.113.9"


async def answers() -> dict[str, Any]:
    """Spend ten orders of one client, make an exception for another, and ask about both."""
    clock = FakeClock(NOON_US)
    loaded = load_text(CONFIG, "gateway.yaml", {})
    log = LogWriter(os.open(os.devnull, os.O_WRONLY))
    gateway = build(loaded, MemoryStore(MemoryHub(clock)), clock, nobody, log)
    assert gateway.limiter is not None
    assert gateway.limit_engine is not None
    gateway.access.start()
    gateway.limit_engine.start()
    await gateway.services[0].refresh()
    instance = local_instance(gateway, loaded, log, LoopLag(clock), lambda: None)
    matched = gateway.limiter.match("POST", "/v1/orders", RPC)
    assert matched is not None
    for _ in range(10):
        await gateway.limiter.admit(Request("POST", "/v1/orders", {}, peer=SPENT), matched)
    await clock.advance(48)
    said = {"rate": "500/minute", "ttl": 7 * 86_400.0, "reason": "load test"}
    await gateway.limiter.put_override("orders", EXCEPTED, said, "admin API from 127.0.0.1")
    asked = {
        "explain": Ask("GET", "limits/explain", {"method": "POST", "path": "/v1/orders", "ip": SPENT}),
        "spent": Ask("GET", f"limits/orders/keys/{SPENT}"),
        "excepted": Ask("GET", f"limits/orders/keys/{EXCEPTED}"),
    }
    bodies = {name: (await instance.call(ask)).body for name, ask in asked.items()}
    await gateway.stop()
    return bodies


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    return asyncio.run(answers())


def blocks(page: str, kind: str) -> list[str]:
    return [found[2] for found in docs.FENCE.finditer((docs.ROOT / page).read_text()) if found[1] == kind]


def test_the_tables_of_the_page_of_commands_are_what_is_printed(told: dict[str, Any]) -> None:
    shown = blocks("docs/reference/cli.md", "text")

    assert explained(told["explain"]) + "\n" in shown, explained(told["explain"])
    assert one_key(told["excepted"]) + "\n" in shown, one_key(told["excepted"])


def test_the_answer_in_the_page_of_the_admin_api_is_what_is_answered(told: dict[str, Any]) -> None:
    shown = [json.loads(block) for block in blocks("docs/reference/admin-api.md", "json")]

    assert told["spent"] in shown, json.dumps(told["spent"], indent=2)
