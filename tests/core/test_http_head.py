"""Heads taken apart; what llhttp has to say about them is tested in tests/edge/test_heads.py."""

from __future__ import annotations

import pytest

from silence_gateway.core.http_head import CHUNKED, Rejected, is_host, read_head


def head(*lines: bytes, first: bytes = b"POST /a?b HTTP/1.1", host: bytes = b"Host: x") -> bytes:
    return b"\r\n".join([first, host, *lines, b"", b""])


def test_a_head_becomes_a_request() -> None:
    said = read_head(head(b"A:  b \t", b"COOKIE: c=1", b"a: d", b"Cookie: e=2", b"Content-Length: 7"))

    request = said.request
    assert (request.method, request.target, request.path, request.query) == ("POST", "/a?b", "/a", "b")
    assert request.headers == {
        b"host": b"x",
        b"a": b"b, d",
        b"cookie": b"c=1; e=2",
        b"content-length": b"7",
    }
    assert said.body_size == 7
    assert said.keep_alive
    assert not said.wants_websocket


@pytest.mark.parametrize(
    ("lines", "first", "keeps"),
    [
        ([], b"GET / HTTP/1.1", True),
        ([], b"GET / HTTP/1.0", False),
        ([b"Connection: Close"], b"GET / HTTP/1.1", False),
        ([b"Connection: x, close"], b"GET / HTTP/1.1", False),
        ([b"Connection: keep-alive"], b"GET / HTTP/1.0", True),
        ([b"Connection: keep-alive, close"], b"GET / HTTP/1.0", False),
        ([b"Connection: closed"], b"GET / HTTP/1.1", True),
    ],
)
def test_connections_are_kept_as_the_client_asks(lines: list[bytes], first: bytes, keeps: bool) -> None:
    assert read_head(head(*lines, first=first)).keep_alive is keeps


@pytest.mark.parametrize(
    ("lines", "wants"),
    [
        ([b"Upgrade: WebSocket", b"Connection: keep-alive, Upgrade"], True),
        ([b"Upgrade: h2c, websocket", b"Connection: upgrade"], True),
        ([b"Upgrade: websocket"], False),
        ([b"Upgrade: h2c", b"Connection: upgrade"], False),
        ([b"Connection: upgrade"], False),
    ],
)
def test_an_upgrade_needs_both_headers(lines: list[bytes], wants: bool) -> None:
    assert read_head(head(*lines)).wants_websocket is wants


def test_a_body_may_wait_for_leave_if_there_is_one() -> None:
    assert read_head(head(b"Expect: 100-Continue", b"Content-Length: 3")).expects_continue
    assert read_head(head(b"Expect: 100-continue", b"Transfer-Encoding: chunked")).expects_continue
    assert not read_head(head(b"Expect: 100-continue")).expects_continue
    old = head(b"Expect: anything", b"Content-Length: 3", first=b"POST / HTTP/1.0")
    assert not read_head(old).expects_continue


def test_chunked_is_chunked_in_any_case() -> None:
    assert read_head(head(b"Transfer-Encoding: CHUNKED")).body_size == CHUNKED


@pytest.mark.parametrize(
    ("name", "good"),
    [
        (b"example.com", True),
        (b"Example.com:8080", True),
        (b"127.0.0.1", True),
        (b"[::1]:80", True),
        (b"under_score", True),
        (b"", False),
        (b":80", False),
        (b"a b", False),
        (b"a/", False),
        (b"a:b", False),
        (b"a:123456", False),
        (b"user@host", False),
        (b"a,b", False),
        (b"a?x=", False),
        (b"::1", False),
        (b"[::1", False),
        (b"a#", False),
        (b"a\\b", False),
        (b".a", False),
        (b"\xc3\xa9", False),
    ],
)
def test_a_host_is_a_name_or_an_address_and_a_port(name: bytes, good: bool) -> None:
    assert is_host(name) is good


@pytest.mark.parametrize("repeated", [b"authorization", b"expect", b"sec-websocket-key", b"host"])
def test_some_fields_come_only_once(repeated: bytes) -> None:
    with pytest.raises(Rejected, match="only once"):
        read_head(head(repeated + b": a", repeated + b": a"))
