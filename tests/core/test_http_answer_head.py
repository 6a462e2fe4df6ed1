"""Heads of answers: where a body ends, and when a connection may be used again."""

from __future__ import annotations

import pytest

from silence_gateway.core.http_answer_head import UNTIL_CLOSE, MalformedAnswer, read_answer_head
from silence_gateway.core.http_head import CHUNKED


@pytest.mark.parametrize(
    ("head", "size", "keep_alive"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 7", 7, True, id="length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked", CHUNKED, True, id="chunks"),
        pytest.param(b"HTTP/1.1 200 OK", UNTIL_CLOSE, False, id="neither"),
        pytest.param(b"HTTP/1.1 204", 0, True, id="no-content"),
        pytest.param(b"HTTP/1.1 304 \r\nContent-Length: 7", 0, True, id="not-modified"),
        pytest.param(b"HTTP/1.1 103 Hints", 0, True, id="informational"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: x, Close", 7, False, id="close"),
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 7", 7, False, id="old"),
        pytest.param(
            b"HTTP/1.0 200 OK\r\nContent-Length: 7\r\nConnection: keep-alive", 7, True, id="old-kept"
        ),
    ],
)
def test_a_body_ends_where_its_head_says(head: bytes, size: int, keep_alive: bool) -> None:
    found = read_answer_head(head + b"\r\n\r\n")

    assert (found.body_size, found.keep_alive) == (size, keep_alive)


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"HTTP/2 200 OK", id="version"),
        pytest.param(b"HTTP/1.1 099 OK", id="status"),
        pytest.param(b"HTTP/1.1 20 OK", id="short-status"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3", id="two-lengths"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: +3", id="plus"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000000000", id="19-digits"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked", id="both"),
        pytest.param(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked", id="old-chunks"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked", id="gzip"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x", id="two-codings"
        ),
        pytest.param(b"HTTP/1.1 200 OK" + b"\r\nA: b" * 201, id="too-many"),
    ],
)
def test_what_two_programs_could_read_differently_is_refused(head: bytes) -> None:
    with pytest.raises(MalformedAnswer):
        read_answer_head(head + b"\r\n\r\n")


def test_fields_are_kept_each_for_itself_in_order() -> None:
    found = read_answer_head(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nX: y \r\nSet-Cookie:b=2\r\n\r\n")

    assert found.fields == [(b"set-cookie", b"a=1"), (b"x", b"y"), (b"set-cookie", b"b=2")]
    assert found.value(b"set-cookie") == b"a=1"
    assert found.value(b"none") is None
    assert found.length is None


@pytest.mark.parametrize(
    ("said", "idle_s"),
    [
        (b"timeout=5, max=100", 5.0),
        (b'Timeout = "7"', 7.0),
        (b"max=1", None),
        (b"timeout=12345678", 123456.0),
    ],
)
def test_how_long_a_free_connection_is_kept_is_heard(said: bytes, idle_s: float | None) -> None:
    found = read_answer_head(b"HTTP/1.1 204 No\r\nX: y\r\nKeep-Alive: " + said + b"\r\n\r\n")

    assert found.idle_s == idle_s


def test_only_a_switch_is_no_information() -> None:
    assert read_answer_head(b"HTTP/1.1 100 Continue\r\n\r\n").informational
    assert not read_answer_head(b"HTTP/1.1 101 Switching\r\n\r\n").informational
    assert not read_answer_head(b"HTTP/1.1 204 No\r\n\r\n").informational
