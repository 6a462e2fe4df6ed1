"""The commands against a running gateway: exit codes, and tables that a tired human can read."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.system.yard import SILENCE, Cafe, Gateway, Yard, until
from websockets.sync.client import connect

pytestmark = pytest.mark.system

CONFIG = """
listen: "@listen@"
admin: {listen: "@admin@"}
store: {url: "embedded://"}
upstreams:
  cafe: {endpoints: ["%s", "%s"], health: {interval: 300ms, timeout: 200ms}}
limits:
  - {name: orders, match: {path: /v1/orders, methods: [POST]}, key: [client_ip], rate: 2/minute}
  - {name: everything, match: {any: true}, algorithm: token_bucket, rate: 1000/s, burst: 500}
access: {deny: [203.0.113.7]}
routes: [{match: {path: "/v1/drinks/*"}, timeout: 2s}]
realtime: {anonymous: true, namespaces: {chat: {publish: true}}}
telemetry: {access_log: none}
"""
MAX_WIDTH = 170


@dataclass
class Said:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str

    def rows(self) -> list[list[str]]:
        """Return the cells of the table's lines, the head first."""
        return [re.split(r" {2,}", line.rstrip()) for line in self.out.splitlines()]


def silence(*args: str, env: dict[str, str] | None = None) -> Said:
    done = subprocess.run([*SILENCE, *args], capture_output=True, text=True, timeout=30, check=False, env=env)
    assert "Traceback" not in done.stderr
    return Said(done.returncode, done.stdout, done.stderr)


@dataclass
class Place:
    """A gateway with two replicas, and its file."""

    gateway: Gateway
    cafes: list[Cafe]

    @property
    def file(self) -> str:
        return str(self.gateway.log.with_suffix(".yaml"))

    def admin(self, *command: str) -> Said:
        return silence(*command, "--admin", f"http://127.0.0.1:{self.gateway.admin_port}")


@pytest.fixture(scope="module")
def place(shared_yard: Yard) -> Place:
    cafes = [shared_yard.cafe(name) for name in ("one", "two")]
    gateway = shared_yard.gateway(CONFIG % (cafes[0].address, cafes[1].address), words=("ready",))
    for _ in range(5):
        gateway.ask("POST", "/v1/orders", {"drink": "tea"})
    return Place(gateway, cafes)


def test_upstreams_are_one_row_for_each_endpoint(place: Place) -> None:
    one, two = (cafe.address for cafe in place.cafes)
    checked = "health       healthy; last check "
    until(lambda: place.admin("upstreams", "show", "cafe").out.count(checked) == 2, "both are healthy")
    said = place.admin("upstreams")

    assert said.code == 0
    assert said.out.startswith("cafe: 2 of 2 ready; ")
    assert said.rows()[1] == ["ENDPOINT", "STATE", "FOR", "/MIN", "FAILED", "NOW", "P50", "P99", "CONNS"]
    assert [row[:2] for row in said.rows()[2:4]] == [[one, "ready"], [two, "ready"]]
    assert "{" not in said.out
    assert max(map(len, said.out.splitlines())) <= 80

    place.cafes[1].signal(signal.SIGKILL)
    until(lambda: " out " in place.admin("upstreams").out, "one is out")
    said = place.admin("upstreams")
    lines = said.out.splitlines()
    below = lines[next(number for number, line in enumerate(lines) if two in line) + 1]
    assert "not connected" in below
    assert max(map(len, lines)) <= 80
    (told,) = json.loads(place.admin("upstreams", "--json").out)
    assert {each["address"] for each in told["endpoints"]} == {one, two}


def test_statistics_of_an_upstream_are_begun_anew(place: Place) -> None:
    assert place.admin("upstreams", "reset-stats", "cafe").out == "begun anew: cafe\n"
    told = json.loads(place.admin("upstreams", "show", "cafe", "--json").out)
    nodes = json.loads(place.admin("nodes", "--json").out)["nodes"]

    assert told["endpoints"][0]["prober"] in {node["id"] for node in nodes}
    assert place.admin("upstreams", "show", "nothing").code == 1


def test_limits_are_one_row_each(place: Place) -> None:
    said = place.admin("limits")

    assert said.code == 0
    assert said.rows()[:2] == [
        ["LIMIT", "RATE", "BY", "COUNTS", "ALLOWED", "DENIED", "BUSIEST"],
        ["orders", "2/m", "client_ip", "POST /v1/orders", "2", "3", "127.0.0.1 (5)"],
    ]
    assert said.rows()[2][:4] == ["everything", "1000/s, bucket of 500", "client_ip", "every request"]
    assert "{" not in said.out


def test_a_limit_is_looked_at_and_its_key_forgiven(place: Place) -> None:
    top = place.admin("limits", "top", "orders", "--by", "denied")
    assert top.rows()[:2] == [["KEY", "DENIED"], ["127.0.0.1", "3"]]
    shown = place.admin("limits", "show", "orders")
    assert "in the last hour    2        3" in shown.out
    key = place.admin("limits", "show", "orders", "127.0.0.1")
    assert key.out.startswith("one more use is refused; retry after")
    assert ["orders", "2/m", "127.0.0.1", "0", "2"] in [row[:5] for row in key.rows()]
    assert place.admin("limits", "reset", "orders", "127.0.0.1").out == "orders, 127.0.0.1: forgotten\n"
    told = json.loads(place.admin("limits", "explain", "POST", "/v1/orders", "--json").out)
    assert [(limit["name"], limit["remaining"]) for limit in told["limits"]] == [
        ("orders", 2),
        ("everything", 500),
    ]
    assert all(len(line) <= MAX_WIDTH for said in (top, shown, key) for line in said.out.splitlines())
    assert place.admin("limits", "show", "none").code == 1
    assert place.admin("limits", "reset-stats", "--all").out == "begun anew: orders, everything\n"
    assert place.admin("limits", "top", "orders").rows()[0] == ["(none)"]


def test_sessions_are_one_row_each(place: Place) -> None:
    assert place.admin("sessions").out == "(none)\n"
    with connect(f"ws://127.0.0.1:{place.gateway.port}/connection/websocket", proxy=None) as socket:
        socket.send('{"id":1,"connect":{"name":"a-test"}}\n{"id":2,"subscribe":{"channel":"chat:room"}}')
        until(lambda: "chat:room" in place.admin("sessions").out, "the session is listed")
        said = place.admin("sessions")
        assert said.code == 0
        assert said.rows()[0][:4] == ["SESSION", "USER", "CHANNELS", "CLIENT"]
        assert said.rows()[1][1:4] == ["(anonymous)", "chat:room", "a-test"]
        assert place.admin("sessions", "--channel", "chat:nobody").out == "(none)\n"
    until(lambda: place.admin("sessions").out == "(none)\n", "the session is gone")


def test_nodes_and_healthcheck(place: Place) -> None:
    said = place.admin("nodes")

    assert said.code == 0
    assert said.rows()[0][:3] == ["NODE", "HOST", "PID"]
    assert said.rows()[1][2] == str(place.gateway.pid)
    assert "alive: 1" in said.out
    assert (place.admin("healthcheck").code, place.admin("healthcheck").out) == (0, "ready\n")


def test_routes_and_why_one_request_is_served_as_it_is(place: Place) -> None:
    routes = silence("routes", "-c", place.file)
    assert routes.code == 0
    found = {(row[0], row[1]): row for row in routes.rows()}
    assert found["GET", "/v1/drinks/{name}"][2:] == ["cafe", "silence.cafe.v1.Cafe/GetDrink", "everything"]
    assert found["POST", "/v1/orders"][-1] == "orders, everything"
    assert ("POST", "/silence.cafe.v1.Cafe/WhoAmI") in found

    explained = silence("explain", "-c", place.file, "GET", "/v1/drinks/tea")
    steps = {row[0]: row[1] for row in explained.rows()}
    assert explained.code == 0
    assert steps["route"] == "GET /v1/drinks/{name}"
    assert steps["timeout"] == "2s"
    denied = silence("explain", "-c", place.file, "GET", "/v1/drinks/tea", "--ip", "203.0.113.7")
    assert "403 access denied" in denied.out
    assert "404" in silence("explain", "-c", place.file, "GET", "/nowhere").out


def test_check_and_schema(place: Place, tmp_path: Path) -> None:
    good = silence("check", place.file)
    assert (good.code, good.err) == (0, "")
    assert "ok" in good.out
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(
        "listn: 127.0.0.1:1\n"
        "upstreams: {cafe: {endpoints: [127.0.0.1:9], timeout: 5 parsecs}}\n"
        "limits: [{name: a, match: {any: true}, rate: lots}]\n"
    )
    bad = silence("check", str(wrong))
    assert bad.code == 1
    assert f"{wrong}:1:1: " in bad.out
    assert "did you mean" in bad.out
    assert f"{wrong}:2:" in bad.out
    assert f"{wrong}:3:" in bad.out
    assert silence("run", "-c", str(wrong)).code == 1
    assert silence("check", str(tmp_path / "nothing.yaml")).code == 1

    schema: dict[str, Any] = json.loads(silence("schema").out)
    assert "upstreams" in schema["properties"]


def test_what_is_asked_wrongly_is_a_usage_error(place: Place) -> None:
    assert silence("upsteams").code == 2
    assert silence("run", "--workers", "none").code == 2
    assert place.admin("sessions", "--limit", "0").code == 2
    for command in ("run", "upstreams"):
        said = silence(command, "--help")
        assert said.code == 0
        assert "SILENCE_" in said.out


def test_drain_ends_the_gateway_and_then_nobody_answers(place: Place) -> None:
    """Last in this file: it ends the gateway."""
    said = place.admin("drain")

    assert (said.code, said.out) == (0, "draining\n")
    assert place.gateway.wait(10) == 0
    for command in ("healthcheck", "upstreams", "limits"):
        said = place.admin(command)
        assert said.code == 3
        assert "nothing listens at" in said.err
        assert len(said.err.splitlines()) == 1


def test_the_admin_api_on_a_unix_socket(yard: Yard, cafe: Cafe) -> None:
    path = yard.folder / "admin.sock"
    text = CONFIG.replace('"@admin@"', f'"unix:{path}"') % (cafe.address, cafe.address + "0")
    gateway = yard.gateway(text.replace(f', "{cafe.address}0"', ""), wait=False)

    until(lambda: silence("healthcheck", "--admin", f"unix:{path}").code == 0, "it is healthy", 20)

    assert "cafe" in silence("upstreams", "--admin", f"unix:{path}").out
    assert silence("drain", "--admin", f"unix:{path}").code == 0
    assert gateway.wait(10) == 0
