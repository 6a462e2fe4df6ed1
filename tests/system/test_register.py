"""Services that register themselves, found by a running gateway; and a drain that every gateway keeps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.system.load import Load
from tests.system.yard import SILENCE, Cafe, Gateway, Process, Yard, free_port, until

from silence_gateway.testing.valkey import ValkeyServer, fresh_fleet

pytestmark = pytest.mark.system

CONFIG = """
name: %s
listen: "@listen@"
admin: {listen: "@admin@"}
store: {url: "%s"}
telemetry: {access_log: none}
upstreams: {cafe: {endpoints: {registry: cafe}}}
"""


def registered(
    yard: Yard, store: str, fleet: str, address: str, *command: str, options: tuple[str, ...] = ()
) -> Process:
    log = yard.folder / f"register-{len(yard.started)}.log"
    with log.open("wb") as out:
        popen = subprocess.Popen(
            [*SILENCE, "register", "--fleet", fleet, *options, "cafe", address, *command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=os.environ | {"SILENCE_STORE": store},
        )
    made = Process(popen, log)
    yard.started.append(made)
    return made


@pytest.fixture
def store() -> Iterator[str]:
    with ValkeyServer() as server:
        yield server.url


def usable(gateway: Gateway) -> list[str]:
    (cafe,) = gateway.admin("GET", "/api/v1/upstreams").json()
    return sorted(one["address"] for one in cafe["endpoints"] if one["state"] == "ready")


def known(gateway: Gateway) -> list[str]:
    (cafe,) = gateway.admin("GET", "/api/v1/upstreams").json()
    return [one["address"] for one in cafe["endpoints"]]


def becomes(gateway: Gateway, *cafes: Cafe) -> None:
    wanted = sorted(cafe.address for cafe in cafes)
    until(lambda: usable(gateway) == wanted, lambda: f"{wanted} serve; it is {usable(gateway)}")


def test_replicas_register_serve_and_leave_without_a_failed_request(yard: Yard, store: str) -> None:
    fleet = fresh_fleet()
    one, two = yard.cafe("one"), yard.cafe("two")
    first = registered(yard, store, fleet, one.address)
    gateway = yard.gateway(CONFIG % (fleet, store))
    becomes(gateway, one)
    gateway.becomes("ready")
    with Load(gateway.port, rate=50) as load:
        registered(yard, store, fleet, two.address)
        becomes(gateway, one, two)
        first.signal(signal.SIGTERM)
        assert first.wait() == 0
        becomes(gateway, two)
        one.end()
        served = len(load.sent)
        until(lambda: len(load.sent) > served + 20, "requests go on")

    assert f"{one.address} is registered as 'cafe'" in first.output()
    assert {sent.status for sent in load.sent} == {200}
    nodes = gateway.admin("GET", "/api/v1/nodes").json()
    # Who registers is no instance of the fleet.
    assert nodes["live"] == 1


def test_a_command_runs_registered_and_its_exit_code_is_passed_on(yard: Yard, store: str) -> None:
    program = "import sys, time; print('serving', flush=True); time.sleep(0.5); sys.exit(7)"
    done = registered(
        yard, store, fresh_fleet(), f"127.0.0.1:{free_port()}", "--", sys.executable, "-c", program
    )

    assert done.wait() == 7
    assert "serving" in done.output()


@pytest.mark.parametrize("kind", ["grpc", "tcp"])
def test_a_replica_that_is_gone_is_withdrawn_and_comes_back_by_its_checks(
    yard: Yard, store: str, kind: str
) -> None:
    fleet = fresh_fleet()
    one, two = yard.cafe("one"), yard.cafe("two")
    registered(yard, store, fleet, two.address)
    log = registered(yard, store, fleet, one.address, options=("--check", kind, "--check-every", "100ms"))
    gateway = yard.gateway(CONFIG % (fleet, store))
    becomes(gateway, one, two)

    one.signal(signal.SIGKILL)
    one.wait()
    until(lambda: "is not well" in log.output(), "the check says so")
    until(lambda: one.address not in known(gateway), "it is withdrawn")
    again = yard.cafe("one", one.port)
    becomes(gateway, again, two)
    assert f"{one.address} is well" in log.output()


def test_what_makes_no_sense_is_said(yard: Yard) -> None:
    done = registered(yard, "memory://", "edge", "127.0.0.1:1")

    assert done.wait() == 1
    assert "register in a store that the gateways reach" in done.output()


def test_a_drain_at_one_gateway_is_kept_by_all(yard: Yard, store: str) -> None:
    fleet = fresh_fleet()
    one, two = yard.cafe("one"), yard.cafe("two")
    for cafe in (one, two):
        registered(yard, store, fleet, cafe.address)
    gateways = [yard.gateway(CONFIG % (fleet, store)) for _ in range(2)]
    for gateway in gateways:
        becomes(gateway, one, two)

    def put(gateway: Gateway, state: str) -> Any:
        path = f"/api/v1/upstreams/cafe/endpoints/{one.address}?state={state}"
        return gateway.admin("PUT", path).json()

    with Load(gateways[1].port, rate=50) as load:
        assert put(gateways[0], "drain") == {
            "upstream": "cafe",
            "endpoint": one.address,
            "state": "drain",
            "reason": "",
            "fleet": True,
            "warning": "",
        }
        for gateway in gateways:
            becomes(gateway, two)
        put(gateways[1], "active")
        for gateway in gateways:
            becomes(gateway, one, two)
        until(lambda: len(load.sent) > 20, "requests go on")

    assert {sent.status for sent in load.sent} == {200}


def test_the_example_registers_itself_serves_and_leaves(yard: Yard, store: str) -> None:
    import grpc_tools
    from scripts import docs

    sample, site = docs.ROOT / "src/silence_gateway/app/sample", Path(grpc_tools.__file__).parents[1]
    out = yard.folder
    places = [f"-I{sample}", f"-I{site}", f"--python_out={out}", f"--grpc_python_out={out}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *places, "cafe.proto"], check=True)
    fleet = fresh_fleet()
    described = f"{{registry: cafe}}, descriptors: {sample / 'cafe.binpb'}"
    gateway = yard.gateway(CONFIG.replace("{registry: cafe}", described) % (fleet, store))
    service = subprocess.Popen(
        [sys.executable, str(docs.ROOT / "examples/registered_service.py"), store, fleet],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(out)},
    )
    try:
        assert service.stdout is not None
        assert service.stdout.readline().startswith("registered ")
        until(lambda: len(usable(gateway)) == 1, "it takes calls")
        assert gateway.ask("GET", "/v1/drinks/latte").json() == {"name": "latte"}
        service.communicate("\n", timeout=20)
        assert service.returncode == 0
        until(lambda: usable(gateway) == [], "it is gone")
    finally:
        service.kill()
        service.communicate()
