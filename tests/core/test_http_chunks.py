"""Chunked bodies: exactly as llhttp sees them, and no further than their end."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from silence_gateway.core.http_chunks import ChunkReader
from silence_gateway.core.http_head import Rejected

LIMIT = 10_000


def chunked(pieces: list[bytes], extension: bytes = b"", trailers: bytes = b"") -> bytes:
    body = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces if piece)
    return body + b"0\r\n" + trailers + b"\r\n"


def read(wire: bytes, step: int) -> tuple[bytes, bytes, bool]:
    """Return body, what was left over, and whether the body was complete."""
    reader = ChunkReader(LIMIT)
    buffer = bytearray()
    for at in range(0, len(wire), step):
        buffer += wire[at : at + step]
        if reader.take_from(buffer):
            return bytes(reader.body), bytes(buffer) + wire[at + step :], True
    return bytes(reader.body), bytes(buffer), False


@given(
    st.lists(st.binary(max_size=50), max_size=8),
    st.sampled_from([b"", b";a=b", b";name", b';a="b; \\"c\\"";d']),
    st.sampled_from([b"", b"X: y\r\n", b"A:\r\nB: c\r\n"]),
    st.binary(max_size=20),
    st.integers(1, 60),
)
def test_a_body_ends_where_it_ends_however_it_is_cut(
    pieces: list[bytes], extension: bytes, trailers: bytes, rest: bytes, step: int
) -> None:
    wire = chunked(pieces, extension, trailers) + rest

    assert read(wire, step) == (b"".join(pieces), rest, True)


class Sink:
    """What llhttp makes of the same bytes."""

    def __init__(self) -> None:
        self.body = b""
        self.complete = False

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True


HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
PIECES = [
    b"0",
    b"3",
    b"a",
    b"\r\n",
    b"\n",
    b"\r",
    b";",
    b" ",
    b"x:y",
    b"\0",
    b"abc",
    b"0\r\n\r\n",
    b"\t",
    b"\xe9",
]
EXTENDED = [b"=", b'"', b"\\", b"0;", b'="']
alphabet = st.sampled_from(PIECES + EXTENDED)


@given(st.lists(alphabet, max_size=14).map(b"".join))
@example(b"0; 0\r\n\r\n")
@example(b'0;a="b c"\r\n\r\n')
def test_whatever_we_take_llhttp_takes_too(wire: bytes) -> None:
    """We may refuse what llhttp takes (never the other way), and then both see one body."""
    try:
        body, rest, complete = read(wire, len(wire) or 1)
    except Rejected:
        return
    sink = Sink()
    parser = httptools.HttpRequestParser(sink)
    try:
        parser.feed_data(HEAD + (wire[: len(wire) - len(rest)] if complete else wire))
    except httptools.HttpParserError:
        # What has not come whole may be refused later by us; what is complete may not be refused by it.
        assert not complete
        return

    assert sink.complete == complete
    assert not complete or sink.body == body


@pytest.mark.parametrize(
    "wire",
    [
        b"0x3\r\n",
        b"+3\r\n",
        b"-3\r\n",
        b" 3\r\n",
        b"3 \r\n",
        b"g\r\n",
        b"\r\n",
        b"3_0\r\n",
        b"3;\r\n",
        b"3;a\0\r\n",
        b"3; a\r\n",
        b"3;a =b\r\n",
        b"3;a= b\r\n",
        b"3;a=\r\n",
        b"3;a;\r\n",
        b"3;=b\r\n",
        b'3;a="b\r\n',
        b'3;a="b"c\r\n',
        b"3\n",
        b"3\r\nabcd\r\n",
        b"3\r\nabc\n",
        b"3\r\nabcXX",
        b"ffffffffffffffff\r\n",
        b"0\r\n folded\r\n",
        b"0\r\nno colon\r\n",
        b"0\r\nContent-Length: 3\r\n",
        b"0\r\nhost: x\r\n",
        b"0\r\nA: b\0\r\n",
        b"3" * 5000,
    ],
)
@pytest.mark.parametrize("step", [1, 1000])
def test_what_is_not_a_chunk_is_refused(wire: bytes, step: int) -> None:
    with pytest.raises(Rejected) as refused:
        read(wire, step)

    assert refused.value.status == 400


@pytest.mark.parametrize("wire", [b"2711\r\n", chunked([b"x" * 6000, b"x" * 6000]), b"fffffffffffffff\r\n"])
def test_a_body_above_the_limit_is_refused_before_it_is_stored(wire: bytes) -> None:
    with pytest.raises(Rejected) as refused:
        read(wire, 1000)

    assert refused.value.status == 413


def test_a_flood_of_tiny_chunks_is_refused() -> None:
    reader = ChunkReader(10_000_000)
    with pytest.raises(Rejected, match="too small"):
        reader.take_from(bytearray(b"1\r\nx\r\n" * 50_000))

    assert len(reader.body) < 30_000


def test_trailers_without_end_are_refused() -> None:
    with pytest.raises(Rejected, match="trailer lines"):
        read(b"0\r\n" + b"A: b\r\n" * 20_000, 1000)


def test_what_has_come_can_be_taken_before_the_end_and_trailers_stay_apart() -> None:
    reader = ChunkReader(LIMIT)
    buffer = bytearray(b"3\r\nabc\r\n2\r\nd")

    assert not reader.take_from(buffer)
    assert reader.take_body() == b"abcd"
    assert reader.take_body() == b""
    buffer += b"e\r\n0\r\nX-Sum: 7\r\n\r\n"
    assert reader.take_from(buffer)
    assert reader.take_body() == b"e"
    assert reader.received == 5
    assert reader.trailers == [b"X-Sum: 7"]


def test_taking_what_has_come_makes_no_room_for_more_than_is_allowed() -> None:
    reader = ChunkReader(4)
    buffer = bytearray(b"3\r\nabc\r\n")
    reader.take_from(buffer)
    reader.take_body()

    with pytest.raises(Rejected):
        reader.take_from(bytearray(b"2\r\n"))


def test_one_who_may_send_chunks_as_small_as_it_likes_may() -> None:
    reader = ChunkReader(2**60, 2**60)

    assert not reader.take_from(bytearray(b"1\r\nx\r\n" * 50_000))
    assert len(reader.take_body()) == 50_000
