"""Who is let in, who is counted as whom, and what they are told: two workers that share a Valkey."""

from __future__ import annotations

import time
from collections.abc import Iterator
from hashlib import sha256
from itertools import count
from pathlib import Path

import jwt
import pytest
from tests.system.yard import Answer, Cafe, Gateway, Yard, ask, until

from silence_gateway.testing.valkey import ValkeyServer, fresh_fleet

pytestmark = pytest.mark.system

SECRET = "a secret of at least thirty-two bytes"
KEY, NEW_KEY = "partner-key-of-enough-letters", "a-new-key-of-enough-letters"
CONFIG = """
name: %s
listen: "@listen@"
admin: {listen: "@admin@"}
store: {url: "%s", deadline: 500ms}
trusted_proxies: [127.0.0.0/8]
limit_headers: both
access: {deny_files: deny.txt}
auth:
  jwt: {hmac_secret: "%s", required: false}
  api_keys: {file: keys.yaml, required: false}
upstreams: {cafe: {endpoints: ["%s"]}}
routes: [{match: {path: /v1/fail/*}, auth: required}]
telemetry: {access_log: json}
limits:
  - {name: keys, match: {path: /v1/drinks}, key: [api_key], rate: 3/minute}
  - {name: tenants, match: {path: "/v1/drinks/*"}, key: ["claim:tenant"], rate: 3/minute}
  - {name: small, match: {path: "/v1/orders/*"}, key: ["header:X-Tenant"], rate: 2/minute}
  - {name: large, match: {path: "/v1/orders/*"}, key: [client_ip], ipv6_prefix: 48, rate: 4/minute}
"""

clients = (f"198.51.{number // 250}.{number % 250 + 1}" for number in count())


def keys_file(*keys: str) -> str:
    lines = [f"  - {{id: key-{n}, sha256: {sha256(key.encode()).hexdigest()}}}" for n, key in enumerate(keys)]
    return "keys:\n" + "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def gateway(shared_yard: Yard, cafe: Cafe, valkey: ValkeyServer) -> Iterator[Gateway]:
    (shared_yard.folder / "deny.txt").write_text("192.0.2.0/24\n")
    (shared_yard.folder / "keys.yaml").write_text(keys_file(KEY))
    config = CONFIG % (fresh_fleet(), valkey.url, SECRET, cafe.address)
    made = shared_yard.gateway(config, "--workers", "2", words=("ready",))
    yield made
    assert made.readiness() == "ready", "the store was away: shared limits were not tested"
    assert KEY not in made.output()
    assert NEW_KEY not in made.output()


def get(gateway: Gateway, path: str, ip: str = "", **headers: str) -> Answer:
    lines = {name.replace("_", "-"): value for name, value in headers.items()}
    return gateway.ask("GET", path, None, {"X-Forwarded-For": ip or next(clients), **lines})


def fail(gateway: Gateway, **headers: str) -> Answer:
    """Call the one method whose route asks for proof; whoever has it is answered 404 by the service."""
    lines = {name.replace("_", "-"): value for name, value in headers.items()}
    return gateway.ask("POST", "/v1/fail/5", {}, {"X-Forwarded-For": next(clients), **lines})


def bearer(**claims: object) -> str:
    body = {"sub": "ann", "exp": int(time.time()) + 600} | claims
    return "Bearer " + jwt.encode(body, SECRET, algorithm="HS256")


def test_an_api_key_is_who_asks_wherever_it_comes_from(gateway: Gateway) -> None:
    with_key = [get(gateway, "/v1/drinks", X_API_Key=KEY).status for _ in range(5)]
    without = get(gateway, "/v1/drinks")
    wrong = get(gateway, "/v1/drinks", X_API_Key="nobody's-key-of-enough-letters")

    assert with_key == [200, 200, 200, 429, 429]
    assert without.status == 200
    assert (wrong.status, wrong.headers["www-authenticate"]) == (401, 'ApiKey header="X-API-Key"')
    until(lambda: '"api_key":"key-0"' in gateway.output(), "the access log names the key's id")


def test_a_route_that_asks_for_proof_takes_either(gateway: Gateway) -> None:
    nobody = fail(gateway)

    assert (nobody.status, nobody.headers["www-authenticate"]) == (401, 'Bearer, ApiKey header="X-API-Key"')
    assert fail(gateway, X_API_Key=KEY).status == 404
    assert fail(gateway, Authorization=bearer()).status == 404
    assert fail(gateway, Authorization=bearer(), X_API_Key="x").status == 401


def test_a_claim_is_a_key_and_whoever_has_none_shares_one(gateway: Gateway) -> None:
    path = "/v1/drinks/tea"
    acme = [get(gateway, path, Authorization=bearer(sub=f"u{n}", tenant="acme")).status for n in range(4)]
    other = get(gateway, path, Authorization=bearer(tenant="other"))
    forged = [get(gateway, path, Authorization=bearer(tenant="~")).status for _ in range(3)]
    nobody = [get(gateway, path).status for _ in range(2)]
    listed = [get(gateway, path, Authorization=bearer(tenant=["acme"])).status for _ in range(2)]

    assert acme == [200, 200, 200, 429]
    assert other.status == 200
    assert forged == [200, 200, 200]
    assert nobody + listed == [200, 200, 200, 429]


def test_every_limit_that_refuses_is_named(gateway: Gateway) -> None:
    """Two of the small limit, four of the large one: then both say no, and the longer wait counts."""
    ip, one, other = next(clients), next(clients), next(clients)
    for tenant in (one, one, other, other):
        assert get(gateway, "/v1/orders/tea-S1", ip, X_Tenant=tenant).status == 200

    refused = get(gateway, "/v1/orders/tea-S1", ip, X_Tenant=one)

    problem = refused.json()
    assert (refused.status, refused.headers["content-type"]) == (429, "application/problem+json")
    assert problem["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    assert problem["violated-policies"] == ["small", "large"]
    assert refused.headers["ratelimit-policy"] == '"small";q=2;w=60, "large";q=4;w=60'
    waits = [int(item.rpartition("t=")[2]) for item in refused.headers["ratelimit"].split(", ")]
    assert len(waits) == 2
    assert int(refused.headers["retry-after"]) == max(waits)
    assert refused.headers["x-ratelimit-reset"] == refused.headers["retry-after"]
    assert refused.headers["x-ratelimit-remaining"] == "0"
    fresh = get(gateway, "/v1/orders/tea-S1", ip, X_Tenant=next(clients))
    assert fresh.json()["violated-policies"] == ["large"]


def test_an_ipv6_client_is_as_large_as_its_limit_says(gateway: Gateway) -> None:
    answers = [
        get(gateway, "/v1/orders/tea-S1", f"2001:db8:77:{n:x}::1", X_Tenant=next(clients)).status
        for n in range(6)
    ]

    assert answers == [200] * 4 + [429] * 2
    assert get(gateway, "/v1/orders/tea-S1", "2001:db8:78::1", X_Tenant=next(clients)).status == 200


def test_a_list_file_holds_and_is_followed(gateway: Gateway, shared_yard: Yard) -> None:
    def replace(text: str) -> None:
        Path(shared_yard.folder / "deny.new").write_text(text)
        Path(shared_yard.folder / "deny.new").replace(shared_yard.folder / "deny.txt")

    assert get(gateway, "/nowhere", "192.0.2.7").status == 403
    replace("192.0.2.64/26\n2001:db8:dead::/48\n")
    # Each request may meet the worker that has not looked yet.
    until(
        lambda: {get(gateway, "/nowhere", "192.0.2.7").status for _ in range(6)} == {404},
        "both workers look",
    )
    until(lambda: get(gateway, "/nowhere", "2001:db8:dead::1").status == 403, "the new list holds")
    replace("192.0.2.0/99\n")
    until(
        lambda: sum(event["event"] == "file unusable" for event in gateway.events()) == 2,
        "each worker tells of the bad list",
    )
    assert get(gateway, "/nowhere", "192.0.2.65").status == 403
    told = next(event for event in gateway.events() if event["event"] == "file unusable")
    assert told["level"] == "error"
    assert told["problems"][0].startswith(f"{shared_yard.folder}/deny.txt:1: '192.0.2.0/99' is not")


def test_keys_are_followed_too(gateway: Gateway, shared_yard: Yard) -> None:
    (shared_yard.folder / "keys.new").write_text(keys_file(KEY, NEW_KEY))
    (shared_yard.folder / "keys.new").replace(shared_yard.folder / "keys.yaml")

    until(
        lambda: {fail(gateway, X_API_Key=NEW_KEY).status for _ in range(6)} == {404},
        "both workers know the new key",
    )


def test_many_are_banned_by_one_call_that_any_worker_may_get(gateway: Gateway) -> None:
    banned = [f"203.0.113.{number}" for number in range(200)]
    items = [{"cidr": ip, "ttl": "1h", "reason": "scraping"} for ip in banned]

    refused = ask(gateway.admin_port, "PUT", "/api/v1/access/deny", [*items, {"cidr": "203.0.113.0/33"}])
    assert (refused.status, "entry 201: " in refused.json()["error"]) == (400, True)
    assert get(gateway, "/nowhere", banned[0]).status == 404
    put = ask(gateway.admin_port, "PUT", "/api/v1/access/deny", items)

    assert (put.status, put.json()) == (200, {"added": 200})
    for ip in (banned[0], banned[-1]):
        until(
            lambda ip=ip: {get(gateway, "/nowhere", ip).status for _ in range(6)} == {403},  # type: ignore[misc]
            "every worker knows within a second",
            1.0,
        )
    lines = [event for event in gateway.events() if event["event"] == "access changed"]
    assert len(lines) == 200
    assert lines[0] | {"time": ""} == {
        "time": "",
        "level": "info",
        "event": "access changed",
        "change": "added",
        "list": "deny",
        "network": "203.0.113.0/32",
        "reason": "scraping",
        "by": "admin API from 127.0.0.1",
        "ttl_s": 3600.0,
    }


def test_answers_have_the_old_lines_beside_the_new_ones(gateway: Gateway) -> None:
    answer = get(gateway, "/v1/drinks")

    assert answer.headers["ratelimit-policy"] == '"keys";q=3;w=60'
    assert answer.headers["ratelimit"] == '"keys";r=2;t=60'
    assert [answer.headers[f"x-ratelimit-{name}"] for name in ("limit", "remaining", "reset")] == [
        "3",
        "2",
        "60",
    ]
