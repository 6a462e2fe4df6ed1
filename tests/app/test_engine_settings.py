"""What the file says is what each engine is told, to the last number."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from silence_gateway.app.config.gateway import GatewayConfig
from silence_gateway.app.config.load import load_text
from silence_gateway.app.engine_settings import (
    limit_specs,
    proxy_settings,
    realtime_settings,
    route_rules,
    server_settings,
    store_settings,
    upstream_settings,
    upstream_tls,
)
from silence_gateway.core.concurrency_limit import ConcurrencyRules
from silence_gateway.core.limits import Algorithm, Mode, WhenDown
from silence_gateway.core.shedding import SheddingRules
from silence_gateway.errors import ConfigError
from silence_gateway.layers.proxy import ProxySettings
from silence_gateway.stores.url import Node
from silence_gateway.upstreams.balancing_settings import BalancingSettings

TEXT = """
store: {url: "valkey://:secret@store:6380/2", deadline: 10ms, breaker: {failures: 3, cool_down: 1s},
        when_down: deny}
upstreams:
  shop:
    endpoints: ["a:1", "[::1]:2", {address: "unix:/run/shop.sock", weight: 3, priority: 1, zone: z}]
    balancer: round_robin
    balancing: {slow_start: 30s, overprovisioning: 2, panic_threshold: 0.25, subset: 25}
    concurrency: {initial: 30, min: 5, max: 200, tolerance: 2}
    shedding: {target: 10ms, interval: 200ms}
    timeout: 2s
    max_message: 1MiB
    compression: zstd
    compress_over: 2KiB
    health: {interval: 2s, timeout: 1s, unhealthy_after: 5, healthy_after: 4, service: shop.Shop}
    breaker: {failure_ratio: 0.25, min_calls: 7, window: 3s, consecutive: 9, cool_down: 4s}
    pool: {min_connections: 0, max_connections: 2, max_streams: 50, keepalive: 60s, idle_timeout: 1m,
           max_connection_age: 1h}
routes:
  - {match: {path: /v1/**, methods: [GET]}, upstream: shop, timeout: 250ms, importance: high}
limits:
  - {name: a, match: {path: /v1/a, methods: [POST]}, key: [client_ip, "header:X-Tenant"], rate: 10/30s,
     cost: 2}
  - {name: b, match: {any: true}, key: [const], rate: 5/s, burst: 9, algorithm: token_bucket, mode: shadow,
     when_down: allow}
realtime:
  anonymous: true
  ping: 10s
  queue: 64KiB
  sessions: {ttl: 1h}
  namespaces: {chat: {publish: true, presence: false, join_leave: true, max_subscriptions: 3}}
server: {header_timeout: 1s, body_timeout: 2s, idle_timeout: 3s, max_header_bytes: 1KiB, max_body: 2KiB,
         max_connections: 4, drain: 5s}
"""


@pytest.fixture(scope="module")
def config() -> GatewayConfig:
    return load_text(TEXT, "gateway.yaml", {}).config


def test_the_server_is_told_its_bounds(config: GatewayConfig) -> None:
    told = server_settings(config)

    assert (told.header_timeout_s, told.body_timeout_s, told.idle_timeout_s, told.drain_s) == (1, 2, 3, 5)
    assert (told.max_header_bytes, told.max_body_bytes, told.max_connections) == (1024, 2048, 4)


def test_the_store_is_told_where_and_how_long(config: GatewayConfig) -> None:
    told = store_settings(config)

    assert (told.address.node, told.address.database) == (Node("store", 6380), 2)
    assert told.address.password == "secret"
    assert (told.deadline_s, told.failures, told.cool_down_s) == (0.01, 3, 1.0)
    assert "secret" not in repr(told)
    assert store_settings(config, "valkey+unix:///x.sock").address.node.path == "/x.sock"


def test_an_upstream_is_told_everything(config: GatewayConfig) -> None:
    told = upstream_settings("shop", config.upstreams["shop"])

    assert [endpoint.address for endpoint in told.endpoints] == ["a:1", "[::1]:2", "unix:/run/shop.sock"]
    assert (told.balancer, told.timeout_s, told.max_message_bytes) == ("round_robin", 2.0, 1024 * 1024)
    assert (told.compression, told.compress_over_bytes) == ("zstd", 2048)
    assert told.health is not None
    assert (told.health.interval_s, told.health.unhealthy_after, told.health.healthy_after) == (2.0, 5, 4)
    assert told.health.service == "shop.Shop"
    assert (told.breaker.failure_ratio, told.breaker.min_calls, told.breaker.consecutive) == (0.25, 7, 9)
    assert (told.breaker.window_s, told.breaker.cool_down_s) == (3.0, 4.0)
    assert (told.pool.min_connections, told.pool.max_connections, told.pool.max_streams) == (0, 2, 50)
    assert told.pool.max_connection_age_s == 3600.0
    assert (told.pool.keepalive_s, told.pool.idle_timeout_s) == (60.0, 60.0)
    assert told.tls is None


def test_limits_are_told_where_they_apply_and_what_they_do_without_the_store(config: GatewayConfig) -> None:
    a, b = limit_specs(config)

    assert (a.path, a.methods, a.cost.amount) == ("/v1/a", ("POST",), 2)
    assert a.key == ("client_ip", "header:x-tenant")
    assert (a.rule.algorithm, a.rule.mode, a.rule.when_down) == (
        Algorithm.SLIDING_WINDOW,
        Mode.ENFORCE,
        WhenDown.DENY,
    )
    assert (b.any, b.rule.capacity, b.rule.mode, b.rule.when_down) == (True, 9, Mode.SHADOW, WhenDown.ALLOW)


def test_routes_and_sessions_are_told_theirs(config: GatewayConfig) -> None:
    (rule,) = route_rules(config)
    assert config.realtime is not None
    told = realtime_settings(config.realtime)

    assert (rule.path, rule.methods, rule.upstream, rule.timeout_s) == ("/v1/**", ("GET",), "shop", 0.25)
    assert (told.anonymous, told.ping_s, told.queue_bytes, told.session_ttl_s) == (
        True,
        10.0,
        64 * 1024,
        3600.0,
    )
    assert told.pong_timeout_s < told.ping_s
    chat = told.namespaces["chat"]
    assert (chat.publish, chat.presence, chat.join_leave, chat.max_subscriptions) == (True, False, True, 3)


def test_a_ca_file_that_is_none_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(broken))
    text = f"upstreams: {{shop: {{endpoints: ['a:1'], tls: {{ca: {broken}}}}}}}"
    told = load_text(text, "gateway.yaml", {}).config.upstreams["shop"].tls
    assert told is not None
    broken.write_text("not a certificate any more")

    with pytest.raises(ConfigError, match=r"upstreams\.shop\.tls"):
        upstream_tls("shop", told, "h2")


def test_an_upstream_is_told_how_to_balance_and_what_to_hold_back(config: GatewayConfig) -> None:
    told = upstream_settings("shop", config.upstreams["shop"], zone="here", instance="gw-1")

    assert [(one.weight, one.priority, one.zone) for one in told.endpoints] == [
        (1, 0, ""),
        (1, 0, ""),
        (3, 1, "z"),
    ]
    assert told.balancing == BalancingSettings(
        slow_start_s=30,
        overprovisioning=2,
        panic_threshold=0.25,
        subset=25,
        zone="here",
        instance="gw-1",
    )
    assert told.concurrency == ConcurrencyRules(initial=30, minimum=5, maximum=200, tolerance=2)
    assert told.shedding == SheddingRules(target_us=10_000, interval_us=200_000)


def test_an_upstream_that_says_nothing_is_not_held_back() -> None:
    config = load_text("upstreams: {shop: {endpoints: 'a:1'}}", "gateway.yaml", {}).config

    told = upstream_settings("shop", config.upstreams["shop"])

    assert (told.balancing, told.concurrency, told.shedding) == (BalancingSettings(), None, None)


@pytest.mark.parametrize(
    ("said", "rules"),
    [
        pytest.param("{}", ConcurrencyRules(initial=20), id="between"),
        pytest.param("{max: 10}", ConcurrencyRules(initial=10, maximum=10), id="no-more-than-the-highest"),
        pytest.param("{min: 50}", ConcurrencyRules(initial=50, minimum=50), id="no-less-than-the-lowest"),
        pytest.param("{min: 50, initial: 60}", ConcurrencyRules(initial=60, minimum=50), id="as-it-is-said"),
    ],
)
def test_an_adaptive_limit_begins_where_its_bounds_allow(said: str, rules: ConcurrencyRules) -> None:
    text = f"upstreams: {{shop: {{endpoints: 'a:1', concurrency: {said}}}}}"
    config = load_text(text, "gateway.yaml", {}).config

    assert upstream_settings("shop", config.upstreams["shop"]).concurrency == rules


HTTP = """
upstreams:
  plain: {endpoints: 'a:1', protocol: http}
  told:
    endpoints: 'a:1'
    protocol: http
    pool: {max_connections: 7, idle_timeout: 9s, connect_timeout: 2s}
    health: {path: /up, expect: [200, 300-399], host: endpoint}
    http: {host: shop.internal, max_body: 1GiB, replay: 1KiB, origins: ['*']}
  grpc: {endpoints: 'a:1'}
routes:
  - {match: {path: /plain}, upstream: plain}
  - {match: {path: /told}, upstream: told}
server: {max_body: 1MiB}
"""


def test_an_http_upstream_has_more_connections_that_live_shorter_unless_told() -> None:
    upstreams = load_text(HTTP, "gateway.yaml", {}).config.upstreams

    def pool(name: str) -> tuple[int, float, float]:
        told = upstream_settings(name, upstreams[name]).pool
        return told.max_connections, told.idle_timeout_s, told.connect_timeout_s

    assert pool("plain") == (100, 4.0, 5.0)
    assert pool("told") == (7, 9.0, 2.0)
    assert pool("grpc") == (4, 300.0, 5.0)


def test_an_http_upstream_is_told_how_it_is_checked() -> None:
    upstreams = load_text(HTTP, "gateway.yaml", {}).config.upstreams

    told = upstream_settings("told", upstreams["told"]).health
    plain = upstream_settings("plain", upstreams["plain"]).health
    assert told is not None
    assert plain is not None
    assert (told.path, told.host, told.statuses) == ("/up", "", (range(200, 201), range(300, 400)))
    assert (plain.path, plain.statuses) == ("", (range(200, 400),))


def test_a_proxy_is_told_what_to_pass_on() -> None:
    config = load_text(HTTP, "gateway.yaml", {}).config

    assert proxy_settings(config, config.upstreams["plain"]) == ProxySettings(max_body_bytes=2**20)
    assert proxy_settings(config, config.upstreams["told"]) == ProxySettings(
        host="shop.internal", max_body_bytes=2**30, replay_bytes=1024, origins=("*",)
    )
