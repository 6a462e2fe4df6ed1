"""Headers to metadata and back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.core.http import Request
from silence_gateway.errors import BadRequest
from silence_gateway.transcoding.headers import MAX_OUT_PAIRS, headers_of, metadata_of, wants_lines


def metadata(headers: dict[bytes, bytes], *forwarded: bytes) -> list[tuple[bytes, bytes]]:
    request = Request("GET", "/", headers)
    request.request_id = "r-1"
    return [pair for pair in metadata_of(request, forwarded) if pair != (b"x-request-id", b"r-1")]


def test_the_request_id_is_always_sent() -> None:
    request = Request("GET", "/", {})
    request.request_id = "r-1"

    assert metadata_of(request) == [(b"x-request-id", b"r-1")]


@pytest.mark.parametrize(
    ("headers", "sent"),
    [
        pytest.param({b"authorization": b"Bearer x"}, [(b"authorization", b"Bearer x")], id="authorization"),
        pytest.param({b"traceparent": b"00-a"}, [(b"traceparent", b"00-a")], id="trace"),
        pytest.param({b"grpc-metadata-shelf": b"3"}, [(b"shelf", b"3")], id="prefixed"),
        pytest.param({b"grpc-metadata-a-bin": b"AAE"}, [(b"a-bin", b"\x00\x01")], id="binary-unpadded"),
        pytest.param({b"grpc-metadata-a-bin": b"-_8="}, [(b"a-bin", b"\xfb\xff")], id="binary-url-alphabet"),
        pytest.param(
            {b"grpc-metadata-a-bin": b"AA==, AQ=="},
            [(b"a-bin", b"\x00"), (b"a-bin", b"\x01")],
            id="binary-twice",
        ),
        pytest.param({b"cookie": b"a", b"user-agent": b"b", b"x-other": b"c"}, [], id="nothing-else"),
        pytest.param({b"x-forwarded-for": b"1.2.3.4"}, [], id="addresses-stay"),
        pytest.param(
            {
                b"grpc-metadata-host": b"h",
                b"grpc-metadata-grpc-timeout": b"1S",
                b"grpc-metadata-te": b"x",
                b"grpc-metadata-:path": b"/",
                b"grpc-metadata-content-length": b"5",
                b"grpc-metadata-connection": b"close",
            },
            [],
            id="reserved",
        ),
        pytest.param(
            {
                b"grpc-metadata-authorization": b"other",
                b"grpc-metadata-x-request-id": b"other",
                b"grpc-metadata-x-forwarded-for": b"1.1.1.1",
                b"grpc-metadata-traceparent": b"other",
            },
            [],
            id="what-is-ours-cannot-be-put-in-by-prefix",
        ),
    ],
)
def test_headers_become_metadata(headers: dict[bytes, bytes], sent: list[tuple[bytes, bytes]]) -> None:
    assert metadata(headers) == sent


def test_headers_the_operator_names_are_sent() -> None:
    assert metadata({b"x-tenant": b"a", b"x-other": b"b"}, b"x-tenant", b"x-absent") == [(b"x-tenant", b"a")]


@pytest.mark.parametrize(
    "headers",
    [
        {b"grpc-metadata-a-bin": b"not base64!"},
        {b"grpc-metadata-a-bin": b"A"},
        {b"grpc-metadata-a": b"\xff"},
        {b"grpc-metadata-a b": b"x"},
        {b"grpc-metadata-": b"x"},
    ],
)
def test_headers_that_cannot_be_metadata_are_refused(headers: dict[bytes, bytes]) -> None:
    with pytest.raises(BadRequest):
        metadata(headers)


def test_metadata_becomes_headers() -> None:
    headers = headers_of([(b"shelf", b"3"), (b"a-bin", b"\x00\x01")], [(b"reason", b"x")])

    assert headers == [
        (b"grpc-metadata-shelf", b"3"),
        (b"grpc-metadata-a-bin", b"AAE"),
        (b"grpc-trailer-reason", b"x"),
    ]


@pytest.mark.parametrize(
    "pair",
    [
        (b"a", b"x\r\nset-cookie: y"),
        (b"a\r\n", b"x"),
        (b"a: b", b"x"),
        (b"a", b"x\x00"),
        (b"grpc-status", b"0"),
        (b"", b"x"),
    ],
)
def test_metadata_that_could_break_a_header_is_left_out(pair: tuple[bytes, bytes]) -> None:
    assert headers_of([pair]) == []


def test_metadata_out_is_bounded() -> None:
    assert len(headers_of([(b"a", b"x")] * 1000)) == MAX_OUT_PAIRS
    assert sum(len(value) for _, value in headers_of([(b"a", b"x" * 1000)] * 100)) <= 8192


@given(st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=20)), max_size=10))
@settings(max_examples=100)
def test_no_metadata_makes_a_header_that_is_not_one(pairs: list[tuple[bytes, bytes]]) -> None:
    for name, value in headers_of(pairs, pairs):
        assert not set(name + value) & set(b"\r\n\x00")
        assert b":" not in name
        assert b" " not in name


@pytest.mark.parametrize(
    ("accept", "lines"),
    [
        (b"", False),
        (b"*/*", False),
        (b"application/json", False),
        (b"application/x-ndjson", True),
        (b"application/ndjson, */*", True),
        (b"Application/X-NDJSON;q=0.5, text/html", True),
        (b"application/x-ndjson;q=0", False),
        (b"application/json, application/x-ndjson;q=0.5", False),
        (b"application/json;q=0.5, application/x-ndjson;q=0.8", True),
        (b"application/json, application/x-ndjson", True),
        (b"application/x-ndjson;q=nonsense", True),
    ],
)
def test_lines_are_wanted_when_accept_says_so(accept: bytes, *, lines: bool) -> None:
    assert wants_lines(accept) is lines
