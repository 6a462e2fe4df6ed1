"""What a proxy passes on of a head, and what it may never pass on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.forwarding import (
    HOP_BY_HOP,
    TALES,
    answered_fields,
    check_path,
    forwarded_lines,
    trailer_fields,
)
from silence_gateway.core.http import Request
from silence_gateway.core.http_answer_head import read_answer_head
from silence_gateway.core.http_head import CHUNKED
from silence_gateway.errors import BadRequest


class Coming:
    """A body of which only the size matters here."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.received = 0
        self.done = False

    def __aiter__(self) -> Coming:
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration


def sent(request: Request, *, trusted: bool = False, upgrade: bool = False) -> dict[bytes, bytes]:
    """Return the forwarded fields by name; none may be there twice."""
    lines = forwarded_lines(request, trusted=trusted, upgrade=upgrade).split(b"\r\n")
    assert lines.pop() == b""
    pairs = [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
    found = dict(pairs)
    assert len(found) == len(pairs)
    return found


tokens = st.sampled_from(
    [*sorted(HOP_BY_HOP), *sorted(TALES), b"x-forwarded-port", b"proxy", b"accept", b"x-a"]
)
values = st.sampled_from([b"", b"x", b"close, x-a", b"keep-alive", b"trailers", b"websocket"])


@given(st.dictionaries(tokens, values, max_size=12), st.booleans())
def test_nothing_of_the_hop_and_no_tale_of_a_stranger_goes_on(
    headers: dict[bytes, bytes], upgrade: bool
) -> None:
    found = sent(Request("GET", "/", {b"host": b"shop", **headers}, peer="192.0.2.1"), upgrade=upgrade)

    allowed = {b"te", b"connection"} | ({b"upgrade"} if upgrade else set())
    assert not (set(found) & HOP_BY_HOP) - allowed
    assert not set(found) & TALES
    assert b"proxy" not in found
    assert found.get(b"te", b"trailers") == b"trailers"
    assert found.get(b"connection", b"te") in {b"te", b"upgrade"}
    assert found[b"x-forwarded-for"] == b"192.0.2.1"
    assert b"x-forwarded-port" not in found


@pytest.mark.parametrize(
    ("peer", "for_", "forwarded"),
    [
        ("192.0.2.1", b"192.0.2.1", b'for=192.0.2.1;host="shop";proto=https'),
        ("2001:db8::1", b"2001:db8::1", b'for="[2001:db8::1]";host="shop";proto=https'),
        ("", b"unknown", b'for=unknown;host="shop";proto=https'),
    ],
)
def test_the_peer_is_named_in_the_form_of_each_field(peer: str, for_: bytes, forwarded: bytes) -> None:
    found = sent(Request("GET", "/", {b"host": b"shop"}, peer=peer, scheme="https"))

    assert found[b"x-forwarded-for"] == for_
    assert found[b"forwarded"] == forwarded
    assert found[b"x-forwarded-proto"] == b"https"


def test_what_a_trusted_proxy_says_of_earlier_hops_is_carried_on() -> None:
    headers = {
        b"host": b"shop",
        b"forwarded": b"for=203.0.113.9",
        b"x-forwarded-for": b"203.0.113.9",
        b"x-forwarded-proto": b"https",
        b"x-forwarded-host": b"www.shop",
        b"x-forwarded-port": b"443",
        b"x-real-ip": b"203.0.113.9",
        b"via": b"1.0 edge",
    }

    found = sent(Request("GET", "/", headers, peer="192.0.2.1"), trusted=True)

    assert found == {
        b"forwarded": b'for=203.0.113.9, for=192.0.2.1;host="shop";proto=http',
        b"x-forwarded-for": b"203.0.113.9, 192.0.2.1",
        b"x-forwarded-proto": b"https",
        b"x-forwarded-host": b"www.shop",
        b"x-forwarded-port": b"443",
        b"x-real-ip": b"203.0.113.9",
        b"via": b"1.0 edge, 1.1 silence",
    }


def test_the_id_of_the_request_goes_on_and_not_the_caller_s_word_for_it() -> None:
    request = Request("GET", "/", {b"host": b"shop", b"x-request-id": b"bad id"})
    request.request_id = "made-1"

    assert sent(request)[b"x-request-id"] == b"made-1"


def test_without_a_host_nothing_is_said_of_one() -> None:
    found = sent(Request("GET", "/", {}, peer="192.0.2.1", http_version="1.0"))

    assert b"x-forwarded-host" not in found
    assert found[b"forwarded"] == b"for=192.0.2.1;proto=http"


@pytest.mark.parametrize(
    ("method", "size", "framing"),
    [
        ("GET", 0, {}),
        ("DELETE", 0, {}),
        ("POST", 0, {b"content-length": b"0"}),
        ("POST", 7, {b"content-length": b"7"}),
        ("GET", 7, {b"content-length": b"7"}),
        ("POST", CHUNKED, {b"transfer-encoding": b"chunked"}),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_a_body_is_framed_by_us_whatever_the_caller_said(
    method: str, size: int, framing: dict[bytes, bytes], whole: bool
) -> None:
    if whole and size == CHUNKED:
        framing = {b"content-length": b"3"}
    headers = {b"host": b"shop", b"content-length": b"99", b"transfer-encoding": b"chunked"}
    request = Request(method, "/", headers, (b"abc" if size == CHUNKED else b"x" * size) if whole else b"")
    if not whole:
        request.incoming = Coming(size)

    found = sent(request)

    names = {b"content-length", b"transfer-encoding"}
    assert {name: value for name, value in found.items() if name in names} == framing


def test_an_answer_loses_what_belongs_to_the_hop_and_what_we_say_ourselves() -> None:
    head = read_answer_head(
        b"HTTP/1.1 200 OK\r\nConnection: x-inner\r\nX-Inner: 1\r\nServer: y\r\nDate: z\r\n"
        b"Content-Length: 1\r\nRateLimit: its\r\nX-Kept: 1\r\n\r\n"
    )

    assert answered_fields(head, [(b"RateLimit", b"ours")]) == [(b"x-kept", b"1")]


def test_trailers_carry_no_framing_and_no_cookies() -> None:
    lines = [b"X-Sum: 7 ", b"Content-Length: 3", b"Set-Cookie: a", b"Trailer: b", b"Connection: c"]

    assert trailer_fields(lines) == [(b"x-sum", b"7")]


@pytest.mark.parametrize(
    "path", ["/a", "/a;b/c", "/a%20b", "/..a", "/a..b;c", "/a%2Fb", "/%2e%2e%2e", "/a;..", "/.well-known%2Fx"]
)
def test_plain_paths_go_on(path: str) -> None:
    check_path(path)


@pytest.mark.parametrize(
    "path", ["/a/..;/b", "/a/.;x", "/a%2F..%2Fb", "/a%5C..", "/%2e%2E/b", "/a/%2e;x/b", "/x%2f%2e%2e"]
)
def test_paths_with_hidden_dots_do_not(path: str) -> None:
    with pytest.raises(BadRequest):
        check_path(path)
