"""Whatever a client sends, however it is cut: nothing crashes or is left, and sound calls are answered."""

from __future__ import annotations

import gzip
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.edge.http2_scene import BROKEN, CHAT, ECHO, LATER, PUSH, Scene, run, scene

from silence_gateway.core import h2_frames as h2
from silence_gateway.core.grpc_messages import framed
from silence_gateway.core.hpack import encode
from silence_gateway.edge.http2_link import LINGERING
from silence_gateway.testing.clock import settle
from silence_gateway.testing.h2_client import Pairs, call, data, head_of, headers

PATHS = st.sampled_from([ECHO, LATER, BROKEN, CHAT, PUSH, b"/no.Such/Method", b"*", b""])
STREAMS = st.one_of(st.integers(0, 12), st.sampled_from([2**31 - 1, 2**32 - 1]))


def pieces_of(wire: bytes, cuts: Sequence[int]) -> list[bytes]:
    """Cut *wire* at steps of *cuts*, which are used again and again."""
    pieces, at = [], 0
    for turn in range(len(wire)):
        if at >= len(wire):
            break
        step = cuts[turn % len(cuts)] if cuts else len(wire)
        pieces.append(wire[at : at + step])
        at += step
    return pieces


@st.composite
def strange_frames(draw: st.DrawFn) -> bytes:
    """A frame that is anything from sound to nonsense."""
    stream = draw(STREAMS)
    what = draw(st.integers(0, 9))
    if what == 0:
        return draw(st.binary(max_size=40))
    if what == 1:
        kind = draw(st.integers(0, 12))
        return h2.frame(kind, draw(st.integers(0, 255)), stream, draw(st.binary(max_size=30)))
    if what in (2, 3):
        more = draw(st.lists(st.tuples(st.binary(max_size=5), st.binary(max_size=5)), max_size=2))
        timeout = draw(st.sampled_from([(), ((b"grpc-timeout", b"1m"),), ((b"grpc-encoding", b"gzip"),)]))
        return headers(
            stream & h2.MAX_STREAM_ID, head_of(draw(PATHS), *timeout, *more), end=draw(st.booleans())
        )
    if what in (4, 5):
        content = draw(
            st.one_of(st.binary(max_size=30), st.just(framed(b"2 70000")), st.just(framed(b"abc")))
        )
        return data(stream & h2.MAX_STREAM_ID, content, end=draw(st.booleans()))
    if what == 6:
        return h2.window_update_frame(stream, draw(st.sampled_from([0, 1, 70_000, h2.MAX_WINDOW])))
    if what == 7:
        return h2.rst_stream_frame(stream, draw(st.integers(0, 20)))
    if what == 8:
        values = st.sampled_from([0, 1, 5, 16_384, 65_535, 1_000_000, h2.MAX_WINDOW, h2.MAX_WINDOW + 1])
        return h2.settings_frame(draw(st.lists(st.tuples(st.integers(0, 9), values), max_size=3)))
    return draw(st.sampled_from([h2.ping_frame(b"12345678"), h2.SETTINGS_ACK, h2.goaway_frame(0, 0)]))


async def survive(served: Scene, wire: bytes, cuts: Sequence[int], *, advance_s: float) -> None:
    """Send *wire* to a new connection; afterwards another one must be served as ever."""
    client = served.client(greet=False)
    for piece in pieces_of(wire, cuts):
        client.send(piece)
        await settle(2)
    await served.clock.advance(advance_s)
    await settle()
    connection = client.protocol
    if connection.phase >= LINGERING:  # type: ignore[attr-defined]
        assert connection.streams == {}  # type: ignore[attr-defined]
    other = served.client()
    other.send(call(1, ECHO, b"still here"))
    assert await other.content(1) == framed(b"still here")
    expected = "/test.Echo/Broken: RuntimeError"
    assert [text for text in served.said() if not text.startswith((expected, "HTTP/2 client"))] == []


@settings(max_examples=150, deadline=None)
@given(
    frames=st.lists(strange_frames(), max_size=20),
    cuts=st.lists(st.integers(1, 60), max_size=6),
    advance_s=st.sampled_from([0.0, 0.01, 40.0]),
)
def test_no_sequence_of_frames_crashes_or_leaks(
    frames: list[bytes], cuts: list[int], advance_s: float
) -> None:
    """That nothing is left is checked when the scene ends."""

    async def scenario() -> None:
        async with scene() as served:
            wire = h2.PREFACE + h2.settings_frame([]) + b"".join(frames)
            await survive(served, wire, cuts, advance_s=advance_s)

    run(scenario())


@settings(max_examples=100, deadline=None)
@given(wire=st.binary(max_size=200), cuts=st.lists(st.integers(1, 20), max_size=4), begun=st.integers(0, 3))
def test_no_bytes_crash_or_leak(wire: bytes, cuts: list[int], begun: int) -> None:
    beginnings = (b"", h2.PREFACE[:10], h2.PREFACE, h2.PREFACE + h2.settings_frame([]))

    async def scenario() -> None:
        async with scene() as served:
            await survive(served, beginnings[begun] + wire, cuts, advance_s=0.0)

    run(scenario())


# Sound conversations.


@st.composite
def sound_calls(draw: st.DrawFn, stream: int) -> list[bytes]:
    """The frames of one sound call, some of them empty, padded or split."""
    message = draw(st.binary(max_size=40))
    path = draw(st.sampled_from([ECHO, LATER, CHAT, BROKEN, b"/no.Such/Method"]))
    more: Pairs = draw(st.sampled_from([(), ((b"x-a", b"b"),), ((b"grpc-encoding", b"gzip"),)]))
    wire = framed(message)
    if more and more[0][0] == b"grpc-encoding":
        content = gzip.compress(message, mtime=0)
        wire = b"\x01" + len(content).to_bytes(4, "big") + content
    if path == CHAT:
        wire *= draw(st.integers(0, 4))
    block = encode(head_of(path, *more))
    at = draw(st.integers(0, len(block)))
    frames = [
        h2.frame(h2.HEADERS, 0, stream, block[:at])
        + h2.frame(h2.CONTINUATION, h2.END_HEADERS, stream, block[at:])
    ]
    for piece in pieces_of(wire, draw(st.lists(st.integers(1, 50), max_size=3))):
        padding = draw(st.sampled_from([0, 0, 9]))
        if padding:
            frames.append(h2.frame(h2.DATA, h2.PADDED, stream, bytes((padding,)) + piece + bytes(padding)))
        else:
            frames.append(h2.frame(h2.DATA, 0, stream, piece))
    frames.append(
        draw(st.sampled_from([data(stream, b"", end=True), headers(stream, [(b"x-last", b"1")], end=True)]))
    )
    return frames


@st.composite
def conversations(draw: st.DrawFn) -> list[bytes]:
    """Several sound calls, their frames mixed with each other and with control frames, in order each."""
    streams = [1 + 2 * number for number in range(draw(st.integers(1, 4)))]
    waiting = [draw(sound_calls(stream)) for stream in streams]
    frames = [calls.pop(0) for calls in waiting]  # streams must open in order
    control = [
        h2.ping_frame(b"12345678"),
        h2.settings_frame([(h2.Setting.INITIAL_WINDOW_SIZE, 20)]),
        h2.settings_frame([(h2.Setting.MAX_FRAME_SIZE, 20_000)]),
        h2.frame(h2.PRIORITY, 0, 1, bytes(5)),
        h2.window_update_frame(0, 100),
    ]
    while any(waiting):
        choice = draw(st.integers(0, len(waiting)))
        if choice == len(waiting):
            frames.append(draw(st.sampled_from(control)))
        elif waiting[choice]:
            frames.append(waiting[choice].pop(0))
    return frames


async def said_to(wire: bytes, cuts: Sequence[int]) -> dict[int, tuple[object, bytes]]:
    """Return what the server answers to *wire*, stream by stream."""
    async with scene() as served:
        client = served.client(greet=False)
        for piece in pieces_of(h2.PREFACE + h2.settings_frame([]) + wire, cuts):
            client.send(piece)
        await settle()
        served.go.set()
        client.send(h2.settings_frame([(h2.Setting.INITIAL_WINDOW_SIZE, 1_000_000)]))
        assert await client.goaway() is None
        assert served.capped() == {}
        return {
            stream: (await client.blocks(stream), await client.content(stream)) for stream in range(1, 9, 2)
        }


@settings(max_examples=100, deadline=None)
@given(frames=conversations(), cuts=st.lists(st.integers(1, 70), min_size=1, max_size=8))
def test_sound_calls_have_the_same_answers_however_they_are_cut(frames: list[bytes], cuts: list[int]) -> None:
    async def scenario() -> None:
        wire = b"".join(frames)

        whole = await said_to(wire, [])
        assert await said_to(wire, cuts) == whole
        assert any(b"grpc-status" in block for blocks, _ in whole.values() for block in blocks)  # type: ignore[attr-defined]

    run(scenario())
