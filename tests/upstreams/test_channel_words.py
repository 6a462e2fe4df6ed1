"""What is said to a channel's caller, and what of their words goes out."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.grpc_metadata import encode_metadata
from silence_gateway.core.status import Code
from silence_gateway.errors import (
    RpcError,
    UpstreamFault,
    UpstreamProtocolError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from silence_gateway.rpc_words import as_text
from silence_gateway.upstreams.channel_words import WordsOfGrpcio, as_rpc_error, to_wire
from silence_gateway.upstreams.connect_clients import _metadata
from silence_gateway.upstreams.connectivity import Connectivity

names = st.from_regex(r"x-[a-z0-9_.-]{0,20}", fullmatch=True).filter(lambda name: not name.endswith("-bin"))
texts = st.tuples(names, st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20))
binaries = st.tuples(names.map(lambda name: f"{name}-bin"), st.binary(max_size=20))


@given(st.lists(texts | binaries, max_size=8))
def test_metadata_comes_back_as_it_was_written(pairs: list[tuple[str, str | bytes]]) -> None:
    wire = to_wire(pairs)

    assert as_text(wire) == tuple(pairs)
    encode_metadata(wire)
    assert to_wire(dict(pairs)) == to_wire(list(dict(pairs).items()))


@given(st.lists(st.tuples(st.binary(max_size=9), st.binary(max_size=9)), max_size=5))
def test_whatever_an_upstream_sends_can_be_read(pairs: list[tuple[bytes, bytes]]) -> None:
    assert len(as_text(pairs)) == len(pairs)


@given(st.binary(max_size=40), st.booleans())
def test_headers_of_connect_in_bin_are_base64_with_or_without_its_end(value: bytes, padded: bool) -> None:
    written = b64encode(value).decode()

    assert _metadata({"X-A-Bin": written if padded else written.rstrip("=")}) == [("x-a-bin", value)]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (UpstreamUnavailable("no"), Code.UNAVAILABLE),
        (UpstreamTimeout("late"), Code.DEADLINE_EXCEEDED),
        (UpstreamProtocolError("odd"), Code.INTERNAL),
    ],
)
def test_faults_of_the_way_are_statuses_with_a_cause(fault: UpstreamFault, code: Code) -> None:
    fault.endpoint = "10.0.0.1:1"

    error = as_rpc_error(fault)

    assert (error.code, error.__cause__, error.endpoint) == (code, fault, "10.0.0.1:1")
    assert as_rpc_error(error) is error


@pytest.mark.parametrize("code", list(Code))
def test_grpcio_has_a_word_for_each_of_ours(code: Code) -> None:
    words = WordsOfGrpcio()

    assert (words.code(code).value[0], words.code(code).name) == (code, code.name)
    if code:
        theirs = words.error(RpcError(code, "why", status_details=b"x"))
        assert theirs.__cause__ is not None
    assert {words.connectivity(each).name for each in Connectivity} == {each.name for each in Connectivity}
