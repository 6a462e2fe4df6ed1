"""Metadata: what we send is legal or refused, what we read never fails."""

from __future__ import annotations

import hpack as reference
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.core.grpc_metadata import (
    decode_binary,
    decode_message,
    decode_metadata,
    encode_message,
    encode_metadata,
)
from silence_gateway.errors import BadRequest

KEYS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.", min_size=1, max_size=12).map(
    lambda text: b"x-" + text.encode()
)
TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=200).map(str.encode)
PAIRS = st.lists(
    st.one_of(
        st.tuples(KEYS.filter(lambda key: not key.endswith(b"-bin")), TEXT),
        st.tuples(KEYS.map(lambda key: key + b"-bin"), st.binary(max_size=200)),
    ),
    max_size=8,
)


def travelled(block: bytes) -> list[tuple[bytes, bytes]]:
    return [(bytes(name), bytes(value)) for name, value in reference.Decoder().decode(block, raw=True)]


@settings(deadline=None)
@given(pairs=PAIRS)
def test_metadata_comes_back_in_order(pairs: list[tuple[bytes, bytes]]) -> None:
    assert decode_metadata(travelled(encode_metadata(pairs))) == tuple(pairs)


@settings(deadline=None)
@given(pairs=st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), max_size=4))
def test_whatever_is_given_is_sent_legally_or_refused(pairs: list[tuple[bytes, bytes]]) -> None:
    try:
        block = encode_metadata(pairs)
    except BadRequest:
        return
    for name, value in travelled(block):
        assert name == name.lower()
        assert all(0x20 <= byte <= 0x7E for byte in name + value)


@pytest.mark.parametrize(
    "name", [b":path", b"grpc-timeout", b"te", b"host", b"content-length", b"connection", b"user-agent"]
)
def test_names_of_the_protocol_are_neither_sent_nor_shown(name: bytes) -> None:
    assert encode_metadata([(name, b"x")]) == b""
    assert decode_metadata([(name, b"x")]) == ()


def test_what_applications_say_under_a_grpc_name_stays() -> None:
    pairs = [(b"grpc-retry-pushback-ms", b"20")]

    assert decode_metadata(travelled(encode_metadata(pairs))) == tuple(pairs)


@pytest.mark.parametrize(
    "pair", [(b"Upper", b"x"), (b"sp ace", b"x"), (b"", b"x"), (b"x", b"a\r\nb"), (b"x", b"\xe9")]
)
def test_what_grpc_forbids_is_refused(pair: tuple[bytes, bytes]) -> None:
    with pytest.raises(BadRequest, match="metadata"):
        encode_metadata([pair])


def test_too_much_is_refused() -> None:
    with pytest.raises(BadRequest, match="above 65536"):
        encode_metadata([(b"x", b"y" * 70_000)])


@settings(deadline=None)
@given(value=st.binary(max_size=100))
def test_binary_values_may_be_padded_or_not(value: bytes) -> None:
    (_, written) = travelled(encode_metadata([(b"x-bin", value)]))[0]
    padded = written + b"=" * (-len(written) % 4)

    assert decode_binary(written) == decode_binary(padded) == value
    assert decode_metadata([(b"x-bin", written + b"," + padded)]) == ((b"x-bin", value), (b"x-bin", value))


def test_what_is_not_base64_is_shown_as_it_is() -> None:
    assert decode_binary(b"!!") == b"!!"
    assert decode_binary(b"a") == b"a"


@settings(deadline=None)
@given(text=st.text(max_size=60))
def test_messages_come_back(text: str) -> None:
    written = encode_message(text)

    assert all(0x20 <= byte <= 0x7E for byte in written)
    assert decode_message(written) == text.encode("utf-8", "replace").decode()


@settings(deadline=None)
@given(value=st.binary(max_size=60))
def test_reading_a_message_never_fails(value: bytes) -> None:
    assert isinstance(decode_message(value), str)


def test_broken_escapes_are_shown_as_they_are() -> None:
    assert decode_message(b"100%") == "100%"
    assert decode_message(b"%zz%41") == "%zzA"
    assert decode_message(b"%ff") == "�"
