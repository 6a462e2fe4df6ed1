"""
The store stopped, killed, slow, refused: no request fails for it, and everybody is told once.

The deadline of the store is long here, so that waiting for it can be told from a busy machine.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import pytest
from tests.system.load import Load
from tests.system.yard import Cafe, Gateway, Yard, until

from silence_gateway.testing.fault_proxy import FaultProxy
from silence_gateway.testing.valkey import ValkeyServer, fresh_fleet

pytestmark = pytest.mark.system

DEADLINE_S = 0.2
BACK_S = 3.0
CONFIG = """
name: %s
listen: "@listen@"
admin: {listen: "@admin@"}
store: {url: "%s", deadline: 200ms}
trusted_proxies: [127.0.0.1]
upstreams: {cafe: {endpoints: ["%s"]}}
limits:
  - {name: wide, match: {path: "/v1/drinks/*"}, key: [client_ip], rate: 1000000/minute,
     algorithm: token_bucket}
  - {name: narrow, match: {path: /v1/drinks}, key: [client_ip], rate: 40/minute}
telemetry: {access_log: none}
"""


@dataclass
class Fleet:
    """Two gateways on a Valkey that tests may break, and a third behind a proxy that tests may break."""

    valkey: ValkeyServer
    proxy: FaultProxy
    one: Gateway
    two: Gateway
    behind: Gateway


@pytest.fixture(scope="module")
def fleet(shared_yard: Yard, cafe: Cafe) -> Iterator[Fleet]:
    with ValkeyServer() as valkey, FaultProxy(valkey.socket) as proxy:
        name = fresh_fleet()
        one, two = (shared_yard.gateway(CONFIG % (name, valkey.url, cafe.address)) for _ in range(2))
        behind = shared_yard.gateway(CONFIG % (fresh_fleet(), proxy.url, cafe.address))
        until(lambda: one.admin("GET", "/api/v1/nodes").json()["live"] == 2, "two instances are counted")
        until(lambda: two.admin("GET", "/api/v1/nodes").json()["live"] == 2, "two instances are counted")
        yield Fleet(valkey, proxy, one, two, behind)


def transitions(gateway: Gateway) -> list[str]:
    """Return every line about the store, oldest first."""
    return [line["event"] for line in gateway.events() if line["event"].startswith("store ")]


def outage(gateway: Gateway, break_it: Callable[[], None], mend_it: Callable[[], None]) -> None:
    """Break the store under load and mend it again; check what callers and operators see of it."""
    gateway.becomes("ready", BACK_S)  # a busy machine may have been an outage of its own
    told = len(transitions(gateway))
    with Load(gateway.port, rate=100) as load:
        until(lambda: len(load.sent) > 40, "some requests were answered")
        broken_s = time.monotonic()
        break_it()
        gateway.becomes("degraded", BACK_S)
        open_s = time.monotonic()
        until(lambda: load.statuses(open_s)[200] > 60, "requests are answered meanwhile")
        mended_s = time.monotonic()
        mend_it()
        gateway.becomes("ready", BACK_S)
        back_s = time.monotonic()
        until(lambda: load.statuses(back_s)[200] > 20, "requests are answered afterwards")

    assert load.failed() == []
    assert set(load.statuses()) == {200}
    added_s = load.median_s(open_s, mended_s) - load.median_s(0, broken_s)
    assert added_s < DEADLINE_S / 2, f"{added_s:.3f} s for a store that is known to be away"
    assert load.worst_s() < 10 * DEADLINE_S
    assert transitions(gateway)[told:] == ["store lost", "store found"]
    assert gateway.metric("silence_store_state") == 0


def test_a_store_that_hangs(fleet: Fleet) -> None:
    outage(fleet.one, fleet.valkey.pause, fleet.valkey.resume)
    fleet.two.becomes("ready", BACK_S)


def test_a_store_that_is_killed_and_comes_back_empty(fleet: Fleet) -> None:
    outage(fleet.two, fleet.valkey.kill, fleet.valkey.start)
    fleet.one.becomes("ready", BACK_S)


def test_a_store_that_is_slow(fleet: Fleet) -> None:
    def slow() -> None:
        fleet.proxy.latency_s = 3 * DEADLINE_S

    outage(fleet.behind, slow, fleet.proxy.heal)


def test_a_store_that_takes_everything_and_says_nothing(fleet: Fleet) -> None:
    outage(fleet.behind, fleet.proxy.black_hole, fleet.proxy.heal)


def test_a_store_whose_port_is_closed(fleet: Fleet) -> None:
    outage(fleet.behind, fleet.proxy.refuse, fleet.proxy.heal)


def test_connections_that_are_cut_are_no_outage(fleet: Fleet) -> None:
    """A reset connection is made anew; nobody waits for it and nothing is lost for good."""
    with Load(fleet.behind.port, rate=100) as load:
        for _ in range(5):
            before = len(load.sent)
            fleet.proxy.reset()
            until(partial(lambda count: len(load.sent) > count + 20, before), "requests are answered")
        fleet.behind.becomes("ready", BACK_S)

    assert load.failed() == []
    assert set(load.statuses()) == {200}
    assert load.worst_s() < 10 * DEADLINE_S


def test_a_store_that_is_full_is_said_to_be(fleet: Fleet) -> None:
    """It answers, so nobody waits for it; what it does not take, the shares decide, and not silently."""

    def say(command: bytes) -> None:
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(fleet.valkey.socket)
            line.sendall(command + b"\r\n")
            assert line.recv(100) == b"+OK\r\n"

    headers = {"X-Forwarded-For": "198.51.100.78"}
    say(b"CONFIG SET maxmemory 1")
    try:
        fleet.one.becomes("degraded")
        verbose = fleet.one.admin("GET", "/readyz?verbose")
        assert verbose.status == 200
        assert b"store: takes no writes" in verbose.body
        assert fleet.one.metric("silence_store_state") == 1
        statuses = [fleet.one.ask("GET", "/v1/drinks", None, headers).status for _ in range(40)]
        assert statuses == [200] * 20 + [429] * 20
    finally:
        say(b"CONFIG SET maxmemory 128mb")
    for gateway in (fleet.one, fleet.two):
        gateway.becomes("ready", BACK_S)


def test_each_instance_enforces_its_share(fleet: Fleet) -> None:
    """Forty a minute for two instances is twenty each while nobody can ask the other."""
    headers = {"X-Forwarded-For": "198.51.100.77"}
    fleet.valkey.pause()
    try:
        for gateway in (fleet.one, fleet.two):
            gateway.becomes("degraded")  # nobody asks anything of it: noticed with its next look at the store
            statuses = [gateway.ask("GET", "/v1/drinks", None, headers).status for _ in range(40)]
            assert statuses.count(200) == 20
            assert statuses.count(429) == 20
            refused = gateway.ask("GET", "/v1/drinks", None, headers)
            assert 0 < int(refused.headers["retry-after"]) <= 60
    finally:
        fleet.valkey.resume()
    for gateway in (fleet.one, fleet.two):
        gateway.becomes("ready", BACK_S)


def test_a_store_that_is_not_there_at_the_start(yard: Yard, cafe: Cafe) -> None:
    """The gateway serves and limits by itself; when the store comes, it is used within seconds."""
    with ValkeyServer() as valkey:
        valkey.kill()
        gateway = yard.gateway(CONFIG % (fresh_fleet(), valkey.url, cafe.address))
        assert gateway.readiness() == "degraded"
        assert gateway.admin("GET", "/readyz").status == 200
        with Load(gateway.port, rate=50) as load:
            until(lambda: load.statuses()[200] > 20, "requests are answered without a store")
            valkey.start()
            gateway.becomes("ready", BACK_S)
            until(lambda: load.statuses()[200] > 50, "requests are answered")

    assert load.failed() == []
    assert transitions(gateway)[:2] == ["store lost", "store found"]
