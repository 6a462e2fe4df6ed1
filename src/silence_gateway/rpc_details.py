"""
The rich details of a failed call: a google.rpc.Status, read as far as it takes to hand its parts on.

Message classes of protobuf-py and of google.protobuf both work; neither is imported here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

T = TypeVar("T")


def details_in(status: bytes, kind: type[T]) -> list[T]:
    """
    Return the details of type *kind* that *status*, a serialised google.rpc.Status, carries.

    Where *status* is broken it is read up to there: an error that has a reason is not to be hidden by one in
    its details.

    Raises:
        TypeError: *kind* is no message class.
        Exception: Whatever *kind* raises for bytes that are none of its own.
    """
    name, read = _reader_of(kind)
    found: list[T] = []
    for number, packed in _fields(status):
        if number == 3:
            fields = dict(_fields(packed))
            if fields.get(1, b"").rpartition(b"/")[2] == name:
                found.append(read(fields.get(2, b"")))
    return found


def _reader_of(kind: Any) -> tuple[bytes, Any]:
    """Return the full name of a message class, and what turns bytes into one."""
    if hasattr(kind, "from_binary"):
        return kind.desc().type_name.encode(), kind.from_binary
    if hasattr(kind, "FromString"):
        return kind.DESCRIPTOR.full_name.encode(), kind.FromString
    raise TypeError(f"{kind!r} is no message class of protobuf-py or google.protobuf")


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the number and the bytes of every field that has bytes, up to where *data* is no message."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        wire_type = tag & 7
        if wire_type == 2:
            size, place = _varint(data, place)
            if place + size > len(data):
                return
            yield tag >> 3, data[place : place + size]
            place += size
        elif wire_type == 0:
            _, place = _varint(data, place)
        elif wire_type in (1, 5):
            place += 8 if wire_type == 1 else 4
        else:
            return


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Return a number and where it ends; beyond *data* if it does not."""
    value = shift = 0
    while place < len(data):
        byte = data[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    return value, len(data) + 1
