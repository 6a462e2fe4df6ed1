"""A message that cannot be read is the upstream's fault, and the call says so."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.core.grpc_messages import framed
from silence_gateway.errors import RpcError, UpstreamProtocolError
from silence_gateway.upstreams.grpc_messages import MessageReader


def packed(content: bytes) -> bytes:
    """Frame *content* as a compressed message."""
    return framed(content, packed=True)


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


@pytest.mark.parametrize(
    ("encoding", "wire", "kind", "text"),
    [
        (b"gzip", framed(bytes(101)), RpcError, "the upstream's message of 101 bytes is above 100 bytes"),
        (
            b"gzip",
            packed(gzip.compress(bytes(101))),
            RpcError,
            r"than 100 bytes \(max_message of the upstream\)",
        ),
        (b"gzip", packed(gzip.compress(b"x") + b"y"), UpstreamProtocolError, "cut off or has a tail"),
        (b"gzip", packed(b"no"), UpstreamProtocolError, "not gzip"),
        (b"", packed(b"no"), RpcError, "the upstream sent a compressed message without naming"),
        (
            b"br",
            packed(b"no"),
            RpcError,
            "the upstream compressed with 'br'; only gzip, deflate and zstd were offered",
        ),
        (b"", b"\x02\0\0\0\0", UpstreamProtocolError, "first byte is 2"),
    ],
)
def test_a_broken_message_is_the_upstreams_fault(
    encoding: bytes, wire: bytes, kind: type[Exception], text: str
) -> None:
    reader = MessageReader(encoding, 100)
    with pytest.raises(kind, match=text):
        reader.unpack(reader.feed(wire)[0])
