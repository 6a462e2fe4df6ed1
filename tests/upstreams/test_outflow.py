"""A large request is cut into views of itself, leaves in bounded steps, and keeps its place among others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core import h2_frames as h2
from silence_gateway.upstreams.outflow import MAX_BURST, MAX_FRAME, Outflow, Piece


class Written:
    """What an outflow wrote, and an outflow that writes here."""

    def __init__(self, window: int = h2.MAX_WINDOW, max_frame_size: int = h2.DEFAULT_FRAME_SIZE) -> None:
        self.pieces: list[Piece] = []
        self.outflow = Outflow(lambda *pieces: self.pieces.extend(pieces))
        self.outflow.window = h2.MAX_WINDOW
        self.outflow.resize(initial_window=window, max_frame_size=max_frame_size)

    def frames(self) -> list[h2.Frame]:
        reader = h2.FrameReader(h2.MAX_FRAME_SIZE)
        reader.feed(h2.settings_frame([]))  # which comes first, and is no larger than usual
        return reader.feed(b"".join(self.pieces))

    def content(self, stream: int) -> bytes:
        return b"".join(frame[3] for frame in self.frames() if frame[2] == stream)


def test_nothing_of_a_large_message_is_copied() -> None:
    message = bytes(10_000_000)
    written = Written()
    outbox = written.outflow.open(1)

    written.outflow.put(outbox, b"head!", message, end=True)
    while outbox.size:
        written.outflow.written()

    views = [piece for piece in written.pieces if isinstance(piece, memoryview)]
    assert all(view.obj is message for view in views)
    assert sum(len(view) for view in views) == len(message)
    assert written.frames()[-1][1] == h2.END_STREAM
    assert 1 not in written.outflow.outboxes


def test_no_more_is_written_than_the_socket_is_given_at_once() -> None:
    written = Written(max_frame_size=h2.MAX_FRAME_SIZE)
    outbox = written.outflow.open(1)

    written.outflow.put(outbox, bytes(10_000_000), end=True)

    for step in range(1, 5):
        so_far = sum(len(piece) for piece in written.pieces)
        assert (step - 1) * MAX_BURST < so_far < step * (MAX_BURST + MAX_FRAME)
        assert max(frame[4] for frame in written.frames()) == MAX_FRAME
        written.outflow.written()


def test_requests_take_turns() -> None:
    written = Written()
    first, second = written.outflow.open(1), written.outflow.open(3)
    written.outflow.paused = True
    written.outflow.put(first, bytes(100_000), end=True)
    written.outflow.put(second, bytes(100_000), end=True)

    written.outflow.paused = False
    written.outflow.pump()

    assert [frame[2] for frame in written.frames()][:6] == [1, 3, 1, 3, 1, 3]


@given(
    pieces=st.lists(st.binary(max_size=300), max_size=8),
    window=st.integers(0, 400),
    grants=st.lists(st.integers(1, 400), max_size=30),
    drains=st.booleans(),
)
def test_what_leaves_is_what_was_put_and_never_more_than_the_window(
    pieces: list[bytes], window: int, grants: list[int], *, drains: bool
) -> None:
    written = Written(window)
    outbox = written.outflow.open(1)
    for piece in pieces:
        written.outflow.put(outbox, piece)
    written.outflow.put(outbox, end=True)
    whole = b"".join(pieces)

    for grant in grants:
        assert len(written.content(1)) == min(window, len(whole))
        window += grant
        assert written.outflow.on_window_update(1, grant)
        if drains:
            written.outflow.written()

    sent = written.content(1)
    assert sent == whole[: len(sent)]
    assert len(sent) == min(window, len(whole))
    assert (written.frames()[-1][1] == h2.END_STREAM if written.pieces else False) == (
        len(sent) == len(whole)
    )
