"""What a newcomer tries first: JSON in and out, streams, errors, and plain HTTP manners."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from tests.system.wire import Wire, get
from tests.system.yard import Cafe, Gateway, Yard, until

pytestmark = pytest.mark.system

JSON = {"Content-Type": "application/json"}
CONFIG = """
listen: "@listen@"
admin: {listen: "@admin@"}
store: {url: "memory://"}
upstreams: {cafe: {endpoints: ["%s"]}}
routes:
  - {match: {path: "/v1/orders/*:watch"}, timeout: 3s}
"""


@pytest.fixture(scope="module")
def gateway(shared_yard: Yard, cafe: Cafe) -> Gateway:
    return shared_yard.gateway(CONFIG % cafe.address)


def without_time(order: dict[str, Any]) -> dict[str, Any]:
    assert order.pop("placedAt").endswith("Z")
    return order


def test_a_path_value_reaches_the_method_decoded(gateway: Gateway) -> None:
    latte = {"name": "latte", "priceCents": 390, "tags": ["hot", "milk"]}

    assert gateway.ask("GET", "/v1/drinks/latte").json() == latte
    assert gateway.ask("GET", "/v1/drinks/%6catte").json() == latte
    assert "'a/b'" in gateway.ask("GET", "/v1/drinks/a%2Fb").json()["message"]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        pytest.param("", ["espresso", "flat-white", "latte", "cold-brew", "tea"], id="nothing"),
        pytest.param("?tags=hot&tags=milk", ["flat-white", "latte"], id="repeated"),
        pytest.param("?max_price_cents=250", ["espresso", "tea"], id="proto-name"),
        pytest.param("?maxPriceCents=250&tags=short", ["espresso"], id="json-name"),
    ],
)
def test_query_parameters_are_fields(gateway: Gateway, query: str, names: list[str]) -> None:
    drinks = gateway.ask("GET", f"/v1/drinks{query}").json()["drinks"]

    assert [drink["name"] for drink in drinks] == names


def test_a_whole_body_is_the_request(gateway: Gateway) -> None:
    answer = gateway.ask("POST", "/v1/orders", {"drink": "latte", "size": "LARGE", "quantity": 2}, JSON)

    assert without_time(answer.json()) == {
        "id": "latte-L2",
        "drink": "latte",
        "size": "LARGE",
        "quantity": 2,
        "totalCents": "1560",  # JSON has no 64-bit numbers: proto3 JSON writes them as text
        "servedBy": "cafe",
    }


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_a_named_body_and_a_named_answer(gateway: Gateway, method: str) -> None:
    """The path says which order, whatever the body says; the answer is the order alone."""
    answer = gateway.ask(method, "/v1/orders/latte-L2", {"id": "tea-S1", "quantity": 3}, JSON)

    order = without_time(answer.json())
    assert (order["id"], order["quantity"]) == ("latte-L3", 3)


def test_a_method_without_a_rule_is_called_by_its_name(gateway: Gateway) -> None:
    answer = gateway.ask("POST", "/silence.cafe.v1.Cafe/WhoAmI", {}, JSON)

    assert answer.json()["replica"] == "cafe"


def test_metadata_goes_along(gateway: Gateway) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    sent = {"Grpc-Metadata-X-Tenant": "t1", "traceparent": trace, "X-Request-Id": "my-own-id", **JSON}

    answer = gateway.ask("POST", "/silence.cafe.v1.Cafe/WhoAmI", {}, sent)

    metadata = answer.json()["metadata"]
    assert metadata["x-tenant"] == "t1"
    assert metadata["traceparent"] == trace
    assert metadata["x-request-id"] == answer.headers["x-request-id"] == "my-own-id"


def test_a_request_without_an_id_gets_one(gateway: Gateway) -> None:
    made = {gateway.ask("GET", "/v1/drinks/tea").headers["x-request-id"] for _ in range(3)}

    assert len(made) == 3
    assert all(made)


def watched(gateway: Gateway, accept: str) -> list[bytes]:
    """Watch an order of four events; return the chunks as they arrived."""
    with Wire(gateway.port) as wire:
        wire.send(get("/v1/orders/latte-L2:watch?events=4", f"Accept: {accept}"))
        head = wire.until(b"\r\n\r\n")
        assert f"content-type: {accept}".encode() in head.lower()
        return list(iter(wire.chunk, b""))


def test_a_stream_of_lines_is_a_chunk_for_each(gateway: Gateway) -> None:
    lines = watched(gateway, "application/x-ndjson")

    events = [json.loads(line) for line in lines]
    assert [event["state"] for event in events] == ["received", "brewing", "ready", "served"]
    assert all(line.endswith(b"\n") for line in lines)


def test_a_stream_of_anything_else_is_one_array(gateway: Gateway) -> None:
    pieces = watched(gateway, "application/json")

    assert [event["step"] for event in json.loads(b"".join(pieces))] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("accept", "first"), [("application/x-ndjson", b'{"id":'), ("application/json", b'[{"id":')]
)
def test_the_first_message_does_not_wait_for_the_last(gateway: Gateway, accept: str, first: bytes) -> None:
    """A stream of twenty seconds has said something long before it ends; leaving ends the call."""
    with Wire(gateway.port, timeout_s=5) as wire:
        wire.send(get("/v1/orders/tea-S1:watch?events=100", f"Accept: {accept}"))
        wire.until(b"\r\n\r\n")

        assert wire.chunk().startswith(first)

    until(
        lambda: gateway.admin("GET", "/api/v1/upstreams").json()[0]["endpoints"][0]["in_flight"] == 0,
        "the call of a caller that left has ended",
        timeout_s=2.5,  # less than the route's timeout of three seconds
    )


def test_a_stream_that_fails_later_says_so_and_never_ends_cleanly(gateway: Gateway) -> None:
    with Wire(gateway.port) as wire:
        wire.send(
            get("/v1/orders/tea-S1:watch?events=100", "Accept: application/x-ndjson", "Grpc-Timeout: 500m")
        )
        wire.until(b"\r\n\r\n")
        body = wire.rest()

    assert b'"step":1' in body
    assert b'"error":{"code":4,' in body
    assert not body.endswith(b"0\r\n\r\n")


def test_a_stream_that_fails_at_once_has_its_status(gateway: Gateway) -> None:
    answer = gateway.ask("GET", "/v1/orders/nothing:watch", headers={"Accept": "application/x-ndjson"})

    assert answer.status == 404
    assert answer.json()["message"] == "no order has the id 'nothing'"


def test_an_error_of_the_service_keeps_its_details(gateway: Gateway) -> None:
    answer = gateway.ask("GET", "/v1/drinks/water")

    assert answer.status == 404
    assert answer.json() == {
        "code": 5,
        "message": "no drink is called 'water'; see GET /v1/drinks",
        "details": [{"@type": "type.googleapis.com/silence.cafe.v1.Drink", "name": "water"}],
    }


@pytest.mark.parametrize(
    ("code", "status"),
    [(3, 400), (4, 504), (6, 409), (7, 403), (8, 429), (12, 501), (13, 500), (14, 503), (16, 401)],
)
def test_each_grpc_status_has_its_http_status(gateway: Gateway, code: int, status: int) -> None:
    answer = gateway.ask("POST", f"/v1/fail/{code}", {"message": "as you wish"}, JSON)

    assert (answer.status, answer.json()["code"], answer.json()["message"]) == (status, code, "as you wish")


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "code", "says"),
    [
        ("GET", "/nowhere", None, {}, 404, "NOT_FOUND", "nothing is served at /nowhere"),
        ("DELETE", "/v1/drinks/tea", None, {}, 405, "UNIMPLEMENTED", "use GET, HEAD"),
        ("GET", "/silence.cafe.v1.Cafe/GetDrink", None, {}, 405, "UNIMPLEMENTED", "use POST"),
        (
            "POST", "/v1/orders", b"<order/>", {"Content-Type": "text/xml"}, 415, "INVALID_ARGUMENT",
            "the body must be application/json, not 'text/xml'",
        ),
        ("POST", "/v1/orders", b'{"drink":', JSON, 400, "INVALID_ARGUMENT", "the body is not JSON"),
        ("POST", "/v1/orders", b'{"drnk":"tea"}', JSON, 400, "INVALID_ARGUMENT", "'drnk' is unknown"),
        ("GET", "/v1/drinks?tag=hot", None, {}, 400, "INVALID_ARGUMENT", "has no field 'tag'"),
        (
            "GET", "/v1/drinks?max_price_cents=cheap", None, {}, 400, "INVALID_ARGUMENT",
            "'max_price_cents' must be a whole number, not 'cheap'",
        ),
        ("GET", "/v1/drinks/tea", None, {"Grpc-Timeout": "soon"}, 400, "INVALID_ARGUMENT", "Grpc-Timeout"),
    ],
)  # fmt: skip
def test_what_the_gateway_refuses_it_explains(
    gateway: Gateway,
    method: str,
    path: str,
    body: bytes | None,
    headers: dict[str, str],
    status: int,
    code: str,
    says: str,
) -> None:
    answer = gateway.ask(method, path, body, headers)
    problem = answer.json()

    assert answer.status == problem["status"] == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["code"] == code
    assert says in problem["detail"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert problem["type"]
    assert problem["title"]
    if status == 405:
        assert answer.headers["allow"] == says.removeprefix("use ")


def test_head_is_get_without_its_body(gateway: Gateway) -> None:
    whole = gateway.ask("GET", "/v1/drinks/latte")
    with Wire(gateway.port) as wire:
        wire.send(get("/v1/drinks/latte", method="HEAD") + get("/v1/drinks/tea"))
        status, headers, _ = wire.answer(head_only=True)
        _, _, next_body = wire.answer()

    assert status == 200
    assert int(headers["content-length"]) == len(whole.body)
    assert json.loads(next_body)["name"] == "tea"


def test_pipelined_requests_are_answered_in_order(gateway: Gateway) -> None:
    """Also when one of them is a stream, one is no good, and one cannot be served."""
    order = b'{"drink":"tea","quantity":7}'
    with Wire(gateway.port) as wire:
        wire.send(
            get("/v1/orders/latte-L2:watch?events=2", "Accept: application/x-ndjson")
            + get("/v1/drinks/espresso")
            + get("/nowhere")
            + b"POST /v1/orders HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
            + b"Content-Length: %d\r\n\r\n" % len(order)
            + order
            + get("/v1/drinks?nope=1")
            + b"".join(get(f"/v1/drinks/{name}") for name in ("tea", "latte") * 5)
        )
        wire.until(b"\r\n\r\n")
        events = [json.loads(chunk)["step"] for chunk in iter(wire.chunk, b"")]
        answers = [wire.answer() for _ in range(14)]

    assert events == [1, 2]
    assert [status for status, _, _ in answers] == [200, 404, 200, 400] + [200] * 10
    names = [json.loads(body).get("name") for _, _, body in answers[4:]]
    assert names == ["tea", "latte"] * 5
    assert json.loads(answers[2][2])["id"] == "tea-S7"


def test_a_connection_is_kept(gateway: Gateway) -> None:
    before = gateway.metric("silence_connections_total")
    with Wire(gateway.port) as wire:
        for name in itertools.islice(itertools.cycle(("tea", "latte", "cold-brew")), 30):
            wire.send(get(f"/v1/drinks/{name}"))
            assert json.loads(wire.answer()[2])["name"] == name
        wire.send(get("/v1/drinks/tea", "Connection: close"))
        _, headers, _ = wire.answer()
        assert headers["connection"] == "close"
        assert wire.rest() == b""

    assert gateway.metric("silence_connections_total") == before + 1


def test_expect_100_continue_and_a_chunked_body(gateway: Gateway) -> None:
    with Wire(gateway.port) as wire:
        wire.send(
            b"POST /v1/orders HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
        )
        assert wire.until(b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
        wire.send(b'b\r\n{"drink":"t\r\n')
        wire.send(b'4\r\nea"}\r\n0\r\n\r\n')
        status, _, body = wire.answer()

    assert (status, json.loads(body)["id"]) == (200, "tea-S1")


def test_requests_are_counted_by_route_and_logged_with_their_id(gateway: Gateway) -> None:
    gateway.ask("GET", "/v1/drinks/cold-brew", headers={"X-Request-Id": "look-for-me"})

    metrics = gateway.admin("GET", "/metrics").body.decode()
    assert 'silence_requests_total{route="/v1/drinks/{name}",method="GET",status="200"}' in metrics
    until(lambda: "look-for-me" in gateway.output(), "the line of the request is in the log")
    lines = [json.loads(line) for line in gateway.output().splitlines() if '"look-for-me"' in line]
    assert len(lines) == 1
    assert lines[0]["path"] == "/v1/drinks/cold-brew"
    assert lines[0]["status"] == 200
    assert lines[0]["rpc"] == "silence.cafe.v1.Cafe/GetDrink"
