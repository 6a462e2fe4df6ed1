"""
The `grpc-timeout` header: at most eight digits and a unit.

Pure. `m` is milliseconds and `M` is minutes; we round up and never write zero, because a deadline
that is still in the future must not arrive as one that has passed.
"""

from __future__ import annotations

MAX_DIGITS = 99_999_999

_UNITS_US = {b"u": 1, b"m": 1_000, b"S": 1_000_000, b"M": 60_000_000, b"H": 3_600_000_000}
_COARSER = ((b"%dm", 1_000), (b"%dS", 1_000_000), (b"%dM", 60_000_000), (b"%dH", 3_600_000_000))


def encode_timeout(remaining_s: float) -> bytes:
    """Write *remaining_s* seconds, rounded up; what is not positive counts as a microsecond."""
    remaining_us = -int(-remaining_s * 1_000_000 // 1) if remaining_s > 0 else 1
    if remaining_us <= MAX_DIGITS:
        return b"%du" % remaining_us
    for form, unit_us in _COARSER:
        count = -(-remaining_us // unit_us)
        if count <= MAX_DIGITS:
            return form % count
    return b"%dH" % MAX_DIGITS


def decode_timeout(value: bytes) -> int:
    """
    Read a timeout, in microseconds; nanoseconds are rounded up.

    Raises:
        ValueError: If it is not one to eight digits and a unit of `HMSmun`.
    """
    digits, unit = value[:-1], value[-1:]
    if not (1 <= len(digits) <= 8 and digits.isdigit()):
        raise ValueError(f"grpc-timeout {value!r} is not one to eight digits and a unit")
    if unit == b"n":
        return -(-int(digits) // 1_000)
    if unit not in _UNITS_US:
        raise ValueError(f"grpc-timeout {value!r} has no unit of H, M, S, m, u or n")
    return int(digits) * _UNITS_US[unit]
