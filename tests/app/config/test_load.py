"""From a file to a configuration, or to every line of what is wrong with it."""

from __future__ import annotations

import pickle
from importlib.resources import files
from pathlib import Path

import pytest
import trustme

from silence_gateway.app.config.load import load, load_text
from silence_gateway.app.config.loaded import LoadedConfig
from silence_gateway.core.rates import Rate
from silence_gateway.errors import ConfigError

LEAST = "upstreams: {shop: {endpoints: [127.0.0.1:9001]}}\n"


def problems(text: str, **environment: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_text(text, "g.yaml", environment)
    return list(caught.value.problems)


def good(text: str, **environment: str) -> LoadedConfig:
    return load_text(text, "g.yaml", environment)


def test_upstreams_alone_are_enough_to_run() -> None:
    config = good(LEAST).config

    assert str(config.listen[0]) == "127.0.0.1:8080"
    assert config.server.header_timeout_s == 10.0
    assert config.server.max_body_bytes == 4 << 20
    assert config.store.deadline_s == 0.025
    assert str(config.store.url) == "embedded://"
    assert config.upstreams["shop"].uses_reflection


def test_every_key_of_the_file_reaches_its_attribute(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    own = authority.issue_cert("gateway.test")
    own.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    own.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    (tmp_path / "api.binpb").write_bytes(
        files("silence_gateway.app.sample").joinpath("cafe.binpb").read_bytes()
    )
    (tmp_path / "g.yaml").write_text(
        """
version: 1
name: fleet-1
listen: [127.0.0.1:0, "unix:gateway.sock"]
workers: "2"
tls: {certificate: cert.pem, key: key.pem, client_ca: ca.pem}
admin: {listen: "[::1]:9900", token: 0123456789abcdef}
trusted_proxies: 10.0.0.0/8
store:
  {url: "valkey://u:pw@h:6380/2", deadline: 30ms, breaker: {failures: 3, cool_down: 1s}, when_down: deny}
upstreams:
  shop:
    endpoints: [127.0.0.1:1, {address: "unix:shop.sock"}]
    tls: {ca: ca.pem}
    descriptors: api.binpb
    services: [a.B]
    balancer: random
    timeout: 2s
    health: {interval: 2s, timeout: 500ms, unhealthy_after: 5, healthy_after: 1, service: a.B}
    breaker: {failure_ratio: 0.25, min_calls: 5, window: 20s, consecutive: 7, cool_down: 2s}
    pool: {max_connections: 2, max_streams: 10, keepalive: 1m, idle_timeout: 2m, max_connection_age: 1h}
    max_message: 1MiB
routes:
  - {match: {path: "/a/*", methods: [GET]}, upstream: shop, timeout: 3s, auth: none}
limits:
  - {name: l, match: {rpc: a.B/C}, key: [user, "header:X-A"], rate: 10/30s, burst: 20,
     algorithm: token_bucket, cost: 2, mode: shadow, when_down: allow}
access: {allow: [10.0.0.0/8], deny: 203.0.113.7}
realtime:
  path: /ws
  origins: https://App.example.com
  tokens: {hmac_secret: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, audience: a, issuer: i}
  ping: 10s
  queue: 64KiB
  sessions: {ttl: 1h}
  namespaces: {"": , chat: {publish: true, presence: false, join_leave: true, max_subscriptions: 3}}
  api_key: k
auth: {jwt: {hmac_secret: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb, algorithms: HS256, required: false}}
server: {header_timeout: 1s, body_timeout: 2s, idle_timeout: 3s, max_header_bytes: 8KiB,
         max_body: 1KiB, max_connections: 9, drain: 4s}
telemetry: {access_log: none, level: debug}
"""
    )

    loaded = load(tmp_path / "g.yaml", {})

    config = loaded.config
    assert loaded.warnings == ()
    assert config.workers == 2
    assert config.listen[1].unix_path == str(tmp_path / "gateway.sock")
    assert config.tls is not None
    assert config.tls.certificate == tmp_path / "cert.pem"
    assert config.store.url.password == "pw"
    assert (config.store.breaker.failures, config.store.breaker.cool_down_s) == (3, 1.0)
    shop = config.upstreams["shop"]
    assert str(shop.endpoints[1].address) == f"unix:{tmp_path}/shop.sock"
    assert shop.descriptor_files == (tmp_path / "api.binpb",)
    assert (shop.health.interval_s, shop.breaker.window_s, shop.pool.keepalive_s) == (2.0, 20.0, 60.0)
    assert config.routes[0].timeout_s == 3.0
    assert config.limits[0].key == ("user", "header:x-a")
    assert config.limits[0].rate == Rate(10, 30_000_000)
    assert config.realtime is not None
    assert config.realtime.origins == ("https://app.example.com",)
    assert config.realtime.namespaces[""].presence
    assert config.realtime.namespaces["chat"].max_subscriptions == 3
    assert config.auth is not None
    assert config.auth.jwt is not None
    assert not config.auth.jwt.required
    assert config.server.drain_s == 4.0
    assert config.telemetry.level == "debug"
    assert pickle.loads(pickle.dumps(loaded)).describe() == loaded.describe()


def test_all_problems_of_all_kinds_come_at_once_and_in_the_order_of_the_file() -> None:
    lines = problems(
        """
wrkers: 3
server: {drain: soon}
routes: [{match: {path: /x}, upstream: b}]
upstreams: {a: {}}
limits: [{name: l, match: {any: true}, rate: often}, {name: l, match: {}, rate: 1/s}]
"""
    )

    assert [line.split(": ", 1)[0] for line in lines] == [
        "g.yaml:2:1", "g.yaml:3:17", "g.yaml:4:40", "g.yaml:5:13", "g.yaml:6:46", "g.yaml:6:61",
        "g.yaml:6:71",
    ]  # fmt: skip


def test_a_mistake_does_not_cause_others_about_what_stands_in_for_it() -> None:
    """A route to a broken upstream, an admin with a broken token: one line each, not two."""
    assert problems("upstreams: {a: {endpoints: bad}}\nroutes: [{match: {path: /x}, upstream: a}]") == [
        (
            "g.yaml:1:28: upstreams.a.endpoints[0].address: "
            "'bad' is not an address: write 127.0.0.1:8080, [::1]:8080 or unix:/run/gateway.sock"
        )
    ]
    assert len(problems(LEAST + 'admin: {listen: "0.0.0.0:1", token: "${NOPE}"}')) == 1
    assert len(problems(LEAST + "realtime: {tokens: {hmac_secret: [a]}}")) == 1
    assert len(problems(LEAST + "listen: [nowhere]")) == 1


def test_a_long_list_of_problems_is_cut() -> None:
    lines = problems(LEAST + "access:\n  deny:\n" + "    - nobody\n" * 150)

    assert len(lines) == 101
    assert lines[-1] == "g.yaml: and 50 more problems"


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n"])
def test_an_empty_file_says_what_the_least_is(text: str) -> None:
    assert problems(text)[0].startswith(
        "g.yaml:1:1: the file is empty: the least a gateway needs is one upstream"
    )


@pytest.mark.parametrize("text", ["version: 1\n", "upstreams: {}\n", "upstreams:\n"])
def test_a_file_that_serves_nothing_is_a_mistake(text: str) -> None:
    assert "there is nothing to serve" in problems(text)[0]


@pytest.mark.parametrize("text", ["hello", "[a, b]", "- a"])
def test_a_file_that_is_no_mapping_says_what_it_should_be(text: str) -> None:
    assert problems(text) == ["g.yaml:1:1: the file takes keys, such as 'version: ...'"]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("trusted_proxies: 0.0.0.0/0", "every client may claim any address"),
        ("store: {url: memory://}\nworkers: 2", "memory:// is not shared"),
        ("limits: [{name: a, match: {any: true}, rate: 20000/m}]", "consider algorithm: sliding_counter"),
        ("limits: [{name: a, match: {any: true}, rate: 2/m, key: user}]", "no caller has a user"),
        ("realtime: {anonymous: true, origins: '*'}", "any web page may connect"),
        ("admin: {token: short}", "shorter than 16 characters"),
        ("server: {max_body: 0B}", "no request may have a body"),
    ],
)
def test_what_runs_but_may_surprise_is_a_warning(text: str, part: str) -> None:
    [warning] = good(LEAST + text).warnings

    assert part in warning
    assert warning.startswith(("g.yaml:2:", "g.yaml:3:"))


def test_values_from_outside_are_typed_by_their_key_and_named_in_messages() -> None:
    text = LEAST + 'workers: "${N}"\nserver: {drain: "${DRAIN:-5s}"}\n'

    loaded = good(text, N="3")

    assert (loaded.config.workers, loaded.config.server.drain_s) == (3, 5.0)
    assert problems(text, N="many") == [
        "g.yaml:2:10: workers: the value of ${N} is not a whole number: write digits only, such as 4"
    ]
    assert problems(text, N="0") == ["g.yaml:2:10: workers: the value of ${N} is too small: the least is 1"]
    # A value full of YAML stays a value.
    [line] = problems(LEAST + 'name: "${X}"', X="a\nworkers: 9 #")
    assert line.startswith("g.yaml:2:7: name: the value of ${X} is not a name: use letters")


def test_files_that_cannot_be_opened_are_named(tmp_path: Path) -> None:
    for path, part in [
        (tmp_path, "is a directory"),
        (tmp_path / "none.yaml", "No such file or directory"),
        (tmp_path / "x\0y", "cannot be read"),
    ]:
        with pytest.raises(ConfigError, match=part):
            load(path)
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9\n")
    with pytest.raises(ConfigError, match=r"latin.yaml:1:7: byte 0xe9 is not UTF-8"):
        load(tmp_path / "latin.yaml")


def test_a_thousand_routes_are_checked_in_a_moment() -> None:
    text = (
        LEAST
        + "routes:\n"
        + "".join(
            f"  - {{match: {{path: /r{number}/*, methods: [GET, POST]}}, upstream: shop, timeout: 2s}}\n"
            for number in range(1000)
        )
    )

    assert len(good(text).config.routes) == 1000
