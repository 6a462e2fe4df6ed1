"""`silence routes` and `silence explain`, on the sample service's descriptors."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import jwt
import pytest

import silence_gateway.app.sample
from silence_gateway.app.cli import run_command

CAFE = Path(silence_gateway.app.sample.__file__).with_name("cafe.binpb")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.yaml"
    path.write_text(
        f"""
upstreams: {{cafe: {{endpoints: ["127.0.0.1:9"], descriptors: {CAFE}, timeout: 4s}}}}
routes: [{{match: {{path: /v1/orders/*}}, timeout: 2s, auth: none}}]
limits:
  - {{name: all, match: {{any: true}}, rate: 10/s}}
  - {{name: drinks, match: {{path: "/v1/drinks/**", methods: [GET]}}, rate: 5/m,
     key: [client_ip, "header:X-A"]}}
  - {{name: one, match: {{path: /v1/drinks/tea}}, rate: 5/m, mode: shadow}}
  - {{name: orders, match: {{rpc: silence.cafe.v1.Cafe/GetOrder}}, rate: 5/m, key: "header:Authorization"}}
access: {{allow: [10.0.0.0/8], deny: [203.0.113.0/24]}}
auth: {{jwt: {{hmac_secret: "0123456789abcdef0123456789abcdef"}}}}
trusted_proxies: [127.0.0.1]
"""
    )
    return path


def test_routes_lists_method_path_upstream_rpc_and_limits(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["routes", "-c", str(config)]) == 0

    lines = [line.split(maxsplit=4) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["METHOD", "PATH", "UPSTREAM", "RPC", "LIMITS"]
    found = {(line[0], line[1]): line[4] for line in lines[1:]}
    assert found["GET", "/v1/drinks/{name}"] == "all, drinks, one?"
    assert found["GET", "/v1/orders/{id}"] == "all, orders"
    assert found["POST", "/silence.cafe.v1.Cafe/GetOrder"] == "all, orders"


def test_routes_as_json_are_objects(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["routes", "-c", str(config), "--json"]) == 0

    rows = json.loads(capsys.readouterr().out)
    assert {row["upstream"] for row in rows} == {"cafe"}
    assert all(
        set(row) == {"method", "path", "upstream", "rpc", "limits", "problem", "rewrite"} for row in rows
    )


def test_an_upstream_that_is_not_there_is_named_and_the_rest_goes_on(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free_port = taken.getsockname()[1]
    text = config.read_text().replace(
        "upstreams: {", f'upstreams: {{gone: {{endpoints: ["127.0.0.1:{free_port}"]}}, '
    )
    config.write_text(text)

    assert run_command(["routes", "-c", str(config), "--timeout", "2s"]) == 3
    printed = capsys.readouterr()
    assert "/v1/drinks/{name}" in printed.out
    assert printed.err.startswith("upstream gone cannot be read, its methods are missing here: ")


def explained(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str, str]]:
    assert run_command(["explain", *arguments, "--json"]) == 0
    return [(step["what"], step["decided"], step["why"]) for step in json.loads(capsys.readouterr().out)]


def test_explain_follows_a_request_through_every_decision(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["-c", str(config), "GET", "/v1/drinks/tea?x=1", "--header", "X-Forwarded-For: 198.51.100.7"]

    assert explained([*given, "--header", "x-a:b,c"], capsys) == [
        ("client", "198.51.100.7", "127.0.0.1 is in trusted_proxies, so its forwarding header counts"),
        ("route", "GET /v1/drinks/{name}", "upstream cafe"),
        ("rpc", "silence.cafe.v1.Cafe/GetDrink", "unary"),
        ("timeout", "4s", "upstreams.cafe.timeout"),
        ("retries", "up to 2", "its HTTP method, its idempotency_level or retry.methods says so"),
        ("auth", "required", "auth.jwt.required"),
        ("caller", "nobody: 401 unauthenticated", "it proves nothing; if it did:"),
        ("limit", "all: 10/s by client_ip = 198.51.100.7", "any request"),
        ("limit", "drinks: 5/m by client_ip, header:x-a = 198.51.100.7,b%2Cc", "path /v1/drinks/**"),
        ("limit", "one: 5/m by client_ip = 198.51.100.7", "path /v1/drinks/tea, shadow: refuses nothing"),
    ]


def test_explain_names_the_rule_that_changes_a_route_and_hides_secrets_in_keys(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = explained(
        ["-c", str(config), "GET", "/v1/orders/7", "--header", "Authorization: Bearer hunter2"], capsys
    )

    assert ("timeout", "2s", "routes: /v1/orders/*") in steps
    assert ("auth", "none", "routes: /v1/orders/*") in steps
    assert "hunter2" not in str(steps)


TWICE = f"""
upstreams:
  cafe:
    endpoints: ["127.0.0.1:9"]
    descriptors: {CAFE}
    retry: {{attempts: 4, methods: [silence.cafe.v1.Cafe/WhoAmI]}}
    shedding: {{}}
  once: {{endpoints: ["127.0.0.1:9"], protocol: http, retry: {{attempts: 1}}}}
  web: {{endpoints: ["127.0.0.1:9"], protocol: http}}
routes:
  - {{match: {{path: /v1/orders}}, idempotent: true, importance: high}}
  - {{match: {{path: /v1/drinks}}, idempotent: false}}
  - {{match: {{path: /web/**}}, upstream: web}}
  - {{match: {{path: /once/**}}, upstream: once}}
"""
SAYS_SO = "its HTTP method, its idempotency_level or retry.methods says so"
NOTHING_SAYS = "nothing says that it may run twice"
NORMAL = ("importance", "normal", "no route says otherwise")


@pytest.mark.parametrize(
    ("asked", "steps"),
    [
        (
            "POST /v1/orders",
            [
                ("retries", "up to 3", "routes: /v1/orders, idempotent"),
                ("importance", "high", "routes: /v1/orders"),
            ],
        ),
        ("GET /v1/drinks", [("retries", "none", "routes: /v1/drinks, idempotent"), NORMAL]),
        ("GET /v1/drinks/tea", [("retries", "up to 3", SAYS_SO), NORMAL]),
        ("POST /silence.cafe.v1.Cafe/WhoAmI", [("retries", "up to 3", SAYS_SO), NORMAL]),
        ("PUT /v1/orders/1", [("retries", "none", NOTHING_SAYS), NORMAL]),
        ("PUT /web/page", [("retries", "up to 2", "its HTTP method says so")]),
        ("POST /web/page", [("retries", "none", NOTHING_SAYS)]),
        ("GET /once/page", []),
    ],
)
def test_explain_tells_whether_a_call_is_made_again_and_how_much_it_matters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: str, steps: list[tuple[str, str, str]]
) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text(TWICE)

    said = explained(["-c", str(path), *asked.split()], capsys)

    assert [step for step in said if step[0] in {"retries", "importance"}] == steps


KEY = "a-key-of-enough-letters"
PROVEN = f"""
upstreams: {{cafe: {{endpoints: ["127.0.0.1:9"], descriptors: {CAFE}}}}}
limits:
  - {{name: a, match: {{any: true}}, rate: 10/s, key: [user, api_key, "claim:tenant"]}}
  - {{name: b, match: {{any: true}}, rate: 10/s, key: [client_ip, "claim:tenant"], ipv6_prefix: 56}}
access: {{deny_files: [deny.txt]}}
auth:
  jwt: {{hmac_secret: "0123456789abcdef0123456789abcdef", required: false}}
  api_keys: {{file: keys.yaml, required: false}}
"""


@pytest.fixture
def proven(tmp_path: Path) -> Path:
    (tmp_path / "gateway.yaml").write_text(PROVEN)
    (tmp_path / "keys.yaml").write_text(f"keys: [{{id: partner, key: {KEY}, user: bob}}]\n")
    (tmp_path / "deny.txt").write_text("203.0.113.0/24\n")
    return tmp_path / "gateway.yaml"


def bearer(**claims: object) -> str:
    body = {"sub": "ann", "exp": int(time.time()) + 3_600} | claims
    return "Authorization: Bearer " + jwt.encode(body, "0123456789abcdef0123456789abcdef", algorithm="HS256")


@pytest.mark.parametrize(
    ("headers", "caller", "key"),
    [
        ([], "nobody", "~2001%3Adb8%3A1%3A2%3A%3A%2F64,~2001%3Adb8%3A1%3A2%3A%3A%2F64,~"),
        ([f"X-API-Key: {KEY}"], "user bob, key partner", "bob,partner,~"),
        ([bearer(tenant="acme")], "user ann", "ann,~2001%3Adb8%3A1%3A2%3A%3A%2F64,acme"),
        ([f"X-API-Key: {KEY}", bearer(tenant=7)], "user ann, key partner", "ann,partner,7"),
    ],
)
def test_explain_shows_what_a_caller_proves_and_counts_by(
    headers: list[str], caller: str, key: str, proven: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [part for header in headers for part in ("--header", header)]
    steps = explained(["-c", str(proven), "GET", "/v1/drinks", "--ip", "2001:db8:1:2:3::4", *given], capsys)

    found = {step[0] + step[1].partition(":")[0]: step[1] for step in steps}
    assert found["auth" + "optional"] == "optional"
    assert [step[1] for step in steps if step[0] == "caller"] == [caller]
    assert found["limita"] == f"a: 10/s by user, api_key, claim:tenant = {key}"
    tenant = key.rpartition(",")[2]
    assert found["limitb"].endswith(f"= 2001%3Adb8%3A1%3A%3A%2F56,{tenant}")
    assert KEY not in str(steps)


def test_explain_ends_where_proof_is_wrong(proven: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = explained(["-c", str(proven), "GET", "/v1/drinks", "--header", "X-API-Key: nope"], capsys)

    assert steps[-1] == ("caller", "401 unauthenticated", "the key in X-API-Key is wrong or has ended")


def test_explain_reads_list_files(proven: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = explained(["-c", str(proven), "GET", "/v1/drinks", "--ip", "203.0.113.9"], capsys)

    assert [step[1] for step in steps if step[0] == "access"] == ["403 access denied"]


@pytest.mark.parametrize(
    ("ip", "decided", "limits"),
    [
        ("10.1.2.3", "let in, no limit applies", ["all: not asked", "drinks: not asked"]),
        ("203.0.113.9", "403 access denied", []),
    ],
)
def test_explain_knows_the_lists_of_addresses(
    ip: str, decided: str, limits: list[str], config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = explained(["-c", str(config), "GET", "/v1/drinks", "--ip", ip], capsys)

    assert [step[1] for step in steps if step[0] == "access"] == [decided]
    assert [step[1] for step in steps if step[0] == "limit"] == limits


@pytest.mark.parametrize(
    ("request_line", "decided"),
    [(["GET", "/nope"], "404 nothing is served here"), (["DELETE", "/v1/drinks"], "405 method not allowed")],
)
def test_explain_says_what_is_not_served(
    request_line: list[str], decided: str, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = explained(["-c", str(config), *request_line], capsys)

    assert decided in [step[1] for step in steps if step[0] == "route"]


def test_explain_refuses_a_path_that_cannot_be_decoded(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["explain", "-c", str(config), "GET", "/v1/%zz"]) == 1
    assert capsys.readouterr().out.startswith("400 bad request: ")


WEB = """
upstreams:
  cafe: {endpoints: ["127.0.0.1:9"], descriptors: %s}
  web: {endpoints: ["127.0.0.1:9"], protocol: http, timeout: 7s}
routes:
  - {match: {path: /*}, upstream: web}
  - {match: {path: /only/posts, methods: [POST]}, upstream: web}
  - {match: {path: /slow/**, methods: [GET, POST]}, upstream: web, timeout: 1m}
limits:
  - {name: all, match: {any: true}, rate: 10/s}
  - {name: gets, match: {path: /**, methods: [GET]}, rate: 10/s}
"""


@pytest.fixture
def web(tmp_path: Path) -> Path:
    path = tmp_path / "web.yaml"
    path.write_text(WEB % CAFE)
    return path


def test_routes_lists_where_http_is_passed_on(web: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["routes", "-c", str(web), "--json"]) == 0

    rows = json.loads(capsys.readouterr().out)
    passed_on = [(row["method"], row["path"], row["limits"]) for row in rows if row["upstream"] == "web"]
    assert passed_on == [
        ("*", "/*", ["all", "gets?"]),
        ("POST", "/only/posts", ["all"]),
        ("GET", "/slow/**", ["all", "gets"]),
        ("POST", "/slow/**", ["all"]),
    ]
    assert any(row["path"] == "/v1/drinks/{name}" for row in rows)


def test_routes_shows_what_the_service_is_asked_for_where_that_is_another_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "web.yaml"
    path.write_text(
        """
upstreams: {web: {endpoints: ["127.0.0.1:9"], protocol: http}}
routes:
  - {match: {path: /legacy/**}, upstream: web, rewrite: /}
  - {match: {path: /api/**, methods: [GET]}, upstream: web, rewrite: /v2}
  - {match: {path: /plain/**}, upstream: web}
"""
    )

    assert run_command(["routes", "-c", str(path)]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()[1:]]
    assert run_command(["routes", "-c", str(path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)

    assert [line.partition("  web ")[0].split(maxsplit=1)[1].rstrip() for line in lines] == [
        "/legacy/** -> /**",
        "/api/** -> /v2/**",
        "/plain/**",
    ]
    assert [row["rewrite"] for row in rows] == ["/", "/v2", ""]


@pytest.mark.parametrize(
    ("target", "steps"),
    [
        (
            "/page",
            [
                ("route", "GET /*", "passed on to upstream web"),
                ("timeout", "7s", "upstreams.web.timeout, until the answer begins"),
            ],
        ),
        (
            "/slow/page",
            [
                ("route", "GET /slow/**", "passed on to upstream web"),
                ("timeout", "1m", "routes: /slow/**"),
            ],
        ),
        ("/v1/drinks/tea", [("route", "GET /v1/drinks/{name}", "upstream cafe")]),
        ("/only/posts", [("route", "405 method not allowed", "this path is served with POST")]),
    ],
)
def test_explain_follows_a_request_to_an_http_upstream(
    web: Path, capsys: pytest.CaptureFixture[str], target: str, steps: list[tuple[str, str, str]]
) -> None:
    said = explained(["-c", str(web), "GET", target], capsys)

    assert said[1 : 1 + len(steps)] == steps
