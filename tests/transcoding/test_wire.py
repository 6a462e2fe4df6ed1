"""The protobuf messages that are read by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.transcoding.wire import (
    bytes_of,
    read_fields,
    read_varint,
    text_of,
    write_bytes,
    write_varint,
)


@given(st.lists(st.tuples(st.integers(1, 2**29 - 1), st.binary(max_size=200)), max_size=6))
@settings(max_examples=100)
def test_what_is_written_is_read(fields: list[tuple[int, bytes]]) -> None:
    data = b"".join(write_bytes(number, value) for number, value in fields)

    assert list(read_fields(data)) == fields


@given(st.integers(0, 2**64 - 1))
@settings(max_examples=100)
def test_numbers_are_read_as_written(number: int) -> None:
    written = write_varint(number)

    assert read_varint(written, 0) == (number, len(written))


def test_fixed_fields_are_numbers() -> None:
    assert list(read_fields(b"\x09\x01\x00\x00\x00\x00\x00\x00\x00\x0d\x02\x00\x00\x00\x08\x03")) == [
        (1, 1),
        (1, 2),
        (1, 3),
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a",
        b"\x0a\x05a",
        b"\x08",
        b"\x08\xff",
        b"\x0b",
        b"\x0e",
        b"\x00\x00",
        b"\x09\x00",
        b"\x08" + b"\xff" * 11,
    ],
)
def test_what_is_cut_off_or_unknown_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"protobuf"):
        list(read_fields(data))


def test_a_number_is_neither_text_nor_bytes() -> None:
    with pytest.raises(ValueError, match="string"):
        text_of(1)
    with pytest.raises(ValueError, match="bytes"):
        bytes_of(1)


@given(st.binary(max_size=40))
@settings(max_examples=200)
def test_any_bytes_are_fields_or_a_value_error(data: bytes) -> None:
    try:
        count = len(list(read_fields(data)))
    except ValueError:
        count = 0
    assert count <= len(data)
