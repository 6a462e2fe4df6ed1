"""grpc-timeout: eight digits at most, never shorter than what remains, never zero."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.core.grpc_timeout import decode_timeout, encode_timeout


@settings(deadline=None)
@given(remaining_s=st.floats(1e-9, 3e11))
def test_what_is_written_is_at_least_what_remains_and_close_to_it(remaining_s: float) -> None:
    written = encode_timeout(remaining_s)

    assert 2 <= len(written) <= 9
    read_us = decode_timeout(written)
    assert read_us >= 1
    assert read_us >= remaining_s * 1e6 * (1 - 1e-12)
    assert read_us <= remaining_s * 1e6 * 1.0001 + 1


@pytest.mark.parametrize(
    ("remaining_s", "written"),
    [
        (5.0, b"5000000u"),
        (1e-9, b"1u"),
        (0.0, b"1u"),
        (-3.0, b"1u"),
        (99.999999, b"99999999u"),
        (100.0, b"100000m"),
        (99_999.9991, b"100000S"),
        (1e9, b"16666667M"),
        (1e20, b"99999999H"),
    ],
)
def test_units_grow_only_when_digits_run_out(remaining_s: float, written: bytes) -> None:
    assert encode_timeout(remaining_s) == written


@pytest.mark.parametrize(
    ("value", "microseconds"),
    [
        (b"1H", 3_600_000_000),
        (b"2M", 120_000_000),
        (b"3S", 3_000_000),
        (b"4m", 4_000),
        (b"5u", 5),
        (b"1n", 1),
    ],
)
def test_every_unit_is_read(value: bytes, microseconds: int) -> None:
    assert decode_timeout(value) == microseconds


@pytest.mark.parametrize("value", [b"", b"5", b"m", b"5x", b"-5m", b"123456789m", b"1.5S", b" 5m", b"\xb2m"])
def test_anything_else_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match="grpc-timeout"):
        decode_timeout(value)
