"""Answers as bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.edge.http1_writer import Prefixes, UnsafeHeader, chunk, header_lines


def test_the_first_lines_are_made_once_a_second() -> None:
    prefixes = Prefixes()
    prefixes.tick(0.9)
    first = prefixes.make(200)

    assert first == b"HTTP/1.1 200 OK\r\nserver: silence\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
    prefixes.tick(0.99)
    assert prefixes.of_status == {200: first}
    prefixes.tick(1.0)
    assert prefixes.of_status == {}


@pytest.mark.parametrize(("status", "phrase"), [(499, b"Client Closed Request"), (299, b"Status")])
def test_every_status_has_a_phrase(status: int, phrase: bytes) -> None:
    assert b" %d %b\r\n" % (status, phrase) in Prefixes().make(status)


@given(st.lists(st.tuples(st.binary(max_size=10), st.binary(max_size=10)), max_size=5))
def test_no_header_can_begin_another_line(headers: list[tuple[bytes, bytes]]) -> None:
    dirty = any(set(name + value) & {0, 10, 13} for name, value in headers)
    if dirty:
        with pytest.raises(UnsafeHeader):
            header_lines(headers)
    else:
        assert header_lines(headers).split(b"\r\n") == [*(b"%b: %b" % header for header in headers), b""]


def test_a_piece_becomes_a_chunk() -> None:
    assert chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
