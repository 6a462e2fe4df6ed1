"""Whose a request is, as `consistent_hash` sees it."""

from __future__ import annotations

from typing import Any

import pytest

from silence_gateway.app.call_steering import caller_for, key_of, steering_for
from silence_gateway.app.config.load import load_text
from silence_gateway.core.http import Request
from silence_gateway.core.shedding import Importance
from silence_gateway.testing.clock import FakeClock
from silence_gateway.testing.scripted_endpoints import ScriptedEndpoints
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.settings import UpstreamSettings


def request(claims: dict[str, Any] | None = None, **headers: str) -> Request:
    lines = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    made = Request("GET", "/", lines, peer="10.1.2.3")
    made.user, made.api_key, made.claims = "ann", "key-7", claims or {}
    return made


@pytest.mark.parametrize(
    ("key", "asked", "value"),
    [
        pytest.param(None, request(), b"", id="none"),
        pytest.param("user", request(), b"ann", id="user"),
        pytest.param("api_key", request(), b"key-7", id="api-key"),
        pytest.param("client_ip", request(), b"10.1.2.3", id="address"),
        pytest.param("header:X-Tenant", request(x_tenant="acme"), b"acme", id="header"),
        pytest.param("header:x-tenant", request(), b"", id="header-absent"),
        pytest.param("claim:org", request({"org": "acme"}), b"acme", id="claim"),
        pytest.param("claim:org", request({"org": 7}), b"7", id="claim-that-is-a-number"),
        pytest.param("claim:org", request({"org": ["a"]}), b"", id="claim-that-is-a-list"),
        pytest.param("claim:org", request(), b"", id="claim-absent"),
        pytest.param("cookie:sid", request(cookie="a=1; sid=abc; sid=def"), b"abc", id="cookie"),
        pytest.param("cookie:sid", request(cookie="xsid=abc; sid"), b"", id="cookie-absent"),
    ],
)
def test_a_key_is_read_from_the_request(key: str | None, asked: Request, value: bytes) -> None:
    assert key_of(key)(asked) == value


@pytest.mark.parametrize(
    ("text", "steers"),
    [
        pytest.param("", False, id="nobody-asks"),
        pytest.param(", shedding: {}", True, id="shedding-asks-for-importance"),
        pytest.param(", balancer: consistent_hash, balancing: {key: client_ip}", True, id="the-hash-asks"),
    ],
)
def test_requests_have_a_caller_of_their_own_only_where_somebody_asks(text: str, *, steers: bool) -> None:
    config = load_text(f"upstreams: {{shop: {{endpoints: 'a:1'{text}}}}}", "g.yaml", {}).config
    clock = FakeClock()
    pool = GrpcUpstream(
        UpstreamSettings(name="shop"), clock=clock, connector=ScriptedEndpoints(clock).connect
    )

    assert (caller_for(pool, config.upstreams["shop"]) is not None) is steers


def test_requests_to_http_upstreams_are_steered_alike() -> None:
    text = (
        "upstreams: {a: {endpoints: 'a:1', protocol: http}, b: {endpoints: 'a:1', protocol: http,"
        " balancer: consistent_hash, balancing: {key: 'header:x-a'}, shedding: {}}}\n"
        "routes: [{match: {path: /a}, upstream: a}, {match: {path: /b}, upstream: b}]"
    )
    upstreams = load_text(text, "g.yaml", {}).config.upstreams
    steers = steering_for(upstreams["b"])
    assert steering_for(upstreams["a"]) is None
    assert steers is not None

    asked = request(x_a="k")
    asked.importance = Importance.HIGH
    told, again, keyless = steers(asked), steers(request(x_a="k")), steers(request())

    assert told.key == again.key is not None
    assert told.importance is Importance.HIGH
    assert keyless.key is None
