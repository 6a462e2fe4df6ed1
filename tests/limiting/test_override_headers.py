"""What callers are told about limits of which an exception holds for their key."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from silence_gateway.core.http import Request
from silence_gateway.core.limit_headers import HeaderForm
from silence_gateway.core.limits import Algorithm, LimitRule
from silence_gateway.core.rates import parse_rate
from silence_gateway.errors import RateLimited
from silence_gateway.limiting.assembly import limit_engine
from silence_gateway.limiting.limit_spec import LimitSpec
from silence_gateway.limiting.limiter import Limiter
from silence_gateway.stores.memory import MemoryHub, MemoryStore
from silence_gateway.testing.clock import FakeClock

RULES = [
    LimitRule(name="orders", algorithm=Algorithm.SLIDING_WINDOW, rate=parse_rate("10/minute")),
    LimitRule(name="bucket", algorithm=Algorithm.TOKEN_BUCKET, rate=parse_rate("15/s"), burst=15),
]


async def told(
    exceptions: dict[str, dict[str, Any]], ip: str = "192.0.2.1", form: HeaderForm = HeaderForm.BOTH
) -> dict[str, str]:
    """Return the header lines of one request from *ip*, of which *exceptions* hold for 192.0.2.1."""
    clock = FakeClock()
    store = MemoryStore(MemoryHub(clock))
    engine = limit_engine(store, "fleet", clock)
    await store.start()
    engine.start()
    limiter = Limiter([LimitSpec(rule=rule, any=True) for rule in RULES], engine.decider, engine.holds, form)
    try:
        for name, said in exceptions.items():
            await limiter.put_override(name, "192.0.2.1", said, "ops")
        matched = limiter.match("GET", "/", "")
        assert matched is not None
        try:
            lines = await limiter.admit(Request("GET", "/", {}, peer=ip), matched)
        except RateLimited as refused:
            lines = list(refused.headers)
        return {name.decode(): value.decode() for name, value in lines}
    finally:
        await engine.stop()
        await store.stop()


@pytest.mark.parametrize(
    ("exceptions", "policy"),
    [
        ({}, '"orders";q=10;w=60, "bucket";q=15;w=1'),
        ({"orders": {"rate": "1000/minute"}}, '"orders";q=1000;w=60, "bucket";q=15;w=1'),
        ({"orders": {"rate": "10/hour"}}, '"orders";q=10;w=3600, "bucket";q=15;w=1'),
        ({"bucket": {"burst": 500}}, '"orders";q=10;w=60, "bucket";q=500;w=34'),
        (
            {"orders": {"blocked": True}, "bucket": {"rate": "30/s", "burst": 60}},
            '"orders";q=10;w=60, "bucket";q=60;w=2',
        ),
    ],
)
def test_quota_and_window_are_those_of_the_exception(exceptions: dict[str, Any], policy: str) -> None:
    """Also where only the time differs, and of limits that a block of another left unasked."""
    assert asyncio.run(told(exceptions))["RateLimit-Policy"] == policy


def test_others_are_told_the_limits_own() -> None:
    lines = asyncio.run(told({"orders": {"rate": "1000/minute"}}, ip="192.0.2.2"))

    assert lines["RateLimit-Policy"] == '"orders";q=10;w=60, "bucket";q=15;w=1'


def test_the_old_line_tells_it_as_well() -> None:
    lines = asyncio.run(told({"orders": {"rate": "3/hour"}}, form=HeaderForm.LEGACY))

    assert (lines["X-RateLimit-Limit"], lines["X-RateLimit-Remaining"]) == ("3", "2")
