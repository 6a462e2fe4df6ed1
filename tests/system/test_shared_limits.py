"""Limits and access lists of two gateways that share one Valkey: together they are one gateway."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count

import jwt
import pytest
from tests.system.yard import Answer, Cafe, Gateway, Yard, until

from silence_gateway.testing.valkey import ValkeyServer, fresh_fleet

pytestmark = pytest.mark.system

SECRET = "a secret of at least thirty-two bytes"
CONFIG = """
name: %s
listen: "@listen@"
admin: {listen: "@admin@"}
store: {url: "%s", deadline: 500ms}
trusted_proxies: [127.0.0.0/8]
access: {allow: [192.0.2.0/24], deny: [192.0.2.66]}
auth: {jwt: {hmac_secret: "%s", required: false}}
upstreams: {cafe: {endpoints: ["%s"]}}
telemetry: {access_log: none}
limits:
  - {name: reading, match: {path: /v1/drinks}, key: [client_ip], rate: 60/minute}
  - {name: bucket, match: {path: /v1/orders, methods: [POST]}, key: [client_ip],
     rate: 20/minute, burst: 15, algorithm: token_bucket}
  - {name: small, match: {path: "/v1/orders/*"}, key: ["header:X-Tenant"], rate: 5/minute}
  - {name: large, match: {path: "/v1/orders/*"}, key: [client_ip], rate: 12/minute}
  - {name: users, match: {rpc: silence.cafe.v1.Cafe/WhoAmI}, key: [user], rate: 4/minute}
  - {name: told, match: {path: /v1/drinks/espresso}, key: [client_ip], rate: 60/minute}
  - {name: soon, match: {path: /v1/drinks/tea}, key: [client_ip], rate: 3/1s}
"""

clients = (f"198.51.{number // 250}.{number % 250 + 1}" for number in count())


@dataclass
class Pair:
    """Two gateways of one fleet."""

    one: Gateway
    two: Gateway

    def spread(self, times: int, method: str, path: str, headers: dict[str, str]) -> list[Answer]:
        """Send the same request *times* times, in turn to both, several at once."""
        gateways = [self.one, self.two] * (times // 2)
        with ThreadPoolExecutor(8) as pool:
            body = {"drink": "tea"} if method == "POST" else None
            return list(pool.map(lambda gateway: gateway.ask(method, path, body, headers), gateways))


@pytest.fixture(scope="module")
def pair(shared_yard: Yard, cafe: Cafe, valkey: ValkeyServer) -> Iterator[Pair]:
    config = CONFIG % (fresh_fleet(), valkey.url, SECRET, cafe.address)
    one, two = (shared_yard.gateway(config, words=("ready",)) for _ in range(2))
    until(
        lambda: one.admin("GET", "/api/v1/nodes").json()["live"] == 2,
        "the instances know of each other",
    )
    yield Pair(one, two)
    for gateway in (one, two):
        assert gateway.readiness() == "ready", "the store was away: shared limits were not tested"
        assert gateway.metric("silence_limit_local_decisions_total") == 0


def from_client(**more: str) -> dict[str, str]:
    """Return headers of a client that nobody has heard of, behind the trusted proxy that we are."""
    return {"X-Forwarded-For": next(clients), "Content-Type": "application/json", **more}


def statuses(answers: list[Answer]) -> Counter[int]:
    return Counter(answer.status for answer in answers)


def test_a_window_is_shared_exactly(pair: Pair) -> None:
    """Of 100 requests over both, exactly the 60 of the rate pass."""
    answers = pair.spread(100, "GET", "/v1/drinks", from_client())

    assert statuses(answers) == {200: 60, 429: 40}


def test_a_bucket_is_shared_exactly(pair: Pair) -> None:
    """Fifteen at once, and one more each three seconds: the test is over long before three of them."""
    started_s = time.monotonic()
    answers = pair.spread(40, "POST", "/v1/orders", from_client())
    earned = int((time.monotonic() - started_s) / 3) + 1

    assert 15 <= statuses(answers)[200] <= 15 + earned
    assert statuses(answers)[200] + statuses(answers)[429] == 40


def test_several_limits_spend_all_or_nothing(pair: Pair) -> None:
    """What the small limit refuses has cost nothing of the large one."""
    headers = from_client()
    refused = pair.spread(20, "GET", "/v1/orders/tea-S1", {**headers, "X-Tenant": headers["X-Forwarded-For"]})
    other = pair.spread(20, "GET", "/v1/orders/tea-S1", {**headers, "X-Tenant": next(clients)})
    third = pair.spread(20, "GET", "/v1/orders/tea-S1", {**headers, "X-Tenant": next(clients)})

    assert statuses(refused) == {200: 5, 429: 15}
    assert statuses(other) == {200: 5, 429: 15}
    assert statuses(third) == {200: 2, 429: 18}  # twelve of the large limit in all


def test_a_refusal_explains_itself(pair: Pair) -> None:
    headers = from_client()
    answers = pair.spread(100, "GET", "/v1/drinks", headers)

    allowed = next(answer for answer in answers if answer.status == 200)
    refused = next(answer for answer in answers if answer.status == 429)
    assert allowed.headers["ratelimit-policy"] == refused.headers["ratelimit-policy"] == '"reading";q=60;w=60'
    assert allowed.headers["ratelimit"].startswith('"reading";r=')
    assert refused.headers["ratelimit"].startswith('"reading";r=0;t=')
    problem = refused.json()
    assert refused.headers["content-type"] == "application/problem+json"
    assert (problem["status"], problem["code"]) == (429, "RESOURCE_EXHAUSTED")
    assert 0 < problem["retry_after_s"] <= int(refused.headers["retry-after"]) <= 60


def test_a_retry_after_that_is_obeyed_is_never_refused(pair: Pair) -> None:
    headers = from_client()
    for _ in range(2):
        answers = pair.spread(12, "GET", "/v1/drinks/tea", headers)
        waits_s = [int(answer.headers["retry-after"]) for answer in answers if answer.status == 429]
        assert waits_s, statuses(answers)
        over_s = time.monotonic() + max(waits_s)
        until(partial(lambda end_s: time.monotonic() >= end_s, over_s), "the time asked for is over")

        assert pair.two.ask("GET", "/v1/drinks/tea", None, headers).status == 200


def test_a_header_is_a_key(pair: Pair) -> None:
    one, two = next(clients), next(clients)
    for tenant in (one, two):
        answers = pair.spread(8, "GET", "/v1/orders/tea-S1", from_client(**{"X-Tenant": tenant}))
        assert statuses(answers) == {200: 5, 429: 3}, tenant


def test_a_user_is_a_key_wherever_it_comes_from(pair: Pair) -> None:
    def bearer(user: str) -> dict[str, str]:
        token = jwt.encode({"sub": user, "exp": int(time.time()) + 600}, SECRET, algorithm="HS256")
        return {"Authorization": f"Bearer {token}"}

    ann, bob = f"ann-{next(clients)}", f"bob-{next(clients)}"
    path = "/silence.cafe.v1.Cafe/WhoAmI"
    both = [pair.one, pair.two] * 4
    of_ann = [gateway.ask("POST", path, {}, from_client(**bearer(ann))) for gateway in both]
    of_bob = [gateway.ask("POST", path, {}, from_client(**bearer(bob))) for gateway in both]

    assert statuses(of_ann) == statuses(of_bob) == {200: 4, 429: 4}


def test_a_bad_token_is_refused_before_it_costs_anything(pair: Pair) -> None:
    answer = pair.one.ask("GET", "/v1/drinks", None, from_client(Authorization="Bearer x.y.z"))

    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["code"] == "UNAUTHENTICATED"


def test_nobody_gets_a_fresh_budget_by_inventing_addresses(pair: Pair) -> None:
    """What stands left of the first address that is no proxy of ours is the caller's own text."""
    client = next(clients)
    answers = [
        gateway.ask("GET", "/v1/drinks", None, {"X-Forwarded-For": f"10.0.0.{number}, {client}, 127.0.0.9"})
        for number, gateway in enumerate([pair.one, pair.two] * 35)
    ]

    assert statuses(answers) == {200: 60, 429: 10}


def test_an_ipv6_client_is_its_network(pair: Pair) -> None:
    network = f"2001:db8:{secrets_of(next(clients))}:1"
    answers = [
        gateway.ask("GET", "/v1/drinks", None, {"X-Forwarded-For": f"{network}::{number:x}"})
        for number, gateway in enumerate([pair.one, pair.two] * 35, 1)
    ]

    assert statuses(answers) == {200: 60, 429: 10}


def secrets_of(client: str) -> str:
    """Return a part of an IPv6 address that belongs to *client* alone."""
    return f"{int(client.split('.')[2]) + 1:x}{int(client.split('.')[3]):02x}"


def test_the_files_access_lists(pair: Pair) -> None:
    allowed = {"X-Forwarded-For": "192.0.2.7", "Content-Type": "application/json"}
    denied = {"X-Forwarded-For": "192.0.2.66"}

    assert statuses(pair.spread(80, "GET", "/v1/drinks", allowed)) == {200: 80}
    answer = pair.one.ask("GET", "/v1/drinks", None, denied)
    assert (answer.status, answer.json()["code"]) == (403, "PERMISSION_DENIED")


@pytest.mark.parametrize("network", ["{}", "{}/32"])
def test_a_denied_address_is_denied_everywhere_within_a_second(pair: Pair, network: str) -> None:
    headers = from_client()
    client = headers["X-Forwarded-For"]
    path = f"/api/v1/access/deny/{network.format(client)}"
    assert pair.two.ask("GET", "/v1/drinks", None, headers).status == 200

    put = pair.one.admin("PUT", f"{path}?reason=abuse&ttl=1h")

    assert put.status == 200, put.body
    until(lambda: pair.two.ask("GET", "/v1/drinks", None, headers).status == 403, "denied by the other", 1.0)
    listed = {entry["network"]: entry for entry in pair.two.admin("GET", "/api/v1/access/deny").json()}
    assert listed[f"{client}/32"]["reason"] == "abuse"
    assert pair.two.admin("DELETE", path).status == 200
    until(lambda: pair.one.ask("GET", "/v1/drinks", None, headers).status == 200, "let in again", 1.0)
    assert pair.one.admin("DELETE", path).status == 404


def test_an_allowed_network_has_no_limits_and_a_denied_one_inside_it_no_access(pair: Pair) -> None:
    assert pair.two.admin("PUT", "/api/v1/access/allow/203.0.113.0/24").status == 200
    assert pair.two.admin("PUT", "/api/v1/access/deny/203.0.113.9").status == 200
    inside = {"X-Forwarded-For": "203.0.113.8"}
    until(
        lambda: "ratelimit" not in pair.one.ask("GET", "/v1/drinks", None, inside).headers,
        "the network is allowed by the other",
        1.0,
    )

    assert statuses(pair.spread(80, "GET", "/v1/drinks", inside)) == {200: 80}
    until(
        lambda: pair.one.ask("GET", "/v1/drinks", None, {"X-Forwarded-For": "203.0.113.9"}).status == 403,
        "the address inside it is denied by the other",
        1.0,
    )
    for entry in ("allow/203.0.113.0/24", "deny/203.0.113.9"):
        assert pair.one.admin("DELETE", f"/api/v1/access/{entry}").status == 200


@pytest.mark.parametrize(
    "wrong",
    [
        "deny/300.1.1.1",
        "deny/10.0.0.0/40",
        "allow/nonsense",
        "deny/1.2.3.4?ttl=x",
        "deny/1.2.3.4?tll=1h",  # would be a ban for ever
    ],
)
def test_a_wrong_entry_is_refused_with_a_reason(pair: Pair, wrong: str) -> None:
    answer = pair.one.admin("PUT", f"/api/v1/access/{wrong}")

    assert answer.status == 400
    assert answer.json()["error"]


def test_the_counts_are_the_fleets(pair: Pair) -> None:
    headers = from_client()
    pair.spread(90, "GET", "/v1/drinks/espresso", headers)
    pair.two.ask("GET", "/v1/drinks/espresso", None, from_client())

    def counted(gateway: Gateway) -> tuple[str, int, int]:
        found = {limit["name"]: limit for limit in gateway.admin("GET", "/api/v1/limits").json()}["told"]
        return found["counted_by"], found["allowed"], found["denied"]

    for gateway in (pair.one, pair.two):
        until(partial(lambda each: counted(each) == ("fleet", 61, 30), gateway), "both tell what all counted")
        top = gateway.admin("GET", "/api/v1/limits/top?name=told").json()["top"]
        assert top[0] == {"key": headers["X-Forwarded-For"], "requests": 90}
        assert [each["requests"] for each in top] == [90, 1]


def test_who_uses_a_limit_is_known_to_all_and_forgotten_by_all(pair: Pair) -> None:
    headers = from_client()
    metric = 'silence_limit_decisions_total{limit="soon",decision="allowed"}'
    pair.spread(20, "GET", "/v1/drinks/tea", headers)
    pair.one.ask("GET", "/v1/drinks/tea", None, from_client())

    def windows(gateway: Gateway) -> list[tuple[int, bool]]:
        said = gateway.admin("GET", "/api/v1/limits/soon").json()["windows"].values()
        refused = [{each["key"]: each["denied"] for each in window["top_denied"]} for window in said]
        return [
            (window["unique_clients"], headers["X-Forwarded-For"] in keys)
            for window, keys in zip(said, refused, strict=True)
        ]

    before = windows(pair.one)
    assert [known for _, known in before] == [True, True]
    until(lambda: windows(pair.two) == windows(pair.one), "both know the same")
    top = pair.two.admin("GET", "/api/v1/limits/top?name=soon&window=1m&by=denied&limit=50").json()
    assert headers["X-Forwarded-For"] in [each["key"] for each in top["top"]]
    shown = [gateway.metric(metric) for gateway in (pair.one, pair.two)]

    assert pair.one.admin("DELETE", "/api/v1/limits/soon/stats").json() == {"reset": ["soon"]}

    for gateway in (pair.one, pair.two):
        limit = gateway.admin("GET", "/api/v1/limits/soon").json()
        assert (limit["allowed"], limit["denied"], limit["top"]) == (0, 0, [])
        assert limit["unique_clients"] == {"1m": 0, "1h": 0}
    assert [gateway.metric(metric) for gateway in (pair.one, pair.two)] == shown


def test_a_running_gateway_explains_what_a_request_would_meet(pair: Pair) -> None:
    headers = from_client(**{"X-Tenant": next(clients)})
    pair.spread(4, "GET", "/v1/orders/tea-S1", headers)
    client, tenant = headers["X-Forwarded-For"], headers["X-Tenant"]

    said = pair.two.admin(
        "GET",
        "/api/v1/limits/explain?method=GET&path=/v1/orders/tea-S1"
        f"&header=X-Forwarded-For:{client}&header=X-Tenant:{tenant}",
    ).json()

    assert [(limit["name"], limit["key"], limit["remaining"]) for limit in said["limits"]] == [
        ("small", tenant, 1),
        ("large", client, 8),
    ]
    assert said["steps"][0]["decided"] == client
    assert (said["verdict"], said["allowed"]) == ("allowed by its limits", True)

    answers = pair.spread(2, "GET", "/v1/orders/tea-S1", headers)
    assert max(answer.status for answer in answers) == 429, "five a minute, and the sixth is refused"
    for gateway in (pair.one, pair.two):
        # What it says is what the caller is told, at whichever of the two.
        said = gateway.admin(
            "GET", f"/api/v1/limits/explain?path=/v1/orders/tea-S1&header=X-Tenant:{tenant}"
        ).json()
        refused = gateway.ask("GET", "/v1/orders/tea-S1", None, headers)
        assert (said["status"], said["refused_by"], refused.status) == (429, ["small"], 429)
        assert abs(said["retry_after_s"] - int(refused.headers["retry-after"])) < 2
        state = gateway.admin("GET", f"/api/v1/limits/small/keys/{tenant}").json()
        assert (state["allowed"], state["remaining"], state["counted_by"]) == (False, 0, "fleet")


def test_one_key_can_be_looked_at_and_reset(pair: Pair) -> None:
    headers = from_client()
    path = f"/api/v1/limits/reading/keys/{headers['X-Forwarded-For']}"
    pair.spread(70, "GET", "/v1/drinks", headers)

    assert pair.two.admin("GET", path).json()["remaining"] == 0
    assert pair.two.admin("DELETE", path).json()["reset"] is True
    # The other instance may remember the refusal until the bus has told it.
    until(lambda: pair.one.ask("GET", "/v1/drinks", None, headers).status == 200, "it is forgiven", 1)
    assert pair.one.admin("GET", path).json()["remaining"] == 59
    assert pair.one.admin("GET", "/api/v1/limits/nope/keys/x").status == 404


ALONE = """
listen: "@listen@"
admin: {listen: "@admin@"}
store: {url: "memory://"}
upstreams: {cafe: {endpoints: ["%s"]}}
telemetry: {access_log: none}
"""


def test_workers_that_cannot_count_together_say_so(yard: Yard, cafe: Cafe) -> None:
    """The file is in order; only --workers makes several processes of it."""
    gateway = yard.gateway(ALONE % cafe.address, "--workers", "2")

    [warning] = [line for line in gateway.events() if line["level"] == "warning"]
    assert "2 workers do not share a store" in warning["event"]


def test_workers_that_count_apart_are_added_up(yard: Yard, cafe: Cafe) -> None:
    """New connections go to either worker; together they have counted everything."""
    limits = "limits: [{name: all, match: {any: true}, key: [const], rate: 1000/minute}]\n"
    gateway = yard.gateway(ALONE % cafe.address + limits, "--workers", "2", words=("ready", "degraded"))
    until(lambda: gateway.metric("silence_workers") == 2, "both workers serve")
    for _ in range(40):
        gateway.ask("GET", "/v1/drinks")

    [limit] = gateway.admin("GET", "/api/v1/limits").json()
    one = gateway.admin("GET", "/api/v1/limits/all").json()["windows"]["1m"]
    top = gateway.admin("GET", "/api/v1/limits/top?name=all").json()

    assert (limit["allowed"], limit["counted_by"]) == (40, "this instance")
    assert limit["top"] == top["top"] == one["top"] == [{"key": "const", "requests": 40}]
    assert gateway.admin("DELETE", "/api/v1/limits/stats").json() == {"reset": ["all"]}
    assert gateway.admin("GET", "/api/v1/limits").json()[0]["allowed"] == 0
