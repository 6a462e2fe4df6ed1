"""Replicas that are killed, hung, started late or deployed anew, under load, as callers see it."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from tests.system.load import Load
from tests.system.yard import Cafe, Gateway, Yard, free_port, until

from silence_gateway.testing.protos import compile_protos
from silence_gateway.testing.valkey import ValkeyServer, fresh_fleet

pytestmark = pytest.mark.system

CONFIG = """
name: %s
listen: "@listen@"
admin: {listen: "@admin@"}
store: {url: "%s"}
telemetry: {access_log: none}
upstreams:
  cafe:
    endpoints: [%s]
    timeout: 2s
    health: {interval: 500ms, timeout: 300ms, unhealthy_after: 2, healthy_after: 1}
    breaker: {consecutive: 5, cool_down: 1s}
"""


def config(*cafes: Cafe, name: str = "edge", store: str = "memory://") -> str:
    return CONFIG % (name, store, ", ".join(cafe.address for cafe in cafes))


@dataclass
class Three:
    """A gateway with three replicas; a test may break one, and mends it."""

    gateway: Gateway
    cafes: list[Cafe]


@pytest.fixture(scope="module")
def three(shared_yard: Yard) -> Three:
    cafes = [shared_yard.cafe(name) for name in ("one", "two", "three")]
    return Three(shared_yard.gateway(config(*cafes)), cafes)


def endpoint(gateway: Gateway, cafe: Cafe) -> dict[str, Any]:
    """Return what the gateway says of one replica; nothing while it has not found it yet."""
    upstreams = {upstream["name"]: upstream for upstream in gateway.admin("GET", "/api/v1/upstreams").json()}
    return next((each for each in upstreams["cafe"]["endpoints"] if each["address"] == cafe.address), {})


def becomes(gateway: Gateway, cafe: Cafe, key: str, *values: object, timeout_s: float = 10.0) -> None:
    until(
        lambda: endpoint(gateway, cafe).get(key, "not found yet") in values,
        lambda: f"{key} of {cafe.name} is one of {values}: {endpoint(gateway, cafe)}",
        timeout_s,
    )


def who_answers(gateway: Gateway, times: int = 60) -> Counter[str]:
    """Return how many of some calls each replica answered."""
    return Counter(
        gateway.ask("POST", "/silence.cafe.v1.Cafe/WhoAmI", {}).json()["replica"] for _ in range(times)
    )


def test_no_get_fails_when_a_replica_is_killed_and_it_is_used_again_when_it_is_back(
    three: Three, shared_yard: Yard
) -> None:
    """It is killed with calls in flight: those have been sent, and a GET may be sent once more."""
    gateway, cafes = three.gateway, three.cafes
    assert set(who_answers(gateway)) == {"one", "two", "three"}
    victim = cafes[0]
    with Load(gateway.port, rate=150) as load:
        until(lambda: load.statuses()[200] > 100, "some requests were answered")
        victim.signal(19)
        until(lambda: endpoint(gateway, victim)["in_flight"] > 0, "calls are in flight to the victim")
        victim.signal(9)
        victim.wait()
        becomes(gateway, victim, "state", "out", "waiting")
        gone_s = time.monotonic()
        until(lambda: load.statuses(gone_s)[200] > 100, "requests are answered by the others")
        cafes[0] = shared_yard.cafe("one", victim.port)
        becomes(gateway, victim, "state", "ready")

    assert load.failed() == []
    assert set(load.statuses()) == {200}
    until(lambda: who_answers(gateway)["one"] > 0, "the replica is used again")


def test_a_replica_that_hangs_costs_no_more_than_its_timeout_and_soon_nothing(three: Three) -> None:
    gateway, victim = three.gateway, three.cafes[1]
    with Load(gateway.port, rate=100) as load:
        until(lambda: load.statuses()[200] > 100, "some requests were answered")
        hung_s = time.monotonic()
        victim.signal(19)
        until(lambda: endpoint(gateway, victim)["state"] not in {"ready", "probe"}, "it is out", 5)
        out_s = time.monotonic()
        until(lambda: load.statuses(out_s)[200] > 100, "requests are answered by the others")
        over_s = time.monotonic()
        victim.signal(18)
        becomes(gateway, victim, "state", "ready")

    assert set(load.statuses()) <= {200, 504}
    assert set(load.statuses(0, hung_s - 0.5)) == {200}
    # A trial call now and then may still go to the one that hangs; it is alone in that.
    assert load.statuses(out_s + 0.1, over_s)[504] <= 3
    assert load.worst_s() < 2 + 1.5
    until(lambda: who_answers(gateway)["two"] > 0, "the replica is used again")


def test_what_one_gateway_finds_out_the_other_knows(yard: Yard, valkey: ValkeyServer) -> None:
    """The second has no traffic of its own, and of two one probes; both come to know both."""
    cafes = [yard.cafe(name) for name in ("one", "two")]
    text = config(*cafes, name=fresh_fleet(), store=valkey.url)
    gateways = [yard.gateway(text, words=("ready",)) for _ in range(2)]
    one, two = gateways
    for gateway in gateways:
        for cafe in cafes:
            becomes(gateway, cafe, "health", "healthy")

    cafes[0].signal(19)
    for gateway in gateways:
        # Silence towards one is a doubt to the other: it may be the network between those two.
        becomes(gateway, cafes[0], "state", "out", "doubtful")
    cafes[0].signal(18)
    for gateway in gateways:
        becomes(gateway, cafes[0], "health", "healthy")

    def fail_until_open() -> bool:
        one.ask("POST", "/v1/fail/14", {"message": "on purpose"})
        return bool(endpoint(one, cafes[1])["breaker"] == "open")

    until(fail_until_open, "failures open the breaker of the first gateway")
    becomes(two, cafes[1], "breaker", "open", "half_open", timeout_s=2)
    for gateway in gateways:
        becomes(gateway, cafes[1], "breaker", "closed")
        becomes(gateway, cafes[1], "state", "ready")
    assert "silence_breaker_state" in one.admin("GET", "/metrics").body.decode()


def test_an_upstream_that_starts_after_the_gateway(yard: Yard) -> None:
    port = free_port()
    gateway = yard.gateway(CONFIG % ("edge", "memory://", f"127.0.0.1:{port}"), words=("starting",))
    until(lambda: "serving on" in gateway.output(), "the gateway listens")
    answer = gateway.ask("GET", "/v1/drinks/tea")
    assert (answer.status, answer.json()["code"]) == (503, "UNAVAILABLE")
    assert "not known yet" in gateway.admin("GET", "/readyz?verbose").body.decode()

    yard.cafe("late", port)

    until(lambda: gateway.ask("GET", "/v1/drinks/tea").status == 200, "its methods are served")
    gateway.becomes("ready")
    assert "8 methods" in gateway.admin("GET", "/readyz?verbose").body.decode()
    # However often it was tried, the reason was told once.
    assert gateway.output().count("no descriptors from server reflection") == 1


def test_an_upstream_that_is_down_is_told_apart_from_a_path_that_is_not_served(yard: Yard) -> None:
    cafe = yard.cafe()
    gateway = yard.gateway(config(cafe))
    cafe.signal(9)
    cafe.wait()

    until(lambda: gateway.ask("GET", "/v1/drinks/tea").status == 503, "its calls are answered 503")
    answer = gateway.ask("GET", "/v1/drinks/tea")
    assert answer.json()["code"] == "UNAVAILABLE"
    assert cafe.address not in answer.body.decode()  # where services live is none of a caller's business
    assert gateway.ask("GET", "/v1/nowhere").status == 404


def version(path: str) -> bytes:
    return compile_protos(
        {
            "things.proto": f"""
                syntax = "proto3";
                package things.v1;
                import "google/api/annotations.proto";
                message Thing {{ string name = 1; }}
                service Things {{
                  rpc Get(Thing) returns (Thing) {{ option (google.api.http) = {{get: "{path}"}}; }}
                  rpc Broken(Thing) returns (Thing) {{
                    option (google.api.http) = {{get: "{path}/{{nobody}}"}};
                  }}
                }}
            """
        }
    )


def test_an_upstream_that_is_deployed_anew_with_other_methods(yard: Yard) -> None:
    """What it serves now is read when it is back; a rule that cannot be used takes nothing else down."""
    old = yard.service(version("/v1/old"))
    gateway = yard.gateway(config(old))
    assert gateway.ask("GET", "/v1/old").json() == {}
    assert gateway.ask("POST", "/things.v1.Things/Broken", {}).json() == {}

    old.end()
    yard.service(version("/v1/new"), old.port)

    until(lambda: gateway.ask("GET", "/v1/new").status == 200, "the new rule is served")
    assert gateway.ask("GET", "/v1/old").status == 404
    problems = [line for line in gateway.events() if line["event"] == "rule unusable"]
    assert {problem["method"] for problem in problems} == {"things.v1.Things/Broken"}
    assert all("nobody" in problem["reason"] for problem in problems)


def test_a_drained_endpoint_gets_nothing_until_it_is_active_again(three: Three) -> None:
    gateway, cafes = three.gateway, three.cafes
    until(lambda: set(who_answers(gateway)) == {"one", "two", "three"}, "all three are used")
    path = f"/api/v1/upstreams/cafe/endpoints/{cafes[0].address}"

    assert gateway.admin("PUT", f"{path}?state=drain").status == 200
    assert set(who_answers(gateway)) == {"two", "three"}
    assert gateway.admin("PUT", f"{path}?state=active").status == 200
    until(lambda: who_answers(gateway)["one"] > 0, "the endpoint is used again")
    assert gateway.admin("PUT", f"{path}?state=sleep").status == 400
    assert gateway.admin("PUT", "/api/v1/upstreams/cafe/endpoints/127.0.0.1:1?state=drain").status == 404


def test_what_an_operator_says_at_one_gateway_all_mind_also_one_that_restarts(
    yard: Yard, valkey: ValkeyServer
) -> None:
    cafes = [yard.cafe(name) for name in ("one", "two")]
    text = config(*cafes, name=fresh_fleet(), store=valkey.url)
    gateways = [yard.gateway(text, words=("ready",)) for _ in range(2)]
    one, two = (f"/api/v1/upstreams/cafe/endpoints/{cafe.address}" for cafe in cafes)

    held = gateways[0].admin("PUT", f"{one}?breaker=open&reason=moving&ttl=10m").json()
    assert (held["fleet"], held["warning"]) == (True, "")
    becomes(gateways[1], cafes[0], "breaker", "held_open", timeout_s=1)
    drained = gateways[1].admin("PUT", f"{two}?state=drain&reason=new%20disk").json()
    assert (drained["fleet"], "no endpoint" in drained["warning"]) == (True, True)
    becomes(gateways[0], cafes[1], "active", False, timeout_s=1)

    for gateway in gateways:
        said = {line["what"]: line for line in gateway.events() if line["event"] == "operator said"}
        assert said["breaker open"]["who"].startswith("admin API from 127.0.0.1")
        assert said["breaker open"]["until"] > said["breaker open"]["said"]
        assert (said["drain"]["reason"], said["drain"]["level"]) == ("new disk", "warning")
        assert gateway.metric("silence_breaker_held") == gateway.metric("silence_endpoint_drained") == 1
        assert gateway.ask("GET", "/v1/drinks").status == 503
    later = yard.gateway(text, words=("ready", "starting"))
    becomes(later, cafes[0], "breaker", "held_open")
    becomes(later, cafes[1], "active", False)

    assert later.admin("PUT", f"{one}?breaker=auto").json()["fleet"]
    for gateway in gateways:
        becomes(gateway, cafes[0], "breaker", "closed", timeout_s=1)
        assert gateway.ask("GET", "/v1/drinks").status == 200
