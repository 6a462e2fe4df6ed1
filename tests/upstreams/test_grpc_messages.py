"""Messages come out as they went in, however DATA is cut, and never larger than the cap."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.errors import RpcError, UpstreamProtocolError
from silence_gateway.upstreams.grpc_messages import MessageReader, framed, gunzip


@settings(deadline=None)
@given(
    messages=st.lists(st.tuples(st.binary(max_size=200), st.booleans()), max_size=6),
    cuts=st.lists(st.integers(1, 50), max_size=40),
)
def test_messages_survive_any_cutting(messages: list[tuple[bytes, bool]], cuts: list[int]) -> None:
    wire = b""
    for message, packed in messages:
        content = gzip.compress(message) if packed else message
        wire += bytes((packed,)) + framed(content)[1:]
    reader = MessageReader(b"gzip", 1_000)
    got = []
    for cut in [*cuts, len(wire) + 1]:
        got += [reader.unpack(raw) for raw in reader.feed(wire[:cut])]
        wire = wire[cut:]

    assert got == [message for message, _ in messages]
    assert reader.pending == 0


@settings(deadline=None)
@given(pieces=st.lists(st.binary(max_size=40), max_size=8))
def test_arbitrary_bytes_raise_only_what_a_call_can_end_with(pieces: list[bytes]) -> None:
    reader = MessageReader(b"gzip", 100)
    for piece in pieces:
        try:
            messages = [reader.unpack(raw) for raw in reader.feed(piece)]
        except (RpcError, UpstreamProtocolError):
            return
        assert all(len(message) <= 100 for message in messages)
        assert reader.pending <= 105


@settings(deadline=None)
@given(size=st.integers(0, 300))
def test_unpacking_stops_at_the_cap(size: int) -> None:
    packed = gzip.compress(bytes(size))
    if size > 100:
        with pytest.raises(RpcError, match=r"100 bytes \(max_message"):
            gunzip(packed, 100)
    else:
        assert gunzip(packed, 100) == bytes(size)


def test_something_after_the_packed_message_is_refused() -> None:
    with pytest.raises(UpstreamProtocolError, match="tail"):
        gunzip(gzip.compress(b"x") + b"y", 100)
