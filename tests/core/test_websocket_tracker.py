"""Where frames end, however their bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.websocket import CLOSE, TEXT, binary_frame, close_frame, masked_frame
from silence_gateway.core.websocket_tracker import FrameTracker

sizes = st.sampled_from([0, 1, 125, 126, 127, 65_535, 65_536, 70_000])


def frames_of(sizes: list[int], masked: bool) -> list[bytes]:
    make = (lambda data: masked_frame(TEXT, data, b"abcd")) if masked else binary_frame
    return [make(b"x" * size) for size in sizes]


@given(st.lists(sizes, max_size=5), st.booleans(), st.lists(st.integers(1, 40_000), max_size=20))
def test_it_is_at_a_boundary_exactly_where_a_frame_has_ended(
    sizes: list[int], masked: bool, cuts: list[int]
) -> None:
    frames = frames_of(sizes, masked)
    wire, ends, at = b"".join(frames), {0}, 0
    for frame in frames:
        at += len(frame)
        ends.add(at)
    tracker, at = FrameTracker(), 0
    for cut in [*cuts, len(wire)]:
        piece = wire[at : at + cut]
        assert tracker.advance(piece) == len(piece)
        at += len(piece)
        assert tracker.at_boundary == (at in ends)
        assert not tracker.closed


@given(st.lists(sizes, min_size=1, max_size=4), st.booleans(), st.integers(1, 70_020), st.integers(1, 9))
def test_it_stops_at_the_end_of_the_frame_that_has_begun(
    sizes: list[int], masked: bool, begun: int, step: int
) -> None:
    frames = frames_of(sizes, masked)
    begun %= len(frames[0])
    wire = b"".join(frames)
    tracker = FrameTracker()
    tracker.advance(wire[:begun])

    taken = begun
    step *= 7001
    while not tracker.at_boundary:
        taken += tracker.advance(wire[taken : taken + step], stop=True)

    assert taken == (len(frames[0]) if begun else 0)
    assert tracker.advance(wire[taken:], stop=True) == 0


@pytest.mark.parametrize("frame", [close_frame(1000), masked_frame(CLOSE, b"", b"abcd")])
def test_a_close_frame_is_noticed(frame: bytes) -> None:
    tracker = FrameTracker()
    tracker.advance(binary_frame(b"x") + frame)

    assert tracker.closed
