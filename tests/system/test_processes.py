"""Signals, workers, and who outlives whom: the gateway as an operator and a kernel see it."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from contextlib import suppress

import pytest
from tests.system.load import BROKEN, REFUSED, Load
from tests.system.wire import Wire, get
from tests.system.yard import Cafe, Gateway, Yard, alive, children, until

pytestmark = pytest.mark.system

CONFIG = """
listen: "@listen@"
admin: {listen: "@admin@"}
store: {url: "%s"}
upstreams: {cafe: {endpoints: ["%s"]}}
limits: [{name: all, match: {any: true}, key: [client_ip], rate: 1000000/minute, algorithm: token_bucket}]
server: {drain: %s}
telemetry: {access_log: none}
"""
LINES = "Accept: application/x-ndjson"


def config(cafe: Cafe, store: str = "embedded://", drain: str = "20s") -> str:
    return CONFIG % (store, cafe.address, drain)


def refused(port: int) -> bool:
    """Whether nobody listens on *port*."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


def valkeys(pid: int) -> list[int]:
    """Return the store servers that *pid* owns."""
    found = []
    for child in children(pid):
        # One that ends while it is looked at is none any more.
        with suppress(OSError), open(f"/proc/{child}/cmdline", "rb") as command:  # noqa: PTH123 - a pseudo-file
            if b"valkey-server" in command.read():
                found.append(child)
    return found


def test_sigterm_lets_finish_what_runs_and_takes_nothing_new(yard: Yard, cafe: Cafe) -> None:
    gateway = yard.gateway(config(cafe))
    with Wire(gateway.port) as stream, Wire(gateway.port) as idle:
        idle.send(get("/v1/drinks/tea"))
        assert idle.answer()[0] == 200
        stream.send(get("/v1/orders/tea-S1:watch?events=8", LINES))
        stream.until(b"\r\n\r\n")
        stream.chunk()

        gateway.signal(signal.SIGTERM)

        until(lambda: gateway.readiness() == "draining", "readiness says so at once", 1)
        assert gateway.admin("GET", "/readyz").status == 503
        assert gateway.admin("GET", "/livez").status == 200
        until(lambda: refused(gateway.port), "no new connection is taken", 1)
        assert idle.rest() == b""
        events = [json.loads(chunk)["step"] for chunk in iter(stream.chunk, b"")]
        assert events == [2, 3, 4, 5, 6, 7, 8]
        assert gateway.wait(5) == 0
    assert any(line["event"].startswith("draining") for line in gateway.events())


def test_what_does_not_finish_in_time_is_cut_off(yard: Yard, cafe: Cafe) -> None:
    gateway = yard.gateway(config(cafe, "memory://", drain="1s"))
    with Wire(gateway.port) as stream:
        stream.send(get("/v1/orders/tea-S1:watch?events=100", LINES))
        stream.until(b"\r\n\r\n")
        started_s = time.monotonic()
        gateway.signal(signal.SIGTERM)

        assert gateway.wait(10) == 0
        assert time.monotonic() - started_s >= 1
        assert not stream.rest().endswith(b"0\r\n\r\n")
    assert any(line["event"] == "connections cut off: 1" for line in gateway.events())


def test_a_second_sigterm_ends_it_at_once(yard: Yard, cafe: Cafe) -> None:
    gateway = yard.gateway(config(cafe))
    owned = valkeys(gateway.pid)
    with Wire(gateway.port) as stream:
        stream.send(get("/v1/orders/tea-S1:watch?events=100", LINES))
        stream.until(b"\r\n\r\n")
        gateway.signal(signal.SIGTERM)
        until(lambda: gateway.readiness() == "draining", "it drains", 2)
        gateway.signal(signal.SIGTERM)

        gateway.wait(5)
    assert len(owned) == 1
    assert not alive(owned[0])


def test_ctrl_c_drains_every_worker_and_the_store_is_there_to_the_end(yard: Yard, cafe: Cafe) -> None:
    """A terminal sends it to everybody in the foreground; the store is needed until the end."""
    gateway = yard.gateway(config(cafe), "--workers", "2")
    until(lambda: gateway.metric("silence_workers") == 2, "two workers run")
    family = children(gateway.pid)
    streams = [Wire(gateway.port) for _ in range(6)]
    for stream in streams:
        stream.send(get("/v1/orders/tea-S1:watch?events=6", LINES))
        stream.until(b"\r\n\r\n")
    os.killpg(gateway.pid, signal.SIGINT)

    until(lambda: gateway.readiness() == "draining", "readiness says so", 1)
    for stream in streams:
        events = [json.loads(chunk)["step"] for chunk in iter(stream.chunk, b"")]
        assert events == [1, 2, 3, 4, 5, 6]
        stream.close()
    assert gateway.wait(5) == 0
    said = gateway.output()
    assert "died" not in said
    assert "store lost" not in said
    until(lambda: not any(alive(pid) for pid in family), "nothing is left running")


def pids_of(gateway: Gateway) -> list[int]:
    """Return the worker processes."""
    return [child for child in children(gateway.pid) if child not in valkeys(gateway.pid)]


def test_a_killed_worker_is_replaced_and_nobody_is_refused(yard: Yard, cafe: Cafe) -> None:
    gateway = yard.gateway(config(cafe), "--workers", "3")
    until(lambda: gateway.metric("silence_workers") == 3, "three workers run")
    first = pids_of(gateway)
    assert len(first) == 3
    with Load(gateway.port, rate=150) as load:
        until(lambda: load.statuses()[200] > 150, "requests are answered")
        os.kill(first[0], signal.SIGKILL)
        until(lambda: len(pids_of(gateway)) == 3 and first[0] not in pids_of(gateway), "it is replaced")
        until(lambda: gateway.metric("silence_worker_restarts_total") == 1, "the restart is counted")
        replaced_s = time.monotonic()
        until(lambda: load.statuses(replaced_s)[200] > 150, "requests are answered")

    outcome = load.statuses()
    assert outcome[REFUSED] == 0
    assert outcome[BROKEN] <= 10  # what the dead worker had in its hands
    assert set(outcome) <= {200, BROKEN}
    assert load.worst_s() < 5
    assert gateway.metric("silence_workers") == 3
    assert "ended with status -9" in gateway.output()


def test_all_workers_are_one_to_an_operator_also_when_one_dies(yard: Yard, cafe: Cafe) -> None:
    gateway = yard.gateway(config(cafe), "--workers", "2")
    until(lambda: gateway.metric("silence_workers") == 2, "two workers run")
    # Each connection goes to whichever worker the kernel picks: forty of them meet both.
    for _ in range(40):
        assert gateway.ask("GET", "/v1/drinks/tea").status == 200

    assert gateway.metric("silence_requests_total") == 40
    text = gateway.admin("GET", "/metrics").body.decode()
    assert 'silence_limit_decisions_total{limit="all",decision="allowed"} 40' in text
    assert text.count("# TYPE silence_requests_total ") == 1
    assert gateway.admin("GET", "/api/v1/stats").json()["requests"]["total"] == 40
    upstream = gateway.admin("GET", "/api/v1/upstreams").json()[0]
    assert len(upstream["endpoints"]) == 1
    until(lambda: gateway.admin("GET", "/api/v1/nodes").json()["live"] == 2, "both are counted as alive")

    # A counter that falls is a restart to Prometheus, which then counts everything once more.
    os.kill(pids_of(gateway)[0], signal.SIGKILL)
    until(lambda: gateway.metric("silence_worker_restarts_total") == 1, "the restart is counted")
    until(lambda: gateway.metric("silence_workers") == 2, "two workers run")
    assert gateway.metric("silence_requests_total") == 40
    assert gateway.ask("GET", "/v1/drinks/tea").status == 200
    assert gateway.metric("silence_requests_total") == 41

    assert gateway.admin("PUT", "/api/v1/access/deny/127.0.0.1?ttl=1h").status == 200
    until(
        lambda: {gateway.ask("GET", "/v1/drinks/tea").status for _ in range(20)} == {403},
        "every worker denies",
    )


def test_nothing_outlives_a_parent_that_is_killed(yard: Yard, cafe: Cafe) -> None:
    gateway = yard.gateway(config(cafe), "--workers", "2")
    until(lambda: gateway.metric("silence_workers") == 2, "two workers run")
    others = children(gateway.pid)
    assert len(others) == 3
    gateway.signal(signal.SIGKILL)
    gateway.wait()

    until(lambda: not any(alive(pid) for pid in others), "the workers and the store are gone", 5)
    assert refused(gateway.port)


def test_the_store_does_not_outlive_a_gateway_that_is_killed(yard: Yard, cafe: Cafe) -> None:
    gateway = yard.gateway(config(cafe))
    (store,) = valkeys(gateway.pid)
    gateway.signal(signal.SIGKILL)
    gateway.wait()

    until(lambda: not alive(store), "the store is gone", 3)


def test_an_embedded_store_that_dies_comes_back(yard: Yard, cafe: Cafe) -> None:
    gateway = yard.gateway(config(cafe), "--workers", "2", words=("ready",))
    (store,) = valkeys(gateway.pid)
    with Load(gateway.port, rate=80) as load:
        until(lambda: load.statuses()[200] > 40, "requests are answered")
        os.kill(store, signal.SIGKILL)
        # It may be back before enough calls have failed for anybody to call it lost.
        until(lambda: "the embedded store died and is started again" in gateway.output(), "a new start")
        until(lambda: valkeys(gateway.pid) not in ([], [store]), "another one runs", 3)
        gateway.becomes("ready", 3)
        back_s = time.monotonic()
        until(lambda: load.statuses(back_s)[200] > 40, "requests are answered")

    assert load.failed() == []


def test_a_port_that_is_taken_is_told_in_one_line(yard: Yard, cafe: Cafe) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        gateway = yard.gateway(config(cafe), wait=False, port=port)

        assert gateway.wait() == 1
    said = gateway.output().strip().splitlines()
    assert f"127.0.0.1:{port}" in said[-1]
    assert "in use" in said[-1]
    assert not any("Traceback" in line for line in said)
