"""What a monitoring system relies on: every name that is promised, and labels that nobody can flood."""

from __future__ import annotations

import secrets

import pytest
from tests.system.wire import Wire, get
from tests.system.yard import Cafe, Gateway, Yard

pytestmark = pytest.mark.system

CONFIG = """
listen: "@listen@"
admin: {listen: "@admin@"}
upstreams: {cafe: {endpoints: ["%s"]}}
limits: [{name: all, match: {any: true}, key: [client_ip], rate: 100000/minute, algorithm: token_bucket}]
realtime: {anonymous: true}
telemetry: {access_log: none}
"""
PROMISED = {
    "silence_requests_total": "counter",
    "silence_request_duration_seconds": "histogram",
    "silence_overhead_seconds": "histogram",
    "silence_limit_decisions_total": "counter",
    "silence_limit_near_total": "counter",
    "silence_store_operation_seconds": "histogram",
    "silence_store_state": "gauge",
    "silence_store_transitions_total": "counter",
    "silence_upstream_calls_total": "counter",
    "silence_upstream_call_seconds": "histogram",
    "silence_endpoint_healthy": "gauge",
    "silence_breaker_state": "gauge",
    "silence_sessions": "gauge",
    "silence_channel_deliveries_total": "counter",
    "silence_ws_closes_total": "counter",
    "silence_loop_lag_seconds": "gauge",
    "silence_config_hash": "gauge",
}


@pytest.fixture(scope="module")
def gateway(shared_yard: Yard, cafe: Cafe) -> Gateway:
    return shared_yard.gateway(CONFIG % cafe.address, words=("ready",))


def text(gateway: Gateway) -> str:
    answer = gateway.admin("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return answer.body.decode()


def test_every_metric_that_is_promised_is_there(gateway: Gateway) -> None:
    gateway.ask("GET", "/v1/drinks/tea")
    lines = text(gateway).splitlines()

    types = dict(line.split(" ")[2:4] for line in lines if line.startswith("# TYPE "))
    assert {name: types.get(name) for name in PROMISED} == PROMISED
    assert len(types) == sum(line.startswith("# TYPE ") for line in lines), "a family is there twice"
    samples = [line for line in lines if not line.startswith("#")]
    assert len({line.rpartition(" ")[0] for line in samples}) == len(samples), "a series is there twice"


def test_nobody_fills_the_monitoring_with_invented_names(gateway: Gateway) -> None:
    def ask_for_nonsense() -> None:
        for _ in range(20):
            word = secrets.token_hex(8)
            gateway.ask("GET", f"/{word}/{word}", headers={"X-Forwarded-For": word})
            gateway.ask("GET", f"/v1/drinks/{word}?{word}={word}")
        for method in ("PROPFIND", "PURGE", "M-SEARCH"):
            with Wire(gateway.port) as wire:
                wire.send(get("/v1/drinks/tea", "Connection: close", method=method))
                wire.rest()

    ask_for_nonsense()
    before = len(text(gateway).splitlines())
    ask_for_nonsense()

    assert len(text(gateway).splitlines()) == before
    assert 'route="none",method="GET",status="404"' in text(gateway)
