"""What a gateway of two workers tells of its endpoints is what these were asked, byte for byte."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.system.yard import Gateway, Yard, until

pytestmark = pytest.mark.system

CONFIG = """
name: counts
listen: "@listen@"
admin: {listen: "@admin@"}
store: {url: "embedded://"}
workers: 2
telemetry: {access_log: none}
upstreams:
  cafe:
    endpoints: [%s]
    descriptors: %s
    balancer: round_robin
    breaker: {consecutive: 1000, min_calls: 1000}
"""
# From a file, because to ask servers for them is a call as well.
DESCRIBED = Path(__file__).parents[2] / "src/silence_gateway/app/sample/cafe.binpb"
WHO = "/silence.cafe.v1.Cafe/WhoAmI"


class Relay:
    """
    The way to a server, on which everything is counted.

    Attributes:
        connections: Made by the gateway.
        counts: Bytes to the server, and back.
    """

    def __init__(self, port: int) -> None:
        self.connections = 0
        self.counts = [0, 0]
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.connections += 1
                far = socket.create_connection(("127.0.0.1", self._to))
                for index, (source, sink) in enumerate(((near, far), (far, near))):
                    threading.Thread(target=self._pass_on, args=(source, sink, index), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, index: int) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                self.counts[index] += len(data)
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def relays(yard: Yard) -> Iterator[list[Relay]]:
    made = [Relay(yard.cafe(name).port) for name in ("one", "two")]
    yield made
    for relay in made:
        relay.close()


def told(gateway: Gateway) -> dict[str, Any]:
    answer: dict[str, Any] = gateway.admin("GET", "/api/v1/upstreams/cafe").json()
    return answer


def metric(gateway: Gateway, name: str, address: str) -> float:
    """Return the sum of a metric of one endpoint."""
    lines = gateway.admin("GET", "/metrics").body.decode().splitlines()
    mine = [line for line in lines if line.startswith(name + "{") and f'endpoint="{address}"' in line]
    return sum(float(line.rpartition(" ")[2]) for line in mine)


def test_calls_and_bytes_are_those_that_the_servers_saw(yard: Yard, relays: list[Relay]) -> None:
    text = CONFIG % (", ".join(relay.address for relay in relays), DESCRIBED)
    gateway = yard.gateway(text, words=("ready",))
    until(lambda: gateway.ask("POST", WHO, {}).status == 200, "the methods are served")
    assert gateway.admin("DELETE", "/api/v1/upstreams/cafe/stats").json()["reset"] == ["cafe"]
    until(lambda: told(gateway)["calls_by_code"] == {}, "both workers have begun anew")

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: gateway.ask("POST", WHO, {}).json()["replica"], range(60)))
        refused = list(
            pool.map(lambda code: gateway.ask("POST", f"/v1/fail/{code}", {}).status, [5, 8, 13] * 7)
        )
    watching = http.client.HTTPConnection("127.0.0.1", gateway.port)
    watching.request("GET", "/v1/orders/latte-L2:watch?events=100")
    stream = watching.getresponse()
    until(lambda: sum(each["in_flight"] for each in told(gateway)["endpoints"]) == 1, "it is in flight")
    stream.close()
    watching.close()
    until(lambda: told(gateway)["calls_by_code"].get("CANCELLED") == 1, "it was cancelled")

    upstream = told(gateway)
    served, endpoints = Counter(answers), upstream["endpoints"]
    failed = {"NOT_FOUND": 7, "RESOURCE_EXHAUSTED": 7, "INTERNAL": 7}
    assert sorted(refused) == sorted([404, 429, 500] * 7)
    assert upstream["calls_by_code"] == {"OK": 60, "CANCELLED": 1} | failed
    assert [each["codes"]["OK"] for each in endpoints] == [served["one"], served["two"]]
    assert sum((Counter(each["codes"]) for each in endpoints), Counter()) == upstream["calls_by_code"]
    assert [each["latency"]["calls"] for each in endpoints] == [
        each["calls"] - each["codes"].get("CANCELLED", 0) for each in endpoints
    ]
    assert [each["in_flight"] for each in endpoints] == [0, 0]
    assert [each["recent"]["calls"] for each in endpoints] == [each["calls"] for each in endpoints]
    assert [each["connections"] for each in endpoints] == [relay.connections for relay in relays]

    def agreed() -> bool:
        """Whether the metrics, which go on from the start, agree with the wire; checks may be under way."""
        before = [list(relay.counts) for relay in relays]
        counted = [
            [
                metric(gateway, "silence_endpoint_sent_bytes_total", relay.address),
                metric(gateway, "silence_endpoint_received_bytes_total", relay.address),
            ]
            for relay in relays
        ]
        return counted == before

    until(agreed, "bytes told are bytes passed on")
