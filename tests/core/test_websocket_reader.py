"""Frames that we read: whole, cut anywhere, and broken."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    close_payload,
    masked_frame,
)
from silence_gateway.core.websocket_reader import MAX_FRAGMENTS, FrameEvent, FrameReader, read_close

MASK = b"\x37\xfa\x21\x3d"
LIMIT = 70_000


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    return masked_frame(opcode, payload, MASK, fin=fin)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(marks)]


payloads = st.one_of(st.binary(max_size=200), st.integers(126, 66_000).map(lambda size: b"y" * size))
texts = st.text(max_size=60).map(str.encode)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[bytes, list[FrameEvent]]:
    """Return valid frames and the events that they must become."""
    wire = b""
    events: list[FrameEvent] = []
    for _ in range(draw(st.integers(1, 5))):
        opcode = draw(st.sampled_from([TEXT, BINARY, PING, PONG]))
        if opcode in {PING, PONG}:
            payload = draw(st.binary(max_size=125))
            wire += frame(opcode, payload)
            events.append((opcode, payload))
            continue
        payload = draw(texts if opcode == TEXT else payloads)
        pieces = cut(payload, draw(st.lists(st.integers(0, 300), max_size=3)))
        for index, piece in enumerate(pieces):
            wire += frame(CONTINUATION if index else opcode, piece, fin=index == len(pieces) - 1)
            if index < len(pieces) - 1 and draw(st.booleans()):
                wire += frame(PING, b"between")
                events.append((PING, b"between"))
        events.append((opcode, payload))
    return wire, events


@given(conversations(), st.lists(st.integers(0, 100_000), max_size=8))
def test_what_was_written_is_read_however_it_is_cut(
    conversation: tuple[bytes, list[FrameEvent]], places: list[int]
) -> None:
    wire, expected = conversation
    reader = FrameReader(LIMIT)

    events = [event for piece in cut(wire, places) for event in reader.feed(piece)]

    assert events == expected
    assert reader.failure is None
    assert reader.held is None


@given(st.lists(st.binary(max_size=40), max_size=10), st.lists(st.integers(0, 400), max_size=6))
def test_any_bytes_are_read_or_refused_the_same_however_they_are_cut(
    pieces: list[bytes], places: list[int]
) -> None:
    wire = b"".join(pieces)
    whole = FrameReader(50)
    parts = FrameReader(50)

    expected = whole.feed(wire)
    events = [event for piece in cut(wire, places) for event in parts.feed(piece)]

    assert events == expected
    assert parts.failure == whole.failure
    # A control frame may have 125 bytes, however small messages must be.
    assert len(parts.held or b"") <= 125 + 14


@given(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=30))
def test_a_frame_of_any_head_is_read_or_refused(first: int, second: int, rest: bytes) -> None:
    reader = FrameReader(20)

    events = reader.feed(bytes((first, second)) + rest)

    if reader.failure is not None:
        assert reader.failure.code in {1002, 1007, 1009}
        assert events == [] or events[0][1] is not None
        assert reader.feed(frame(TEXT, b"x")) == []


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        pytest.param(b"\x81\x01a", 1002, id="not-masked"),
        pytest.param(masked_frame(TEXT, b"a", MASK, rsv=4), 1002, id="compressed-unasked"),
        pytest.param(masked_frame(TEXT, b"a", MASK, rsv=1), 1002, id="reserved-bit"),
        pytest.param(frame(3, b"a"), 1002, id="opcode-3"),
        pytest.param(frame(11, b"a"), 1002, id="opcode-11"),
        pytest.param(frame(PING, b"a", fin=False), 1002, id="ping-in-parts"),
        pytest.param(frame(PING, b"a" * 126), 1002, id="large-ping"),
        pytest.param(frame(CONTINUATION, b"a"), 1002, id="continues-nothing"),
        pytest.param(frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), 1002, id="message-in-message"),
        pytest.param(frame(CLOSE, b"\x03"), 1002, id="half-a-code"),
        pytest.param(frame(CLOSE, (1006).to_bytes(2, "big")), 1002, id="code-1006"),
        pytest.param(frame(CLOSE, (5000).to_bytes(2, "big")), 1002, id="code-5000"),
        pytest.param(b"\x82\xfe\x00\x05" + MASK, 1002, id="long-form-of-5"),
        pytest.param(b"\x82\xff" + (300).to_bytes(8, "big") + MASK, 1002, id="longest-form-of-300"),
        pytest.param(frame(TEXT, b"\xff"), 1007, id="not-utf-8"),
        pytest.param(
            frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION, b"("), 1007, id="broken-over-frames"
        ),
        pytest.param(frame(CLOSE, b"\x03\xe8\xff"), 1007, id="reason-not-utf-8"),
        pytest.param(b"\x82\xff" + (2**63 + 5).to_bytes(8, "big") + MASK, 1009, id="endless-length"),
        pytest.param(b"\x82\xff" + (LIMIT + 1).to_bytes(8, "big") + MASK, 1009, id="declared-too-big"),
        pytest.param(
            frame(BINARY, b"a" * 40_000, fin=False) + frame(CONTINUATION, b"a" * 40_000),
            1009,
            id="grown-too-big",
        ),
        pytest.param(
            frame(BINARY, fin=False) + frame(CONTINUATION, fin=False) * MAX_FRAGMENTS,
            1009,
            id="fragments-without-end",
        ),
    ],
)
def test_what_breaks_a_rule_is_refused_with_the_right_code(wire: bytes, code: int) -> None:
    reader = FrameReader(LIMIT)

    events = reader.feed(frame(TEXT, b"before") + wire + frame(TEXT, b"after"))

    assert events == [(TEXT, b"before")]
    assert reader.failure is not None
    assert reader.failure.code == code
    assert reader.held is None
    assert reader.message is None


def test_a_character_may_be_cut_by_a_fragment() -> None:
    reader = FrameReader(LIMIT)

    events = reader.feed(frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION, b"\xa9"))

    assert events == [(TEXT, "é".encode())]


def test_nothing_is_read_after_a_close() -> None:
    reader = FrameReader(LIMIT)

    events = reader.feed(frame(CLOSE, close_payload(3000, "bye")) + frame(TEXT, b"more"))

    assert [read_close(payload) for _, payload in events] == [(3000, "bye")]
    assert reader.feed(frame(TEXT, b"more")) == []
    assert read_close(b"") == (1005, "")
