"""Rich details of an error, whatever made the bytes."""

from __future__ import annotations

import pytest
from google.protobuf import any_pb2, wrappers_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st
from protobuf.wkt.google.protobuf import duration_pb, wrappers_pb

from silence_gateway.errors import RpcError
from silence_gateway.rpc_details import details_in


def status(*messages: Message) -> bytes:
    made = status_pb2.Status(code=8, message="too much ü")
    for message in messages:
        packed = any_pb2.Any()
        packed.Pack(message)
        made.details.append(packed)
    written: bytes = made.SerializeToString()
    return written


def test_details_are_found_by_their_class() -> None:
    delay = error_details_pb2.RetryInfo()
    delay.retry_delay.seconds = 3
    one, two = wrappers_pb2.StringValue(value="one"), wrappers_pb2.StringValue(value="two")
    error = RpcError(8, status_details=status(one, delay, two))

    assert error.rich_details(error_details_pb2.RetryInfo) == [delay]
    assert error.rich_details(wrappers_pb2.StringValue) == [one, two]
    assert [each.value for each in error.rich_details(wrappers_pb.StringValue)] == ["one", "two"]
    assert error.rich_details(duration_pb.Duration) == []
    assert RpcError(8).rich_details(duration_pb.Duration) == []


def test_only_message_classes_can_be_asked_for() -> None:
    with pytest.raises(TypeError, match="no message class"):
        RpcError(8).rich_details(str)


@given(st.binary(max_size=60))
def test_broken_bytes_hide_no_error(data: bytes) -> None:
    assert details_in(b"\x1a" + data, duration_pb.Duration) == []


@given(st.integers(0, 200))
def test_what_is_cut_off_is_read_up_to_there(length: int) -> None:
    whole = status(*[wrappers_pb2.BytesValue(value=bytes([n]) * 3) for n in range(3)])

    found = details_in(whole[:length], wrappers_pb2.BytesValue)

    assert [each.value[0] for each in found] == [0, 1, 2][: len(found)]
    assert (len(found) == 3) == (length >= len(whole))


@given(st.lists(st.tuples(st.sampled_from([0x08, 0x09, 0x0D]), st.integers(0, 2**63)), max_size=5))
def test_fields_that_are_numbers_are_passed_over(numbers: list[tuple[int, int]]) -> None:
    written = b"".join(
        bytes([tag])
        + (_varint(value) if tag == 0x08 else (value % 2**31).to_bytes(8 if tag == 0x09 else 4, "little"))
        for tag, value in numbers
    )

    found = details_in(written + status(wrappers_pb2.BoolValue(value=True)), wrappers_pb2.BoolValue)

    assert found == [wrappers_pb2.BoolValue(value=True)]


def _varint(value: int) -> bytes:
    written = b""
    while value > 0x7F:
        written += bytes([value & 0x7F | 0x80])
        value >>= 7
    return written + bytes([value])
