"""Blocks of answers: the quick way and the general one agree, and errors fit into what a client takes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.core import h2_frames as h2
from silence_gateway.core.grpc_messages import framed
from silence_gateway.core.hpack import BlockReader, HeaderPairs
from silence_gateway.core.status import Code
from silence_gateway.edge.grpc_answers import (
    HEAD_BLOCK,
    OK_BLOCK,
    Metadata,
    Status,
    answer_head,
    answer_tail,
    error_block,
    list_size,
    metadata_block,
)
from silence_gateway.errors import RpcError


def read(block: bytes) -> HeaderPairs:
    reader: BlockReader[HeaderPairs] = BlockReader(lambda pairs: pairs)
    return reader.read(block)


@pytest.mark.parametrize("size", [0, 1, 200, 16_379])
def test_the_quick_answer_is_what_the_general_one_would_be(size: int) -> None:
    message = bytes(size)
    quick = answer_head(77, size) + message + answer_tail(77)

    assert quick == (
        h2.headers_frames(77, HEAD_BLOCK, end_stream=False, max_frame_size=16_384)
        + h2.data_frames(77, framed(message), end_stream=False, max_frame_size=16_384)
        + h2.headers_frames(77, OK_BLOCK, end_stream=True, max_frame_size=16_384)
    )


metadata = st.lists(
    st.one_of(
        st.tuples(st.just(b"x-a"), st.sampled_from([b"", b"b", b"y" * 300])),
        st.tuples(st.just(b"x-bin"), st.binary(max_size=300)),
    ),
    max_size=4,
)


@settings(deadline=None)
@given(
    text=st.text(max_size=300),
    details=st.binary(max_size=300),
    metadata=metadata,
    alone=st.booleans(),
    limit=st.integers(150, 3_000),
)
def test_an_error_always_fits_and_keeps_its_code(
    text: str, details: bytes, metadata: Metadata, alone: bool, limit: int
) -> None:
    status = Status(Code.NOT_FOUND, text, metadata, details)

    pairs = read(error_block(status, alone=alone, limit=limit))

    assert sum(len(name) + len(value) + 32 for name, value in pairs) <= limit
    assert dict(pairs)[b"grpc-status"] == b"5"
    assert (pairs[0] == (b":status", b"200")) is alone


def test_a_text_of_any_length_is_cut() -> None:
    pairs = dict(read(error_block(Status(Code.INTERNAL, "x" * 100_000), alone=True, limit=2**31)))

    assert len(pairs[b"grpc-message"]) == 2_048


def test_binary_values_count_as_what_they_are_sent_as() -> None:
    for size in range(10):
        pairs = read(metadata_block([(b"x-bin", bytes(size))], 1_000))
        assert list_size([(b"x-bin", bytes(size))]) >= list_size([(b"xxbin", pairs[0][1])])
    with pytest.raises(RpcError, match="more than this client takes"):
        metadata_block([(b"x-bin", bytes(900))], 1_000)
