"""What the file says about where endpoints are, and about calls that are made again, reaches the engines."""

from __future__ import annotations

from pathlib import Path

import pytest

from silence_gateway.app.config.load import load_text
from silence_gateway.app.config.upstreams import UpstreamConfig
from silence_gateway.app.engine_settings import dns_settings, route_rules, upstream_settings
from silence_gateway.app.sources import sources_of
from silence_gateway.core.status import Code
from silence_gateway.errors import ConfigError
from silence_gateway.events import nobody
from silence_gateway.stores.memory import MemoryStore
from silence_gateway.testing.clock import FakeClock
from silence_gateway.upstreams.discovery_dns import DnsSettings, DnsSource
from silence_gateway.upstreams.discovery_file import FileSource
from silence_gateway.upstreams.registry import RegistrySource
from silence_gateway.upstreams.retry_settings import RetrySettings


def upstream(text: str) -> UpstreamConfig:
    said = f"store: {{url: 'valkey://h:1'}}\nupstreams: {{a: {{{text}}}}}"
    return load_text(said, "g.yaml", {}).config.upstreams["a"]


def test_places_become_sources_in_the_order_written(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("h:1\n")
    config = upstream(f"endpoints: [h:2, {{dns: 'a:1'}}, {{file: {path}}}, {{registry: shop}}]")

    found = sources_of("a", config, MemoryStore(), FakeClock(), nobody)

    assert [type(one) for one in found] == [DnsSource, FileSource, RegistrySource]
    assert [one.address for one in upstream_settings("a", config).endpoints] == ["h:2"]


def test_a_mapping_stands_for_a_list_of_one() -> None:
    (endpoint,) = upstream("endpoints: {dns: _grpc._tcp.a.b, refresh: 30s, family: both}").endpoints

    assert dns_settings(endpoint) == DnsSettings(name="_grpc._tcp.a.b", refresh_s=30.0, family="both")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("endpoints: {dns: 'a.b:1'}", "a.b"),
        ("endpoints: {dns: 'a.b:1'}, tls: {server_name: c}", "c"),
        ("endpoints: [{dns: 'a.b:1'}, {dns: 'c.d:1'}]", None),
        ("endpoints: [{dns: 'a.b:1'}, 'c.d:1']", None),
        ("endpoints: 'a.b:1'", None),
    ],
)
def test_a_certificate_is_expected_to_be_made_out_to_the_name_looked_up(text: str, name: str | None) -> None:
    assert upstream_settings("a", upstream(text)).server_name == name


def test_retries_of_the_file_are_those_of_the_pool() -> None:
    text = (
        "endpoints: 'h:1', retry: {attempts: 5, on: [UNAVAILABLE, ABORTED], budget: 0, budget_free: 3, "
        "wait: 2s, attempt_timeout: 300ms, hedge_after: p95, methods: [a.B/*]}"
    )

    assert upstream_settings("a", upstream(text)).retry == RetrySettings(
        attempts=5,
        on=frozenset({Code.UNAVAILABLE, Code.ABORTED}),
        budget=0.0,
        budget_free_per_s=3,
        wait_s=2.0,
        max_wait_s=2.0,
        attempt_timeout_s=0.3,
        hedge_quantile=0.95,
        methods=frozenset({"a.B/*"}),
    )


def test_without_a_word_the_defaults_of_file_and_library_are_the_same() -> None:
    assert upstream_settings("a", upstream("endpoints: 'h:1'")).retry == RetrySettings()


def test_a_fixed_time_to_hedge_after_and_a_route_that_may_run_twice() -> None:
    assert upstream_settings("a", upstream("endpoints: 'h:1', retry: {hedge_after: 50ms}")).retry.hedges
    text = "upstreams: {a: {endpoints: 'h:1'}}\nroutes:\n  - {match: {path: /x}, idempotent: true}\n"
    text += "  - {match: {path: /y}, timeout: 1s}\n"
    rules = route_rules(load_text(text, "g.yaml", {}).config)

    assert [rule.idempotent for rule in rules] == [True, None]


def test_a_file_of_endpoints_is_checked_with_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("h:1\nnowhere\n")

    with pytest.raises(ConfigError, match="list:2: endpoint 'nowhere'"):
        upstream(f"endpoints: {{file: {path}}}")
    with pytest.raises(ConfigError, match="does not exist"):
        upstream("endpoints: {file: none}")
