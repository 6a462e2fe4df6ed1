"""Where a call belongs and how much it matters, as the door reads it: hash keys, and importance of routes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
from tests.system.yard import Answer, Cafe, Gateway, Yard, ask, until

pytestmark = pytest.mark.system

DESCRIBED = Path(__file__).parents[2] / "src/silence_gateway/app/sample/cafe.binpb"
SECRET = "a secret of at least thirty-two bytes"
CONFIG = """
name: edge
listen: "@listen@"
admin: {listen: "@admin@"}
store: {url: "memory://"}
telemetry: {access_log: none}
auth: {jwt: {hmac_secret: "%s", required: false}}
upstreams:
  cafe:
    endpoints: [%s]
    balancer: consistent_hash
    balancing: {key: "%s"}
"""
SHEDDING = """
name: edge
listen: "@listen@"
admin: {listen: "@admin@"}
store: {url: "memory://"}
telemetry: {access_log: none}
upstreams:
  cafe:
    endpoints: ["%s"]
    descriptors: %s
    concurrency: {min: 1, initial: 1, max: 1}
    shedding: {target: 5ms, interval: 50ms}
routes:
  - {match: {path: /v1/drinks}, importance: low}
  - {match: {path: "/v1/orders/*"}, importance: high}
"""
KEYS = [f"caller-{number}" for number in range(12)]


@pytest.fixture(scope="module")
def cafes(shared_yard: Yard) -> list[Cafe]:
    return [shared_yard.cafe(name) for name in ("one", "two", "three")]


def header_of(kind: str, key: str) -> dict[str, str]:
    """Return the header by which a caller says *key*, as *kind* of hash key."""
    if kind.startswith("header"):
        return {"X-Tenant": key}
    if kind.startswith("cookie"):
        return {"Cookie": f"theme=dark; session={key}"}
    return {"Authorization": f"Bearer {jwt.encode({'sub': 'u', 'tenant': key, 'exp': 4e9}, SECRET)}"}


@pytest.mark.parametrize("kind", ["header:X-Tenant", "cookie:session", "claim:tenant"])
def test_calls_with_one_key_go_to_one_replica(shared_yard: Yard, cafes: list[Cafe], kind: str) -> None:
    text = CONFIG % (SECRET, ", ".join(cafe.address for cafe in cafes), kind)
    gateway = shared_yard.gateway(text, words=("ready",))

    def who(key: str) -> str:
        answer = gateway.ask("POST", "/silence.cafe.v1.Cafe/WhoAmI", {}, header_of(kind, key))
        assert answer.status == 200
        return str(answer.json()["replica"])

    homes = {key: {who(key) for _ in range(6)} for key in KEYS}
    assert all(len(home) == 1 for home in homes.values())
    assert len(set.union(*homes.values())) > 1


@pytest.fixture
def stuck(yard: Yard) -> Iterator[Gateway]:
    """Yield a gateway whose one replica, which takes one call at a time, has one and answers it never."""
    cafe = yard.cafe()
    # Described by a file: a replica that is asked for its methods has a call in flight that takes no place.
    gateway = yard.gateway(SHEDDING % (cafe.address, DESCRIBED), words=("ready",))
    assert gateway.ask("GET", "/v1/drinks/tea").status == 200
    cafe.signal(signal.SIGSTOP)
    held = threading.Thread(target=lambda: gateway.ask("GET", "/v1/drinks/tea"))
    held.start()
    try:
        yield gateway
    finally:
        cafe.signal(signal.SIGCONT)
        held.join(20)


def test_a_call_that_would_wait_too_long_is_refused_and_counted_by_the_importance_of_its_route(
    stuck: Gateway,
) -> None:
    paths = {"low": "/v1/drinks", "normal": "/v1/drinks/latte", "high": "/v1/orders/latte-S1"}

    def shed(importance: str) -> float:
        wanted = f'importance="{importance}"'
        lines = stuck.admin("GET", "/metrics").body.decode().splitlines()
        found = [one for one in lines if one.startswith("silence_upstream_shed_total{") and wanted in one]
        return sum(float(line.rpartition(" ")[2]) for line in found)

    def endpoint_is_taken() -> bool:
        (cafe,) = stuck.admin("GET", "/api/v1/upstreams").json()
        return bool(cafe["endpoints"][0]["in_flight"])

    until(endpoint_is_taken, "the one place is taken")
    for importance, path in paths.items():
        before = {each: shed(each) for each in paths}
        answer: Answer = ask(stuck.port, "GET", path)
        after = {each: shed(each) for each in paths}

        assert (answer.status, answer.json()["code"]) == (503, "UNAVAILABLE")
        assert answer.headers["retry-after"] == "1"
        assert "has more to do than it can" in answer.json()["detail"]
        assert {each: after[each] - before[each] for each in paths} == {
            each: float(each == importance) for each in paths
        }
