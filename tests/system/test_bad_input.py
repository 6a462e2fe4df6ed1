"""Whatever clients throw at the real process: an error in its protocol, a count, and the process lives."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.system.wire import Wire, get
from tests.system.yard import Cafe, Gateway, Yard, until

pytestmark = pytest.mark.system

CONFIG = """
listen: "@listen@"
admin: {listen: "@admin@"}
store: {url: "memory://"}
upstreams: {cafe: {endpoints: ["%s"]}}
server: {header_timeout: 700ms, body_timeout: 700ms, max_header_bytes: 4KiB, max_body: 64KiB}
telemetry: {access_log: none}
"""
HEAD = b"POST /v1/orders HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def gateway(shared_yard: Yard, cafe: Cafe) -> Gateway:
    return shared_yard.gateway(CONFIG % cafe.address)


@pytest.fixture(autouse=True)
def still_well(gateway: Gateway) -> Iterator[None]:
    """After every test the same process serves as before, and nothing went wrong that nobody expected."""
    yield
    assert gateway.ask("GET", "/v1/drinks/latte").status == 200
    assert gateway.popen.poll() is None
    assert "Traceback" not in gateway.output()


@contextmanager
def counted(gateway: Gateway, metric: str, *, at_least: int = 1) -> Iterator[None]:
    """Check that what happens inside is counted by *metric*."""
    before = gateway.metric(metric)
    yield
    until(
        lambda: gateway.metric(metric) >= before + at_least,
        lambda: f"{metric} was {before} and is {gateway.metric(metric)}",
    )


def problem_of(wire: Wire) -> tuple[int, str]:
    status, headers, body = wire.answer()
    assert headers["content-type"] == "application/problem+json"
    found = json.loads(body)
    assert found["status"] == status
    return status, found["detail"]


def test_a_client_that_dribbles_its_head_is_timed_out(gateway: Gateway) -> None:
    """Bytes now and then are no excuse: the head has its time as a whole."""
    with counted(gateway, "silence_client_timeouts_total"), Wire(gateway.port) as wire:
        started_s = time.monotonic()
        over = threading.Event()

        def dribble() -> None:
            for byte in b"GET /v1/drinks HTTP/1.1\r\nHost: gateway\r\nX-Slow: " + b"a" * 200:
                wire.send(bytes((byte,)))
                if over.wait(0.05):
                    return

        thread = threading.Thread(target=dribble)
        thread.start()
        try:
            status, _ = problem_of(wire)
        finally:
            over.set()
            thread.join()
        assert status == 408
        assert 0.5 < time.monotonic() - started_s < 5


def test_a_client_that_says_nothing_is_closed(gateway: Gateway) -> None:
    with counted(gateway, "silence_client_timeouts_total"), Wire(gateway.port) as wire:
        assert b"200" not in wire.rest()


def test_a_body_that_does_not_come_is_timed_out(gateway: Gateway) -> None:
    with counted(gateway, "silence_client_timeouts_total"), Wire(gateway.port) as wire:
        wire.send(HEAD + b'Content-Length: 100\r\n\r\n{"drink":')
        assert problem_of(wire)[0] == 408


@pytest.mark.parametrize("ending", [b"", b'{"drink":', b"5\r\n{}"])
def test_a_body_that_is_cut_off_is_no_request(gateway: Gateway, ending: bytes) -> None:
    framing = b"Transfer-Encoding: chunked\r\n\r\n" if ending[:1] == b"5" else b"Content-Length: 100\r\n\r\n"
    calls = gateway.metric("silence_upstream_calls_total")
    with counted(gateway, "silence_rejected_total"), Wire(gateway.port) as wire:
        wire.send(HEAD + framing + ending)
        wire.socket.shutdown(socket.SHUT_WR)
        assert problem_of(wire)[0] == 400
    assert gateway.metric("silence_upstream_calls_total") == calls


def test_a_gigabyte_is_refused_when_it_is_announced(gateway: Gateway) -> None:
    with counted(gateway, "silence_rejected_total"), Wire(gateway.port) as wire:
        wire.send(HEAD + b"Content-Length: 1073741824\r\nExpect: 100-continue\r\n\r\n")
        status, detail = problem_of(wire)
    assert status == 413
    assert "65536" in detail


def test_a_gigabyte_in_chunks_is_refused_when_it_has_become_too_much(gateway: Gateway) -> None:
    before = gateway.metric("silence_resident_bytes")
    with counted(gateway, "silence_rejected_total"), Wire(gateway.port) as wire:
        wire.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(100):
            wire.send(b"8000\r\n" + b" " * 0x8000 + b"\r\n")
        assert problem_of(wire)[0] == 413
    assert gateway.metric("silence_resident_bytes") < before + 20_000_000


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(
            HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, id="cl-and-te"
        ),
        pytest.param(HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400, id="two-lengths"),
        pytest.param(HEAD + b"Content-Length: +2\r\n\r\n{}", 400, id="odd-length"),
        pytest.param(HEAD + b"Content-Length: 2, 2\r\n\r\n{}", 400, id="length-list"),
        pytest.param(HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400, id="odd-te"),
        pytest.param(HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400, id="space-before-colon"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n", 400, id="odd-size"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\n{}\r\n0\r\n\r\n", 400, id="bare-lf-chunk"),
        pytest.param(b"GET /v1/drinks HTTP/1.1\nHost: gateway\n\n", 400, id="bare-lf"),
        pytest.param(b"GET /v1/drinks HTTP/1.1\r\nHost: g\r\nX: a\r\n b\r\n\r\n", 400, id="folded"),
        pytest.param(b"GET /v1/drinks HTTP/1.1\r\nHost: g\r\nX: a\0b\r\n\r\n", 400, id="nul"),
        pytest.param(b"GET /v1/drinks HTTP/1.1\r\n\r\n", 400, id="no-host"),
        pytest.param(b"GET /v1/drinks HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, id="two-hosts"),
        pytest.param(b"GET http://b/v1/drinks HTTP/1.1\r\nHost: a\r\n\r\n", 400, id="other-host"),
        pytest.param(b"GET /v1/drinks HTTP/2.0\r\nHost: a\r\n\r\n", 505, id="other-version"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, id="http2-preface"),
        pytest.param(
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(60) + b"\r\n\r\n", 400, id="tls"
        ),
        pytest.param(b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, id="long-line"),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: " + b"a" * 5000 + b"\r\n\r\n", 431, id="long-headers"
        ),
    ],
)
def test_smuggling_and_other_nonsense_is_refused_and_ends_the_connection(
    gateway: Gateway, request_bytes: bytes, status: int
) -> None:
    """What might be a second request is never answered: it came from who knows where."""
    with counted(gateway, "silence_rejected_total"), Wire(gateway.port) as wire:
        wire.send(request_bytes + get("/v1/drinks/smuggled"))
        found, _ = problem_of(wire)
        assert found in {status, 431} if status == 414 else found == status
        assert wire.rest() == b""


def test_names_with_an_underscore_do_not_get_through(gateway: Gateway) -> None:
    with counted(gateway, "silence_dropped_headers_total"), Wire(gateway.port) as wire:
        wire.send(get("/v1/drinks/tea", "Grpc_Timeout: nonsense"))
        assert wire.answer()[0] == 200


@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param(b"[" * 101 + b"]" * 101, "100 levels", id="deep"),
        pytest.param(b'{"a":' * 5000 + b"1" + b"}" * 5000, "100 levels", id="deeper"),
        pytest.param(b'{"note":"\xff\xfe"}', "JSON", id="not-utf-8"),
        pytest.param(b'{"note":"\\ud800"}', "", id="half-a-surrogate"),
        pytest.param(b'{"quantity":99999999999}', "out of range", id="out-of-range"),
        pytest.param(b'{"quantity":1e400}', "", id="infinite"),
        pytest.param(b'{"quantity":"many"}', "", id="wrong-type"),
        pytest.param(b'["drink"]', "", id="wrong-shape"),
        pytest.param(b'{"drink":"tea","drink":"latte"}', "", id="double-key"),
        pytest.param(b"{}" * 2, "JSON", id="two-values"),
    ],
)
def test_json_that_does_not_fit_is_told_why(gateway: Gateway, body: bytes, says: str) -> None:
    answer = gateway.ask("POST", "/v1/orders", body, {"Content-Type": "application/json"})

    assert answer.status == 400, answer.body
    assert says in answer.json()["detail"]
    assert 'route="/v1/orders",method="POST",status="400"' in gateway.admin("GET", "/metrics").body.decode()


def test_clients_that_vanish_cost_nothing(gateway: Gateway) -> None:
    """At every stage: in the head, in the body, while the answer is made, while a stream is sent."""
    order = b'{"drink":"tea"}'
    stages = [
        b"",
        b"GET /v1/dri",
        HEAD + b"Content-Length: 15\r\n\r\n" + order[:4],
        HEAD + b"Content-Length: 15\r\n\r\n" + order,
        get("/v1/orders/tea-S1:watch?events=100", "Accept: application/x-ndjson"),
    ]
    for data in stages * 4:
        with Wire(gateway.port) as wire:
            wire.send(data)
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    until(lambda: gateway.metric("silence_connections") == 0, "every connection is gone")
    until(lambda: gateway.metric("silence_endpoint_in_flight") == 0, "every call is over")
