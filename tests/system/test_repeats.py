"""Calls that are made more than once by a running gateway, as a real grpcio service sees them."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.system.yard import Answer, Gateway, Yard, until

pytestmark = pytest.mark.system

DESCRIBED = Path(__file__).parents[2] / "src/silence_gateway/app/sample/cafe.binpb"
PREVIOUS = "grpc-previous-rpc-attempts"

CONFIG = """
name: edge
listen: "@listen@"
admin: {listen: "@admin@"}
store: {url: "memory://"}
telemetry: {access_log: none}
upstreams:
  cafe:
    endpoints: [%s]
    descriptors: %s
    timeout: 5s
    breaker: {min_calls: 1000000, consecutive: 1000000}
    retry: {wait: 1ms, methods: [silence.cafe.v1.Cafe/PlaceOrder, silence.cafe.v1.Cafe/Fail], %s}
routes:
  - {match: {path: "/v1/fail/*"}, idempotent: false}
"""


@dataclass
class Attempt:
    """One attempt as it came: what it said of those before, and the time it had, in seconds."""

    previous: list[str]
    left_s: float


class Planned:
    """Replicas that do what the `x-plan` of a call says: for each attempt `fail`, `hang` or `ok`."""

    def __init__(self, replicas: int) -> None:
        self.attempts: defaultdict[str, list[Attempt]] = defaultdict(list)
        self.left: defaultdict[str, threading.Event] = defaultdict(threading.Event)
        self._lock = threading.Lock()
        self._servers = [grpc.server(ThreadPoolExecutor(8)) for _ in range(replicas)]
        self.addresses = []
        for server in self._servers:
            server.add_generic_rpc_handlers((self,))
            self.addresses.append(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
            server.start()

    def service(self, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._answer) if "Cafe" in details.method else None

    def _answer(self, _request: bytes, context: Any) -> bytes:
        pairs = context.invocation_metadata()
        said = dict(pairs)
        call = said["x-call"]
        previous = [value for name, value in pairs if name == PREVIOUS]
        with self._lock:
            self.attempts[call].append(Attempt(previous, context.time_remaining()))
            step = said["x-plan"].split(",")[len(self.attempts[call]) - 1]
        if step == "fail":
            context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        if step == "hang":
            context.add_callback(self.left[call].set)
            self.left[call].wait(10)
        return b""

    def stop(self) -> None:
        for server in self._servers:
            server.stop(0).wait(5)


@pytest.fixture
def planned() -> Iterator[Planned]:
    service = Planned(2)
    yield service
    service.stop()


def ask(gateway: Gateway, method: str, path: str, plan: str) -> Answer:
    """Ask for *path*; it is the name of the call as well."""
    headers = {"Grpc-Metadata-X-Plan": plan, "Grpc-Metadata-X-Call": f"{method} {path}"}
    return gateway.ask(method, path, {} if method == "POST" else None, headers)


def gateway_of(yard: Yard, planned: Planned, retry: str) -> Gateway:
    endpoints = ", ".join(f'"{address}"' for address in planned.addresses)
    return yard.gateway(CONFIG % (endpoints, DESCRIBED, retry), words=("ready",))


def test_what_may_run_twice_is_made_again_and_says_so_and_the_rest_is_made_once(
    yard: Yard, planned: Planned
) -> None:
    gateway = gateway_of(yard, planned, "attempt_timeout: 2s")

    def made(method: str, path: str) -> tuple[int, list[list[str]], list[bool]]:
        status = ask(gateway, method, path, "fail,fail,ok").status
        attempts = planned.attempts[f"{method} {path}"]
        return status, [one.previous for one in attempts], [one.left_s <= 2 for one in attempts]

    # By its HTTP method, by name, neither, and by name on a route that takes it back.
    assert made("GET", "/v1/drinks/tea") == (200, [[], ["1"], ["2"]], [True] * 3)
    assert made("POST", "/v1/orders") == (200, [[], ["1"], ["2"]], [True] * 3)
    assert made("POST", "/silence.cafe.v1.Cafe/WhoAmI") == (503, [[]], [False])
    assert made("POST", "/v1/fail/3") == (503, [[]], [False])
    assert gateway.metric("silence_upstream_retries_total") == 4


def test_the_slower_of_two_is_cancelled_at_its_server(yard: Yard, planned: Planned) -> None:
    gateway = gateway_of(yard, planned, "hedge_after: 50ms")

    assert ask(gateway, "GET", "/v1/drinks/tea", "hang,ok").status == 200

    until(planned.left["GET /v1/drinks/tea"].is_set, "the server hears that nobody waits", 2.0)
    assert [one.previous for one in planned.attempts["GET /v1/drinks/tea"]] == [[], ["1"]]
    assert gateway.metric("silence_upstream_hedges_won_total") == 1
