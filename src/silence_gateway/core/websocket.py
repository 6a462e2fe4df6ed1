"""
WebSocket frames as bytes (RFC 6455): what we write, and what both sides agree on.

Nothing here awaits or reads a clock, and randomness is an argument. Reading frames is
`websocket_reader.py`, the opening handshake `websocket_handshake.py`, the socket `edge/websocket.py`.

A server's frames are not masked, so one encoded frame may be written to any number of clients:
encode once, write to all. `text_frame` of 200 bytes costs about 0.3 us.
"""

from __future__ import annotations

CONTINUATION = 0x0
TEXT = 0x1
BINARY = 0x2
CLOSE = 0x8
PING = 0x9
PONG = 0xA

NORMAL_CLOSURE = 1000
GOING_AWAY = 1001
PROTOCOL_ERROR = 1002
NO_CODE = 1005  # never on the wire: the peer's close frame was empty
BROKEN_OFF = 1006  # never on the wire: the connection ended without a close frame
BAD_PAYLOAD = 1007
MESSAGE_TOO_BIG = 1009

MAX_CONTROL_BYTES = 125
"""A control frame carries no more than this (RFC 6455 section 5.5)."""

FIN = 0x80
SMALL_TEXT_HEADS = [bytes((FIN | TEXT, size)) for size in range(126)]


def text_frame(payload: bytes) -> bytes:
    """Return one whole text message, *payload* being UTF-8, as a server sends it."""
    size = len(payload)
    if size < 126:
        return SMALL_TEXT_HEADS[size] + payload
    return frame_head(FIN | TEXT, size) + payload


def binary_frame(payload: bytes) -> bytes:
    """Return one whole binary message as a server sends it."""
    return frame_head(FIN | BINARY, len(payload)) + payload


def ping_frame(payload: bytes = b"") -> bytes:
    """
    Return a ping; the peer answers with a pong of the same payload.

    Raises:
        ValueError: If *payload* is above 125 bytes.
    """
    return control_frame(PING, payload)


def pong_frame(payload: bytes = b"") -> bytes:
    """
    Return the answer to a ping of *payload*.

    Raises:
        ValueError: If *payload* is above 125 bytes.
    """
    return control_frame(PONG, payload)


def close_frame(code: int, reason: str = "") -> bytes:
    """
    Return a close frame. A *reason* above 123 bytes of UTF-8 is cut at a character.

    Raises:
        ValueError: If *code* may not be on the wire.
    """
    return control_frame(CLOSE, close_payload(code, reason))


def close_payload(code: int, reason: str) -> bytes:
    """
    Return what a close frame carries.

    Raises:
        ValueError: If *code* may not be on the wire.
    """
    if not is_close_code(code):
        raise ValueError(f"{code} is not a close code; use 1000 to 1003, 1007 to 1014 or 3000 to 4999")
    said = reason.encode(errors="replace")
    if len(said) > MAX_CONTROL_BYTES - 2:
        # Cutting may split a character: decoding drops its first half.
        said = said[: MAX_CONTROL_BYTES - 2].decode(errors="ignore").encode()
    return code.to_bytes(2, "big") + said


def is_close_code(code: int) -> bool:
    """Whether *code* may be in a close frame (RFC 6455 section 7.4, and IANA's list for 1012 to 1014)."""
    return 3000 <= code <= 4999 or 1000 <= code <= 1003 or 1007 <= code <= 1014


def control_frame(opcode: int, payload: bytes) -> bytes:
    """
    Return a control frame as a server sends it.

    Raises:
        ValueError: If *payload* is above 125 bytes.
    """
    if len(payload) > MAX_CONTROL_BYTES:
        raise ValueError(f"a control frame carries at most {MAX_CONTROL_BYTES} bytes, not {len(payload)}")
    return bytes((FIN | opcode, len(payload))) + payload


def frame_head(first: int, size: int, mask_bit: int = 0) -> bytes:
    """Return the head of a frame whose first byte is *first* and whose payload is *size* bytes."""
    if size < 126:
        return bytes((first, mask_bit | size))
    if size < 65536:
        return bytes((first, mask_bit | 126)) + size.to_bytes(2, "big")
    return bytes((first, mask_bit | 127)) + size.to_bytes(8, "big")


def masked_frame(opcode: int, payload: bytes, mask: bytes, *, fin: bool = True, rsv: int = 0) -> bytes:
    """
    Return a frame as a client sends it, for tests and benchmarks.

    Args:
        opcode: Any number from 0 to 15, also those that mean nothing.
        payload: Not masked yet.
        mask: Four bytes; random where it matters.
        fin: Whether this is the last frame of its message.
        rsv: The three reserved bits, 0 to 7.
    """
    first = (FIN if fin else 0) | rsv << 4 | opcode
    return frame_head(first, len(payload), 0x80) + mask + apply_mask(payload, mask)


def apply_mask(data: bytes | bytearray | memoryview, mask: bytes) -> bytes:
    """
    Return *data* with the four bytes of *mask* put on it, or taken off.

    Two ways, both in C: one exclusive-or of long integers (0.7 us for 200 bytes), which Python makes
    slowly when they are huge, or a table for each of the four lanes (100 us for 64 KiB, not 170).
    """
    size = len(data)
    if size < LANES_FROM:
        pattern = (mask * (size // 4 + 1))[:size]
        return (int.from_bytes(data, "little") ^ int.from_bytes(pattern, "little")).to_bytes(size, "little")
    plain = bytes(data)
    out = bytearray(size)
    for lane in range(4):
        out[lane::4] = plain[lane::4].translate(XOR_TABLES[mask[lane]])
    return bytes(out)


LANES_FROM = 4096
XOR_TABLES = [bytes(byte ^ key for byte in range(256)) for key in range(256)]
