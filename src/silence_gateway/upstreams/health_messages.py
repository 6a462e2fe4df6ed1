"""
The two messages of `grpc.health.v1`, one field each and written by hand.

Whatever cannot be read says nothing, and in particular nothing against anybody.
"""

from __future__ import annotations

NOT_SERVING = 2


def check_request(service: str) -> bytes:
    """Return a HealthCheckRequest for *service*: field 1, a string, absent when empty."""
    name = service.encode()
    return b"\x0a" + varint(len(name)) + name if name else b""


def says_not_serving(message: bytes) -> bool:
    """
    Return whether a HealthCheckResponse says NOT_SERVING (field 1, an enum; the last one counts).

    Anything that cannot be read says nothing.
    """
    status, at = 0, 0
    while at < len(message):
        key, at = read_varint(message, at)
        kind = key & 7
        if kind == 0:
            value, at = read_varint(message, at)
            if key >> 3 == 1:
                status = value
        elif kind == 2:
            length, at = read_varint(message, at)
            at += length
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            return False
        if at > len(message):
            return False
    return status == NOT_SERVING


def varint(number: int) -> bytes:
    """Return *number* in base 128, lowest group first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def read_varint(message: bytes, at: int) -> tuple[int, int]:
    """Return the number at *at* and where it ends; beyond the end of *message* if it is cut short."""
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    return number, len(message) + 1
