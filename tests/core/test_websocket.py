"""Frames that we write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close, Frame, Opcode

from silence_gateway.core.websocket import (
    BINARY,
    TEXT,
    apply_mask,
    binary_frame,
    close_frame,
    close_payload,
    is_close_code,
    masked_frame,
    ping_frame,
    pong_frame,
    text_frame,
)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 100_000])
def test_our_frames_are_those_of_another_implementation(size: int) -> None:
    payload = b"x" * size

    assert text_frame(payload) == Frame(Opcode.TEXT, payload).serialize(mask=False)
    assert binary_frame(payload) == Frame(Opcode.BINARY, payload).serialize(mask=False)


def test_control_frames_are_those_of_another_implementation() -> None:
    assert ping_frame(b"a") == Frame(Opcode.PING, b"a").serialize(mask=False)
    assert pong_frame() == Frame(Opcode.PONG, b"").serialize(mask=False)
    closing = Frame(Opcode.CLOSE, Close(3008, "slow").serialize())
    assert close_frame(3008, "slow") == closing.serialize(mask=False)


def test_a_control_frame_cannot_be_large() -> None:
    with pytest.raises(ValueError, match="at most 125"):
        ping_frame(b"x" * 126)


@given(st.text(max_size=300))
def test_a_long_reason_is_cut_at_a_character(reason: str) -> None:
    said = close_payload(1000, reason)

    assert len(said) <= 125
    assert reason.startswith(said[2:].decode())
    assert said[2:].decode() == reason or len(said) > 121


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, -1])
def test_some_codes_are_never_on_the_wire(code: int) -> None:
    assert not is_close_code(code)
    with pytest.raises(ValueError, match="is not a close code"):
        close_frame(code)


@given(
    st.one_of(st.binary(max_size=300), st.binary(min_size=4096, max_size=4200)),
    st.binary(min_size=4, max_size=4),
)
def test_a_mask_is_put_on_byte_by_byte_and_comes_off_again(data: bytes, mask: bytes) -> None:
    masked = apply_mask(data, mask)

    assert masked == bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
    assert apply_mask(masked, mask) == data


def test_a_client_frame_has_its_mask_and_its_bits() -> None:
    frame = masked_frame(TEXT, b"ab", b"\1\2\3\4", fin=False, rsv=4)

    assert frame == bytes([0x41, 0x82, 1, 2, 3, 4, ord("a") ^ 1, ord("b") ^ 2])
    assert masked_frame(BINARY, b"x" * 70_000, b"\0\0\0\0")[:2] == bytes([0x82, 0xFF])
