"""What the engines tell through the admin API, and what it makes them do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from silence_gateway.admin.contracts import Answer, Ask, Readiness
from silence_gateway.admin.engines import serve_limits, serve_upstreams
from silence_gateway.admin.local import LocalInstance
from silence_gateway.core.http import Request
from silence_gateway.core.limits import Algorithm, LimitRule
from silence_gateway.core.rates import parse_rate
from silence_gateway.limiting.fleet_counts import FleetCounts
from silence_gateway.limiting.limit_spec import LimitSpec
from silence_gateway.limiting.limiter import Limiter
from silence_gateway.testing import FakeClock
from silence_gateway.testing.limiters import local_limiter
from silence_gateway.upstreams.pool import GrpcUpstream
from silence_gateway.upstreams.settings import UpstreamSettings


def instance() -> LocalInstance:
    return LocalInstance(lambda: Readiness("ready"), list)


def limits_of(*key: str) -> tuple[LocalInstance, Limiter]:
    rule = LimitRule(name="login", algorithm=Algorithm.SLIDING_WINDOW, rate=parse_rate("2/minute"))
    limiter = local_limiter([LimitSpec(rule=rule, key=key, any=True)])
    made = instance()
    serve_limits(made, limiter, FleetCounts(limiter.statistics, None, FakeClock(), lambda: True))
    return made, limiter


async def meet(limiter: Limiter, **headers: str) -> None:
    lines = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    request = Request("GET", "/", lines, peer="192.0.2.1")
    matched = limiter.match("GET", "/", "")
    assert matched is not None
    await limiter.admit(request, matched)


def test_a_limit_is_listed_with_what_it_counted_and_its_busiest_keys() -> None:
    async def scenario() -> Any:
        made, limiter = limits_of("client_ip")
        await meet(limiter)
        return (await made.call(Ask("GET", "limits"))).body

    (limit,) = asyncio.run(scenario())

    assert (limit["name"], limit["rate"], limit["allowed"]) == ("login", "2/m", 1)
    assert limit["top"] == [{"key": "192.0.2.1", "requests": 1}]
    assert limit["counted_by"] == "this instance"


@pytest.mark.parametrize(
    ("key", "path", "headers"),
    [
        pytest.param(("client_ip",), "192.0.2.1", {}, id="one-part-is-plain"),
        pytest.param(("header:x-tenant",), "a%2Cb", {"x_tenant": "a,b"}, id="one-part-decoded"),
        pytest.param(
            ("client_ip", "header:x-tenant"), "192.0.2.1,a%2Cb", {"x_tenant": "a,b"}, id="several-parts"
        ),
    ],
)
def test_one_key_can_be_looked_at_and_reset(key: tuple[str, ...], path: str, headers: dict[str, str]) -> None:
    async def scenario() -> tuple[Answer, Answer, Answer]:
        made, limiter = limits_of(*key)
        await meet(limiter, **headers)
        state = await made.call(Ask("GET", f"limits/login/keys/{path}"))
        reset = await made.call(Ask("DELETE", f"limits/login/keys/{path}"))
        return state, reset, await made.call(Ask("GET", f"limits/login/keys/{path}"))

    state, reset, after = asyncio.run(scenario())

    assert (state.body["remaining"], after.body["remaining"]) == (1, 2)
    assert reset.body["reset"] is True


def test_a_limit_that_does_not_exist_says_which_do() -> None:
    made, _ = limits_of("client_ip")

    answer = asyncio.run(made.call(Ask("GET", "limits/signup/keys/a")))

    assert answer.status == 404
    assert "login" in answer.body["error"]


def test_an_endpoint_can_be_drained_and_taken_back() -> None:
    async def scenario() -> None:
        upstream = GrpcUpstream(UpstreamSettings.of("127.0.0.1:1", name="shop"), clock=FakeClock())
        await upstream.start()
        made = instance()
        serve_upstreams(made, {"shop": upstream})
        path = "upstreams/shop/endpoints/127.0.0.1:1"
        try:
            assert (await made.call(Ask("PUT", path, {"state": "drain"}))).status == 200
            (shown,) = (await made.call(Ask("GET", "upstreams"))).body
            assert shown["endpoints"][0]["active"] is False
            assert (await made.call(Ask("PUT", path, {"state": "active"}))).status == 200
            assert (await made.call(Ask("PUT", path, {"state": "gone"}))).status == 400
            assert (
                await made.call(Ask("PUT", "upstreams/shop/endpoints/x", {"state": "drain"}))
            ).status == 404
            assert (
                await made.call(Ask("PUT", "upstreams/none/endpoints/x", {"state": "drain"}))
            ).status == 404
        finally:
            await upstream.stop()

    asyncio.run(scenario())
