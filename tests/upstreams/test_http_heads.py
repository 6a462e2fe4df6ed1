"""The corpus of malice in answers, through llhttp and our own rules together."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.http_answer_head import MalformedAnswer
from silence_gateway.upstreams.http_heads import MAX_REMEMBERED, AnswerHeads

OK = b"HTTP/1.1 200 OK\r\n"
CORPUS = [
    ("both-lengths", OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
    ("two-equal-lengths", OK + b"Content-Length: 3\r\nContent-Length: 3\r\n"),
    ("two-lengths", OK + b"Content-Length: 3\r\nContent-Length: 4\r\n"),
    ("length-list", OK + b"Content-Length: 3, 3\r\n"),
    ("length-plus", OK + b"Content-Length: +3\r\n"),
    ("length-minus", OK + b"Content-Length: -3\r\n"),
    ("length-hex", OK + b"Content-Length: 0x3\r\n"),
    ("length-underscore", OK + b"Content-Length: 1_0\r\n"),
    ("length-empty", OK + b"Content-Length:\r\n"),
    ("length-huge", OK + b"Content-Length: 99999999999999999999999\r\n"),
    ("length-arabic", OK + b"Content-Length: \xd9\xa3\r\n"),
    ("coding-gzip-first", OK + b"Transfer-Encoding: gzip, chunked\r\n"),
    ("coding-identity", OK + b"Transfer-Encoding: identity\r\n"),
    ("coding-twice", OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
    ("coding-x", OK + b"Transfer-Encoding: xchunked\r\n"),
    ("coding-vertical-tab", OK + b"Transfer-Encoding: \x0bchunked\r\n"),
    ("coding-unicode", OK + b"Transfer-Encoding: chun\xe2\x84\xaaed\r\n"),
    ("coding-empty", OK + b"Transfer-Encoding:\r\n"),
    ("coding-http-1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n"),
    ("folded", OK + b"A: b\r\n c\r\n"),
    ("folded-length", OK + b"Content-Length:\r\n 3\r\n"),
    ("folded-first", OK + b" A: b\r\n"),
    ("bare-lf", OK + b"A: b\nC: d\r\n"),
    ("bare-lf-line", b"HTTP/1.1 200 OK\nA: b\r\n"),
    ("bare-cr", OK + b"A: b\rC: d\r\n"),
    ("nul", OK + b"A: b\0c\r\n"),
    ("control", OK + b"A: b\x01c\r\n"),
    ("space-before-colon", OK + b"Content-Length : 3\r\n"),
    ("tab-before-colon", OK + b"Content-Length\t: 3\r\n"),
    ("no-colon", OK + b"A\r\n"),
    ("no-name", OK + b": b\r\n"),
    ("name-not-ascii", OK + b"\xc3\xa9: b\r\n"),
    ("http-2", b"HTTP/2.0 200 OK\r\n"),
    ("http-0.9", b"<html>\r\n"),
    ("icy", b"ICY 200 OK\r\n"),
    ("status-short", b"HTTP/1.1 20 OK\r\n"),
    ("status-long", b"HTTP/1.1 2000 OK\r\n"),
    ("status-words", b"HTTP/1.1 OK 200\r\n"),
    ("status-tab", b"HTTP/1.1\t200 OK\r\n"),
    ("status-empty", b"\r\n"),
]


@pytest.mark.parametrize("head", [pytest.param(head, id=name) for name, head in CORPUS])
def test_what_could_be_read_in_two_ways_is_read_in_none(head: bytes) -> None:
    heads = AnswerHeads()

    with pytest.raises(MalformedAnswer):
        heads.read(head + b"\r\n")
    with pytest.raises(MalformedAnswer):
        heads.read(head + b"\r\n")


@given(st.binary(max_size=200), st.sampled_from([b"", OK, OK + b"Content-Length: 3\r\n"]))
def test_anything_is_read_or_refused(data: bytes, begun: bytes) -> None:
    head = (begun + data).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"

    with contextlib.suppress(MalformedAnswer):
        found = AnswerHeads().read(head)
        assert all(
            b"\n" not in value and b"\r" not in value and b"\0" not in value for _, value in found.fields
        )


def test_a_head_is_read_once_and_memory_of_heads_is_bounded() -> None:
    heads = AnswerHeads()
    head = OK + b"Content-Length: 3\r\n\r\n"

    assert heads.read(head) is heads.read(head)
    for number in range(MAX_REMEMBERED):
        heads.read(OK + b"X: %d\r\n\r\n" % number)
    assert heads.read(head) is heads.read(head)
    long = OK + b"X: " + b"y" * 2000 + b"\r\n\r\n"
    assert heads.read(long) is not heads.read(long)
