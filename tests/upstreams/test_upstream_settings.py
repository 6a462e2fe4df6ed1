"""Settings that make no sense are refused in words that say what to change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from silence_gateway.errors import ConfigError
from silence_gateway.upstreams.retry_settings import RetrySettings
from silence_gateway.upstreams.settings import (
    BreakerSettings,
    EndpointSettings,
    HealthSettings,
    PoolSettings,
    UpstreamSettings,
)


def at(address: str) -> EndpointSettings:
    return EndpointSettings(address=address)


@pytest.mark.parametrize("address", ["127.0.0.1:9001", "auth.internal:1", "[::1]:65535", "unix:/run/x.sock"])
def test_usual_addresses_are_taken(address: str) -> None:
    assert at(address).address == address


@pytest.mark.parametrize(
    ("make", "wrong", "message"),
    [
        (EndpointSettings, {"address": "localhost"}, "host:port"),
        (EndpointSettings, {"address": ":80"}, "host:port"),
        (EndpointSettings, {"address": ["h:1"]}, "an endpoint is one text"),
        (EndpointSettings, {"address": "h:0"}, "host:port"),
        (EndpointSettings, {"address": "h:70000"}, "host:port"),
        (EndpointSettings, {"address": "unix:"}, "unix:PATH"),
        (EndpointSettings, {"address": "h:1", "weight": 0}, "weight must be 1 to 100"),
        (EndpointSettings, {"address": "h:1", "weight": 101}, "weight must be 1 to 100"),
        (EndpointSettings, {"address": "h:1", "priority": -1}, "priority"),
        (HealthSettings, {"interval_s": 0}, "interval_s must be above 0"),
        (HealthSettings, {"interval_s": float("inf")}, "interval_s"),
        (HealthSettings, {"interval_s": "5"}, "interval_s must be above 0, got '5'"),
        (UpstreamSettings, {"name": "a", "tls": True}, "tls is an ssl.SSLContext, not True"),
        (HealthSettings, {"interval_s": 1, "timeout_s": 2}, "checks overlap"),
        (HealthSettings, {"unhealthy_after": 0}, "unhealthy_after"),
        (HealthSettings, {"path": "up"}, "absolute path"),
        (HealthSettings, {"path": "/a b"}, "absolute path"),
        (HealthSettings, {"path": "/a\r\nX: y"}, "absolute path"),
        (HealthSettings, {"path": "/up", "host": "a\r\nb"}, "name or address"),
        (BreakerSettings, {"failure_ratio": 1.1}, r"failure_ratio must be in \(0, 1\]"),
        (BreakerSettings, {"cool_down_s": -1}, "cool_down_s"),
        (BreakerSettings, {"failure_codes": frozenset({0})}, "gRPC codes from 1 to 16"),
        (PoolSettings, {"max_connections": 0}, "max_connections"),
        (PoolSettings, {"keepalive_s": 0}, "keepalive_s"),
        (PoolSettings, {"max_waiting": -1}, "max_waiting"),
        (RetrySettings, {"attempts": 0}, "attempts"),
        (RetrySettings, {"attempts": 11}, "attempts"),
        (RetrySettings, {"on": frozenset({0})}, "codes from 1 to 16"),
        (RetrySettings, {"on": ["UNAVAILABLE"]}, "such as Code.UNAVAILABLE, not 'UNAVAILABLE'"),
        (RetrySettings, {"methods": "a.B/C"}, "a set of names, not the one text"),
        (RetrySettings, {"budget": 1.5}, "budget"),
        (RetrySettings, {"wait_s": 2.0}, "max_wait_s"),
        (RetrySettings, {"attempt_timeout_s": 0.0}, "attempt_timeout_s"),
        (RetrySettings, {"hedge_quantile": 1.0}, "hedge_quantile"),
        (RetrySettings, {"hedge_quantile": 0.9, "hedge_after_s": 1.0}, "not both"),
        (RetrySettings, {"methods": frozenset({"/shop.Shop/Get"})}, "package.Service/Method"),
        (UpstreamSettings, {"name": ""}, "needs a name"),
        (UpstreamSettings, {"name": "a", "balancer": "fair"}, "one of least_request, round_robin, random"),
        (UpstreamSettings, {"name": "a", "timeout_s": 0}, "timeout_s"),
        (
            UpstreamSettings,
            {"name": "a", "endpoints": (at("h:1"), at("h:1"))},
            "h:1 is listed more than once",
        ),
        (UpstreamSettings, {"name": "a", "endpoints": tuple(at(f"h:{n}") for n in range(1, 1002))}, "1000"),
    ],
)
def test_what_makes_no_sense_is_named(make: Callable[..., Any], wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**wrong)


def test_breaker_seconds_become_the_cores_microseconds() -> None:
    policy = BreakerSettings(window_s=1.5, cool_down_s=0.25, patience_s=2).policy()

    assert (policy.window_us, policy.cool_down_us, policy.patience_us) == (1_500_000, 250_000, 2_000_000)
