"""
The retries of three gateways on one Valkey, in front of a service of which every call fails.

The service counts what reaches it. Everything happens within the ten seconds that the budget looks back, or
what is free would come back; a machine too slow for that is told so instead of a wrong count.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.system.yard import Gateway, Yard, until

from silence_gateway.stores import keys
from silence_gateway.testing.valkey import ValkeyServer, fresh_fleet

pytestmark = [pytest.mark.system, pytest.mark.valkey]

DESCRIBED = Path(__file__).parents[2] / "src/silence_gateway/app/sample/cafe.binpb"
INSTANCES = 3
CALLS_EACH = 100
SHARE = 0.2
FREE_PER_S = 3
WINDOW_S = 10
FREE = FREE_PER_S * WINDOW_S
RETRIES, REFUSED = "silence_upstream_retries_total", "silence_upstream_retries_refused_total"

CONFIG = """
name: %s
listen: "@listen@"
admin: {listen: "@admin@"}
store: {url: "%s", deadline: 500ms}
telemetry: {access_log: none}
upstreams:
  cafe:
    endpoints: ["%s"]
    descriptors: %s
    breaker: {min_calls: 1000000, consecutive: 1000000}
    retry: {attempts: 2, wait: 1ms, budget: 0.2, budget_free: 3}
"""


class Failing:
    """A service that is down, and counts what reaches it; its server does not know of health."""

    def __init__(self) -> None:
        self.attempts = 0
        self._lock = threading.Lock()

    def service(self, details: Any) -> Any:
        if "Cafe" not in details.method:
            return None
        return grpc.unary_unary_rpc_method_handler(self._fail)

    def _fail(self, _request: bytes, context: Any) -> bytes:
        with self._lock:
            self.attempts += 1
        context.abort(grpc.StatusCode.UNAVAILABLE, "down")
        raise AssertionError("abort raises")


@pytest.fixture
def failing() -> Iterator[tuple[Failing, str]]:
    handler = Failing()
    server = grpc.server(ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((handler,))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield handler, address
    server.stop(0).wait(5)


def fleet_of(yard: Yard, valkey: ValkeyServer, address: str) -> tuple[str, list[Gateway]]:
    """Start the gateways; return the name of their fleet, and them."""
    name = fresh_fleet()
    text = CONFIG % (name, valkey.url, address, DESCRIBED)
    return name, [yard.gateway(text, words=("ready",)) for _ in range(INSTANCES)]


def fail(gateway: Gateway, times: int) -> None:
    """Ask for what fails, from a few callers at once."""
    with ThreadPoolExecutor(4) as pool:
        statuses = set(pool.map(lambda _: gateway.ask("GET", "/v1/drinks").status, range(times)))
    assert statuses == {503}


def known(valkey: ValkeyServer, fleet: str) -> tuple[int, int]:
    """Return how many instances tell of their repeats now, and how many facts were written, ever."""
    told = valkey.call("HGETALL", keys.board_room(fleet, "repeats/cafe"))
    fields = dict(zip(told[::2], told[1::2], strict=True))
    return sum(name.startswith(b"=") for name in fields), int(fields.get(b"v", 0))


def counts(gateways: list[Gateway], metric: str) -> list[int]:
    return [int(gateway.metric(metric)) for gateway in gateways]


def test_three_gateways_repeat_no_more_than_one_budget(yard: Yard, failing: tuple[Failing, str]) -> None:
    """Each alone might repeat its share and all that is free: 150 of 300 calls, and not 90."""
    handler, address = failing
    with ValkeyServer() as valkey:
        fleet, gateways = fleet_of(yard, valkey, address)
        began_s = time.monotonic()
        # Who repeats is known to all after its next second; this is about what happens from then on. Once
        # everybody has told, another round of it shows that what was told before has been read.
        for gateway in gateways:
            fail(gateway, 1)
        until(lambda: known(valkey, fleet)[0] == INSTANCES, "every gateway tells of its retries")
        facts = known(valkey, fleet)[1]
        until(lambda: known(valkey, fleet)[1] >= facts + INSTANCES, "they tell of them again")
        with ThreadPoolExecutor(INSTANCES) as pool:
            list(pool.map(lambda gateway: fail(gateway, CALLS_EACH), gateways))
        repeats = sum(counts(gateways, RETRIES))
        assert time.monotonic() - began_s < WINDOW_S, "the machine is too slow to tell anything"

        calls = INSTANCES * (CALLS_EACH + 1)
        assert handler.attempts == calls + repeats
        assert INSTANCES < repeats <= SHARE * calls + FREE
        assert sum(counts(gateways, REFUSED)) == calls - repeats


def test_without_the_store_each_gateway_has_the_budget_of_its_own(
    yard: Yard, failing: tuple[Failing, str]
) -> None:
    handler, address = failing
    with ValkeyServer() as valkey:
        _, gateways = fleet_of(yard, valkey, address)
        valkey.kill()
        for gateway in gateways:
            gateway.becomes("degraded")
        began_s = time.monotonic()
        with ThreadPoolExecutor(INSTANCES) as pool:
            list(pool.map(lambda gateway: fail(gateway, CALLS_EACH), gateways))
        repeats = counts(gateways, RETRIES)
        assert time.monotonic() - began_s < WINDOW_S, "the machine is too slow to tell anything"

        assert handler.attempts == INSTANCES * CALLS_EACH + sum(repeats)
        # A call counts when it has ended, so the four at once may each be one repeat early or late.
        assert all(SHARE * CALLS_EACH + FREE - 8 <= each <= SHARE * CALLS_EACH + FREE for each in repeats)
