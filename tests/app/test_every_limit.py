"""Limits of every kind, from the file to the metrics, the admin API, the tables and `silence explain`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from silence_gateway.admin.contracts import Answer, Ask
from silence_gateway.app.build import build
from silence_gateway.app.config.load import load_text
from silence_gateway.app.explain import explain_request
from silence_gateway.app.fleet_tables import VIEWS
from silence_gateway.app.gateway import Gateway
from silence_gateway.app.limit_tables import explained, one_key, one_limit
from silence_gateway.app.local_admin import local_instance
from silence_gateway.app.loop_lag import LoopLag
from silence_gateway.clock import SystemClock
from silence_gateway.core.http import Request
from silence_gateway.core.limits import Algorithm
from silence_gateway.errors import RateLimited
from silence_gateway.events import nobody
from silence_gateway.stores.memory import MemoryStore
from silence_gateway.watch.logs import LogWriter

CONFIG = """
store: {url: "memory://"}
upstreams: {shop: {endpoints: ["127.0.0.1:1"]}}
limits:
  - {name: window, match: {any: true}, rate: 100/minute}
  - {name: counter, match: {any: true}, rate: 100/hour, algorithm: sliding_counter, cost: 2}
  - {name: bucket, match: {any: true}, rate: 100/s, algorithm: token_bucket, burst: 200, lease: 10}
  - {name: quota, match: {any: true}, rate: 100/month, algorithm: fixed_window, cost: "header:X-Cost"}
  - {name: first, match: {any: true}, rate: 100/day, algorithm: fixed_window, align: first_hit}
  - {name: jail, match: {any: true}, rate: 3/minute, block_for: 10m}
  - {name: tokens, match: {any: true}, rate: 100/s, cost: "response header:X-Tokens", reserve: 5}
  - {name: places, match: {any: true}, algorithm: concurrency, max: 3, ttl: 20s}
  - {name: watched, match: {any: true}, algorithm: concurrency, max: 1, mode: shadow}
"""
NAMES = ["window", "counter", "bucket", "quota", "first", "jail", "tokens", "places", "watched"]
LOADED = load_text(CONFIG, "gateway.yaml", {})


def joined(work: Callable[[Gateway, Callable[..., Awaitable[Any]]], Awaitable[None]]) -> None:
    """Run *work* with a gateway that has let one client in three times and refused it once."""

    async def scenario() -> None:
        log = LogWriter(os.open(os.devnull, os.O_WRONLY))
        gateway = build(LOADED, MemoryStore(), SystemClock(), nobody, log)
        instance = local_instance(gateway, LOADED, log, LoopLag(SystemClock()), lambda: None)

        async def get(path: str, /, **query: str) -> Any:
            answer: Answer = await instance.call(Ask("GET", path, query))
            assert answer.status == 200, answer.body
            return answer.body

        limiter = gateway.limiter
        assert limiter is not None
        matched = limiter.match("GET", "/v1/things", "")
        assert matched is not None
        assert [spec.rule.name for spec in matched.specs] == NAMES
        for _ in range(3):
            await limiter.admit_for_now(Request("GET", "/v1/things", {}, peer="192.0.2.1"), matched)
        with pytest.raises(RateLimited) as refused:
            await limiter.admit_for_now(Request("GET", "/v1/things", {}, peer="192.0.2.1"), matched)
        assert refused.value.limits == ("jail", "places")
        try:
            await work(gateway, get)
        finally:
            await gateway.stop()

    asyncio.run(scenario())


def test_the_file_has_limits_of_every_kind() -> None:
    assert {limit.algorithm for limit in LOADED.config.limits} == {algorithm.value for algorithm in Algorithm}


def test_metrics_tell_of_every_limit() -> None:
    async def work(gateway: Gateway, get: Callable[..., Awaitable[Any]]) -> None:
        log = LogWriter(1)
        instance = local_instance(gateway, LOADED, log, LoopLag(SystemClock()), lambda: None)
        families = {family.name: family.samples for family in await instance.families()}
        decided = {
            (dict(sample.labels)["limit"], dict(sample.labels)["decision"]): sample.value
            for sample in families["silence_limit_decisions_total"]
        }

        assert {name for name, _ in decided} == set(NAMES)
        assert (decided["window", "allowed"], decided["jail", "denied"], decided["places", "denied"]) == (
            4,
            1,
            1,
        )
        assert decided["watched", "shadow_denied"] == 3
        near = {dict(sample.labels)["limit"]: sample.value for sample in families["silence_limit_near_total"]}
        assert (near["window"], near["places"], near["jail"]) == (0, 1, 1)
        assert [sample.value for sample in families["silence_limit_places"]] == [3]

    joined(work)


def test_the_admin_api_lists_every_limit_and_a_person_can_read_it() -> None:
    async def work(gateway: Gateway, get: Callable[..., Awaitable[Any]]) -> None:
        listing = {limit["name"]: limit for limit in await get("limits")}
        assert list(listing) == NAMES
        assert (listing["places"]["rate"], listing["places"]["max"]) == (None, 3)
        assert (listing["quota"]["rate"], listing["quota"]["max"]) == ("100/month", None)

        table = VIEWS["limits"](list(listing.values()), 0)
        assert all(name in table for name in NAMES)
        assert "None" not in table
        for name in NAMES:
            assert "None" not in one_limit(await get(f"limits/{name}"), 0)

    joined(work)


def test_a_key_of_every_limit_can_be_looked_at() -> None:
    async def work(gateway: Gateway, get: Callable[..., Awaitable[Any]]) -> None:
        left = {}
        for name in NAMES:
            state = await get(f"limits/{name}/keys/192.0.2.1")
            assert name in one_key(state)
            left[name] = state["remaining"]

        assert left["bucket"] >= 197
        left["bucket"] = 197
        assert left == {
            "window": 97,
            "counter": 94,
            "bucket": 197,
            "quota": 97,
            "first": 97,
            "jail": 0,
            "tokens": 85,
            "places": 0,
            "watched": 0,
        }

    joined(work)


def test_explain_tells_what_a_request_would_meet_at_every_limit() -> None:
    async def work(gateway: Gateway, get: Callable[..., Awaitable[Any]]) -> None:
        said = await get("limits/explain", path="/v1/things", ip="192.0.2.1")
        assert [limit["name"] for limit in said["limits"]] == NAMES
        assert "None" not in explained(said)
        outcomes = {limit["name"]: limit["outcome"] for limit in said["limits"] if not limit["allowed"]}
        assert outcomes.keys() == {"jail", "places", "watched"}
        assert "block_for blocks its key for " in outcomes["jail"]
        assert outcomes["places"].startswith("refuses: all ")
        assert outcomes["watched"].startswith("would refuse, in shadow: ")
        assert said["refused_by"] == ["jail", "places"]
        steps = await explain_request(
            LOADED.config, gateway.services, Request("GET", "/v1/things", {}, peer="192.0.2.1")
        )
        told = [step.decided for step in steps if step.what == "limit"]
        assert [line.partition(":")[0] for line in told] == NAMES
        assert not [line for line in told if "None" in line]

    joined(work)
