"""A gateway in front of real HTTP services, beside a gRPC one, as a user starts it."""

from __future__ import annotations

import http.client
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.system.yard import Cafe, Gateway, Yard, ask, free_port, until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

pytestmark = pytest.mark.system

CONFIG = """
listen: "@listen@"
admin: {listen: "@admin@"}
store: {url: "memory://"}
telemetry: {access_log: none}
server: {drain: 3s}
upstreams:
  cafe: {endpoints: [%s]}
  web:
    endpoints: [%s]
    protocol: http
    timeout: 2s
    balancer: round_robin
    health: {path: /up, interval: 300ms, timeout: 200ms, unhealthy_after: 2, healthy_after: 1}
    http: {max_body: 64MiB}
routes:
  - {match: {path: /**}, upstream: web}
limits:
  - {name: few, match: {path: /few}, key: client_ip, rate: 1/minute}
"""


def web(yard: Yard, name: str) -> Cafe:
    return yard._upstream(name, [str(Path(__file__).with_name("web_app.py")), name], 0)


class Town:
    """A gateway with a gRPC service and two HTTP ones."""

    def __init__(self, yard: Yard) -> None:
        self.cafe = yard.cafe("one")
        self.webs = [web(yard, "left"), web(yard, "right")]
        addresses = ", ".join(one.address for one in self.webs)
        self.gateway = yard.gateway(CONFIG % (self.cafe.address, addresses))
        until(lambda: len(self.states("ready")) == 2, "both HTTP services take requests")

    def endpoints(self) -> list[dict[str, Any]]:
        upstreams = self.gateway.admin("GET", "/api/v1/upstreams").json()
        found: list[dict[str, Any]] = next(one for one in upstreams if one["name"] == "web")["endpoints"]
        return found

    def states(self, state: str) -> list[str]:
        return [one["address"] for one in self.endpoints() if one["state"] == state]


@pytest.fixture(scope="module")
def town(shared_yard: Yard) -> Town:
    return Town(shared_yard)


def test_grpc_and_http_are_served_side_by_side_and_the_more_specific_path_counts(town: Town) -> None:
    drink = town.gateway.ask("GET", "/v1/drinks/espresso")
    page = town.gateway.ask("GET", "/v1/other")

    assert drink.status == 200
    assert "espresso" in drink.body.decode()
    assert page.json()["name"] in {"left", "right"}


def test_a_request_arrives_as_it_was_sent(town: Town) -> None:
    answer = town.gateway.ask("POST", "/a//b%20c?x=%2F&y", b"body", {"X-Own": "1", "X-Request-Id": "r-1"})

    said = answer.json()
    assert (said["method"], said["path"], said["query"], said["bytes"]) == ("POST", "/a//b%20c", "x=%2F&y", 4)
    assert said["headers"]["host"] == f"127.0.0.1:{town.gateway.port}"
    assert said["headers"]["x-own"] == "1"
    assert said["headers"]["x-request-id"] == answer.headers["x-request-id"] == "r-1"
    assert said["headers"]["x-forwarded-for"] == "127.0.0.1"
    assert answer.headers["server"] == "silence"


def test_requests_take_turns_between_the_replicas(town: Town) -> None:
    seen = Counter(town.gateway.ask("GET", "/").json()["name"] for _ in range(10))

    assert seen == {"left": 5, "right": 5}


def test_limits_hold_for_http_as_for_all_else(town: Town) -> None:
    assert town.gateway.ask("GET", "/few").status == 200
    refused = town.gateway.ask("GET", "/few")
    assert refused.status == 429
    assert refused.headers["content-type"] == "application/problem+json"


def memory_kib(gateway: Gateway) -> int:
    status = Path(f"/proc/{gateway.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def test_large_bodies_pass_in_both_directions_without_being_held(town: Town) -> None:
    before = memory_kib(town.gateway)
    connection = http.client.HTTPConnection("127.0.0.1", town.gateway.port, timeout=20)
    connection.request("POST", "/upload", iter([b"x" * 65536] * 512), encode_chunked=True)
    assert json.loads(connection.getresponse().read()) == {"bytes": 32 * 2**20}
    connection.request("GET", "/large?mib=64")
    response = connection.getresponse()
    got = 0
    while piece := response.read(2**20):
        got += len(piece)
    connection.close()

    assert got == 64 * 2**20
    assert memory_kib(town.gateway) - before < 16 * 1024


def test_events_come_while_they_are_made(town: Town) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", town.gateway.port, timeout=5)
    connection.request("GET", "/events")
    response = connection.getresponse()
    # Longer than the upstream's timeout, which is for the head alone.
    lines = [response.readline() for _ in range(2 * 25)]
    connection.close()

    assert lines[::2] == [b"data: %d\n" % number for number in range(25)]
    until(lambda: sum(one["in_flight"] for one in town.endpoints()) == 0, "the service is told of the end")


def test_a_websocket_reaches_the_service(town: Town) -> None:
    url = f"ws://127.0.0.1:{town.gateway.port}/chat"
    with connect(url, subprotocols=[Subprotocol("chat.v1")]) as socket:
        assert socket.subprotocol == "chat.v1"
        socket.send("hello")
        assert str(socket.recv(timeout=5)).endswith(": hello")
        socket.send("bye")
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=5)
        assert socket.protocol.close_code == 4001
        assert socket.protocol.close_reason == "as asked"


def test_the_tables_name_http_routes(town: Town) -> None:
    metrics = town.gateway.admin("GET", "/metrics").body.decode()

    assert 'silence_upstream_calls_total{upstream="web",code="200"}' in metrics
    assert 'silence_requests_total{route="/**",method="GET",status="200"}' in metrics
    assert all(one["connections"] >= 1 or one["calls"] for one in town.endpoints())


def test_a_replica_that_says_it_is_ill_and_one_that_is_killed_cost_no_request(yard: Yard) -> None:
    town = Town(yard)
    ill, dead = town.webs

    assert ask(ill.port, "POST", "/ill").status == 200
    until(lambda: town.states("ready") == [dead.address], "the ill one is out")
    assert {town.gateway.ask("GET", "/").json()["name"] for _ in range(4)} == {"right"}
    dead.popen.kill()
    dead.wait()
    refused = town.gateway.ask("GET", "/")
    assert refused.status == 503
    assert refused.json()["code"] == "UNAVAILABLE"

    again = yard._upstream("again", [str(Path(__file__).with_name("web_app.py")), "again"], dead.port)
    assert again.port == dead.port
    until(lambda: town.gateway.ask("GET", "/").status == 200, "a new process is found")


def test_a_gateway_that_stops_finishes_requests_and_says_goodbye_on_websockets(yard: Yard) -> None:
    town = Town(yard)
    with connect(f"ws://127.0.0.1:{town.gateway.port}/chat") as socket:
        socket.send("hello")
        socket.recv(timeout=5)
        connection = http.client.HTTPConnection("127.0.0.1", town.gateway.port, timeout=10)
        connection.request("GET", "/large?mib=64")
        response = connection.getresponse()
        town.gateway.popen.terminate()
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=5)
        assert socket.protocol.close_code == 1012
        assert len(response.read()) == 64 * 2**20
        connection.close()

    assert town.gateway.wait() == 0


def test_several_workers_pass_http_on(yard: Yard) -> None:
    only = web(yard, "only")
    text = CONFIG % (f"127.0.0.1:{free_port()}", only.address)
    gateway = yard.gateway(text.replace('store: {url: "memory://"}\n', ""), "--workers", "2")

    assert {gateway.ask("GET", f"/{number}").json()["name"] for number in range(8)} == {"only"}
