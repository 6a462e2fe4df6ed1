"""
The few protobuf messages that must be readable before any descriptor is known.

google.api.http rules, google.rpc.Status and server reflection are read field by field here, so that
they work whatever the descriptors of an upstream contain. Messages of callers never come here: those
go through protobuf-py.
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, GROUP, GROUP_END, FIXED32 = range(6)


def read_fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    """
    Yield number and value of each field: an int for varint and fixed fields, else bytes.

    Raises:
        ValueError: *data* is not a protobuf message, or uses groups.
    """
    at, end = 0, len(data)
    while at < end:
        tag, at = read_varint(data, at)
        number, kind = tag >> 3, tag & 7
        if not number:
            raise ValueError("field number 0 in a protobuf message")
        if kind == VARINT:
            value, at = read_varint(data, at)
            yield number, value
            continue
        if kind == BYTES:
            length, at = read_varint(data, at)
        elif kind in {FIXED64, FIXED32}:
            length = 8 if kind == FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind} in a protobuf message")
        stop = at + length
        if stop > end:
            raise ValueError("a protobuf message ends in the middle of a field")
        piece = data[at:stop]
        at = stop
        yield number, piece if kind == BYTES else int.from_bytes(piece, "little")


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """
    Return the number that starts at *at*, and where it ends.

    Raises:
        ValueError: It has no end, or more than ten bytes.
    """
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("a protobuf message ends in the middle of a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise ValueError("a number in a protobuf message has more than ten bytes")


def text_of(value: bytes | int) -> str:
    """
    Return a string field.

    Raises:
        ValueError: It is not a string field, or not UTF-8.
    """
    if isinstance(value, int):
        raise ValueError("a number where a protobuf string belongs")  # noqa: TRY004 - it is the data that is wrong
    return value.decode()


def bytes_of(value: bytes | int) -> bytes:
    """
    Return a bytes or message field.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(value, int):
        raise ValueError("a number where protobuf bytes belong")  # noqa: TRY004 - it is the data that is wrong
    return value


def write_bytes(number: int, value: bytes) -> bytes:
    """Write a string, bytes or message field."""
    return write_varint(number << 3 | BYTES) + write_varint(len(value)) + value


def write_varint(value: int) -> bytes:
    """Write a number that is not negative."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
