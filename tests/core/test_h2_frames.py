"""Frames: what we write the reference reads, what it writes we read however it is cut, and rules are kept."""

from __future__ import annotations

from typing import Any

import pytest
from hyperframe import frame as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.core import h2_frames as h2
from silence_gateway.core.h2_frames import ErrorCode, FrameReader, H2Violation


def read_all(data: bytes, reader: FrameReader | None = None) -> list[h2.Frame]:
    reader = reader or FrameReader()
    frames = reader.feed(data)
    if reader.violation is not None:
        raise reader.violation
    return frames


def parsed(data: bytes) -> list[Any]:
    """Read *data* with the reference."""
    frames = []
    while data:
        frame, length = reference.Frame.parse_frame_header(memoryview(data[:9]))
        frame.parse_body(memoryview(data[9 : 9 + length]))
        frames.append(frame)
        data = data[9 + length :]
    return frames


STREAMS = st.integers(1, h2.MAX_STREAM_ID)


@st.composite
def reference_frames(draw: st.DrawFn) -> tuple[bytes, h2.Frame]:
    """A frame as the reference writes it, and what we should make of it."""
    stream = draw(STREAMS)
    content = draw(st.binary(max_size=50))
    padding = draw(st.integers(0, 20))
    kind = draw(st.sampled_from(["data", "headers", "settings", "ping", "goaway", "window", "reset"]))
    frame: reference.Frame
    if kind == "data":
        frame = reference.DataFrame(stream, content, flags=["END_STREAM", "PADDED"], pad_length=padding)
        return frame.serialize(), (h2.DATA, 0x9, stream, content, len(content) + padding + 1)
    if kind == "headers":
        frame = reference.HeadersFrame(
            stream, content, flags=["END_HEADERS", "PRIORITY", "PADDED"], pad_length=padding, depends_on=0
        )
        return frame.serialize(), (h2.HEADERS, 0x2C, stream, content, len(content) + padding + 6)
    if kind == "settings":
        values = draw(st.dictionaries(st.integers(1, 6), st.integers(0, 2**31), max_size=4))
        frame = reference.SettingsFrame(0, values)
        return frame.serialize(), (h2.SETTINGS, 0, 0, frame.serialize()[9:], 6 * len(values))
    if kind == "ping":
        frame = reference.PingFrame(0, b"12345678", flags=["ACK"])
        return frame.serialize(), (h2.PING, h2.ACK, 0, b"12345678", 8)
    if kind == "goaway":
        frame = reference.GoAwayFrame(0, stream, 2, content)
        return frame.serialize(), (h2.GOAWAY, 0, 0, frame.serialize()[9:], 8 + len(content))
    if kind == "window":
        frame = reference.WindowUpdateFrame(stream, window_increment=5)
        return frame.serialize(), (h2.WINDOW_UPDATE, 0, stream, b"\0\0\0\5", 4)
    frame = reference.RstStreamFrame(stream, 8)
    return frame.serialize(), (h2.RST_STREAM, 0, stream, b"\0\0\0\x08", 4)


@settings(deadline=None)
@given(frames=st.lists(reference_frames(), max_size=8), cuts=st.lists(st.integers(1, 40), max_size=30))
def test_frames_are_read_however_they_are_cut(frames: list[tuple[bytes, h2.Frame]], cuts: list[int]) -> None:
    data = b"".join(wire for wire, _ in frames)
    reader = FrameReader()
    got = []
    for cut in cuts:
        got += read_all(data[:cut], reader)
        data = data[cut:]
    got += read_all(data, reader)

    assert got == [meaning for _, meaning in frames]


@settings(max_examples=200, deadline=None)
@given(pieces=st.lists(st.binary(max_size=60), max_size=6))
def test_arbitrary_bytes_end_in_frames_or_one_violation(pieces: list[bytes]) -> None:
    reader = FrameReader()
    for piece in pieces:
        before = reader.violation
        frames = reader.feed(piece)
        assert before is None or not frames
        for kind, _, stream, content, _ in frames:
            assert 0 <= stream <= h2.MAX_STREAM_ID
            if kind == h2.SETTINGS:
                assert violation_code(content) in (
                    None,
                    ErrorCode.PROTOCOL_ERROR,
                    ErrorCode.FLOW_CONTROL_ERROR,
                )


def violation_code(content: bytes) -> ErrorCode | None:
    try:
        h2.read_settings(content)
    except H2Violation as violation:
        return violation.code
    return None


@settings(deadline=None)
@given(block=st.binary(max_size=200), stream=STREAMS, end=st.booleans(), size=st.integers(1, 80))
def test_header_blocks_survive_being_split(block: bytes, stream: int, end: bool, size: int) -> None:
    wire = h2.headers_frames(stream, block, end_stream=end, max_frame_size=size)
    if len(block) > 60 * size:
        return

    ((kind, flags, got_stream, got_block, length),) = read_all(wire)
    assert (kind, got_stream, got_block, length) == (h2.HEADERS, stream, block, len(block))
    assert bool(flags & h2.END_STREAM) is end
    assert flags & h2.END_HEADERS
    assert b"".join(frame.data for frame in parsed(wire)) == block


@settings(deadline=None)
@given(content=st.binary(max_size=300), stream=STREAMS, end=st.booleans(), size=st.integers(1, 80))
def test_data_survives_being_split(content: bytes, stream: int, end: bool, size: int) -> None:
    frames = parsed(h2.data_frames(stream, content, end_stream=end, max_frame_size=size))

    assert b"".join(frame.data for frame in frames) == content
    assert all(len(frame.data) <= size and frame.stream_id == stream for frame in frames)
    assert ["END_STREAM" in frame.flags for frame in frames] == [False] * (len(frames) - 1) + [end]


def test_the_reference_reads_our_small_frames() -> None:
    wire = (
        h2.settings_frame([(h2.Setting.INITIAL_WINDOW_SIZE, 99)])
        + h2.SETTINGS_ACK
        + h2.window_update_frame(3, 7)
        + h2.ping_frame(b"abcdefgh", ack=True)
        + h2.rst_stream_frame(5, ErrorCode.CANCEL)
        + h2.goaway_frame(9, ErrorCode.PROTOCOL_ERROR, b"why")
    )

    settings_, ack, window, ping, reset, goaway = parsed(wire)
    assert settings_.settings == {4: 99}
    assert "ACK" in ack.flags
    assert (window.stream_id, window.window_increment) == (3, 7)
    assert (ping.opaque_data, "ACK" in ping.flags) == (b"abcdefgh", True)
    assert (reset.stream_id, reset.error_code) == (5, 8)
    assert (goaway.last_stream_id, goaway.error_code, goaway.additional_data) == (9, 1, b"why")


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        pytest.param(h2.frame(h2.DATA, 0, 1, b"x" * 16_385), ErrorCode.FRAME_SIZE_ERROR, id="too-long"),
        pytest.param(h2.frame(h2.DATA, 0, 0), ErrorCode.PROTOCOL_ERROR, id="data-on-0"),
        pytest.param(h2.frame(h2.HEADERS, 4, 0), ErrorCode.PROTOCOL_ERROR, id="headers-on-0"),
        pytest.param(h2.frame(h2.SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR, id="settings-on-1"),
        pytest.param(h2.frame(h2.PING, 0, 1, b"8bytes!!"), ErrorCode.PROTOCOL_ERROR, id="ping-on-1"),
        pytest.param(h2.frame(h2.SETTINGS, 0, 0, b"12345"), ErrorCode.FRAME_SIZE_ERROR, id="settings-length"),
        pytest.param(
            h2.frame(h2.SETTINGS, 1, 0, b"123456"), ErrorCode.FRAME_SIZE_ERROR, id="ack-with-content"
        ),
        pytest.param(h2.frame(h2.PING, 0, 0, b"short"), ErrorCode.FRAME_SIZE_ERROR, id="ping-length"),
        pytest.param(h2.frame(h2.RST_STREAM, 0, 1, b"x"), ErrorCode.FRAME_SIZE_ERROR, id="reset-length"),
        pytest.param(h2.frame(h2.WINDOW_UPDATE, 0, 1, b"x"), ErrorCode.FRAME_SIZE_ERROR, id="window-length"),
        pytest.param(h2.frame(h2.GOAWAY, 0, 0, b"1234567"), ErrorCode.FRAME_SIZE_ERROR, id="goaway-length"),
        pytest.param(h2.frame(h2.PUSH_PROMISE, 4, 1, b"1234"), ErrorCode.PROTOCOL_ERROR, id="push"),
        pytest.param(h2.frame(h2.CONTINUATION, 4, 1), ErrorCode.PROTOCOL_ERROR, id="continuation-alone"),
        pytest.param(h2.frame(h2.DATA, 8, 1, b""), ErrorCode.FRAME_SIZE_ERROR, id="no-padding-length"),
        pytest.param(h2.frame(h2.DATA, 8, 1, b"\x05abc"), ErrorCode.PROTOCOL_ERROR, id="padding-too-long"),
        pytest.param(h2.frame(h2.HEADERS, 0x24, 1, b"1234"), ErrorCode.FRAME_SIZE_ERROR, id="priority-cut"),
        pytest.param(
            h2.frame(h2.HEADERS, 0, 1) + h2.frame(h2.PING, 0, 0, b"8bytes!!"),
            ErrorCode.PROTOCOL_ERROR,
            id="block-interrupted",
        ),
        pytest.param(
            h2.frame(h2.HEADERS, 0, 1) + h2.frame(h2.CONTINUATION, 4, 3),
            ErrorCode.PROTOCOL_ERROR,
            id="block-continued-elsewhere",
        ),
        pytest.param(
            h2.frame(h2.HEADERS, 0, 1) + h2.frame(h2.CONTINUATION, 0, 1) * 70,
            ErrorCode.ENHANCE_YOUR_CALM,
            id="endless-pieces",
        ),
        pytest.param(
            h2.frame(h2.HEADERS, 0, 1) + h2.frame(h2.CONTINUATION, 0, 1, b"x" * 16_384) * 9,
            ErrorCode.ENHANCE_YOUR_CALM,
            id="endless-block",
        ),
    ],
)
def test_broken_rules_are_named(wire: bytes, code: ErrorCode) -> None:
    with pytest.raises(H2Violation) as caught:
        read_all(wire)

    assert caught.value.code == code


@pytest.mark.parametrize("cut", [1, 8, 9, 10])
def test_a_frame_that_is_too_large_is_named_as_soon_as_its_head_is_there(cut: int) -> None:
    reader = FrameReader()
    wire = h2.frame(h2.DATA, 0, 1, bytes(h2.DEFAULT_FRAME_SIZE + 1))

    assert not reader.feed(wire[:cut])
    assert not reader.feed(wire[cut:10])
    assert reader.violation is not None
    assert reader.violation.code == ErrorCode.FRAME_SIZE_ERROR


def test_frames_before_a_violation_are_still_given() -> None:
    reader = FrameReader()

    frames = reader.feed(h2.ping_frame(b"12345678") + h2.frame(h2.DATA, 0, 0) + h2.ping_frame(b"12345678"))

    assert len(frames) == 1
    assert reader.violation is not None
    assert reader.feed(h2.ping_frame(b"12345678")) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [(h2.Setting.ENABLE_PUSH, 2), (h2.Setting.INITIAL_WINDOW_SIZE, 2**31), (h2.Setting.MAX_FRAME_SIZE, 100)],
)
def test_settings_out_of_range_are_refused(name: int, value: int) -> None:
    with pytest.raises(H2Violation):
        h2.read_settings(h2.settings_frame([(name, value)])[9:])


def test_error_codes_have_names() -> None:
    assert h2.error_name(8) == "CANCEL"
    assert h2.error_name(99) == "error 99"


def test_a_reader_knows_whether_something_is_unfinished() -> None:
    reader = FrameReader()
    head, ping = h2.frame(h2.HEADERS, 0, 1), h2.ping_frame(b"12345678")

    reader.feed(ping + head[:4])
    assert reader.unfinished
    reader.feed(head[4:])
    assert reader.unfinished, "the block has not ended"
    reader.feed(h2.frame(h2.CONTINUATION, h2.END_HEADERS, 1) + ping)
    assert not reader.unfinished


def test_the_first_frame_is_small_so_that_another_protocol_is_found_out_at_once() -> None:
    reader = FrameReader(131_072)

    assert reader.feed(b"\x00\xff" * 20) == []

    assert reader.violation is not None
    assert reader.violation.code is ErrorCode.FRAME_SIZE_ERROR


@pytest.mark.parametrize("size", [1, 7, 9, 100, 70_000, 200_000])
def test_once_greeted_frames_may_be_as_large_as_was_told_however_they_are_read(size: int) -> None:
    large = h2.frame(h2.DATA, 0, 1, bytes(100_000))
    sent = h2.frame(h2.SETTINGS, 0, 0, b"") + large
    reader = FrameReader(131_072)

    read = [one for at in range(0, len(sent), size) for one in reader.feed(sent[at : at + size])]

    assert reader.violation is None
    assert [one[0] for one in read] == [h2.SETTINGS, h2.DATA]
