"""Messages come out as they went in, however DATA is cut, and never larger than the cap."""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.core.grpc_messages import (
    APART_BYTES,
    Fault,
    MessageFault,
    MessageInbox,
    RawMessage,
    framed,
    gunzip,
    in_pieces,
    inflate,
    pack,
    unzstd,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def all_of(inbox: MessageInbox) -> list[RawMessage]:
    """Take every message that is there."""
    found = []
    while (raw := inbox.take()) is not None:
        found.append(raw)
    return found


@settings(deadline=None)
@given(
    messages=st.lists(st.tuples(st.binary(max_size=200), st.booleans()), max_size=6),
    cuts=st.lists(st.integers(1, 50), max_size=40),
    encoding=st.sampled_from([b"gzip", b"deflate", b"zstd"]),
)
def test_messages_survive_any_cutting(
    messages: list[tuple[bytes, bool]], cuts: list[int], encoding: bytes
) -> None:
    wire = b""
    for message, packed in messages:
        wire += framed(pack(encoding, message) if packed else message, packed=packed)
    reader = MessageInbox(encoding, 1_000)
    got = []
    for cut in [*cuts, len(wire) + 1]:
        reader.put(wire[:cut])
        got += [reader.unpack(raw) for raw in all_of(reader)]
        wire = wire[cut:]

    assert got == [message for message, _ in messages]
    assert reader.pending == reader.missing == 0


@pytest.mark.parametrize("size", [0, 5, APART_BYTES - 1, APART_BYTES, 100_000])
@pytest.mark.parametrize("packed", [False, True])
def test_a_large_message_stays_beside_what_goes_before_it(size: int, *, packed: bool) -> None:
    message = bytes(size)

    pieces = in_pieces(message, packed=packed)

    assert b"".join(pieces) == framed(message, packed=packed)
    assert (pieces[-1] is message) is (size >= APART_BYTES)


@given(cuts=st.lists(st.integers(1, 30_000), min_size=1, max_size=12), first=st.integers(0, 70_000))
def test_a_message_in_pieces_is_put_together_with_what_follows_left_alone(
    cuts: list[int], first: int
) -> None:
    """Pieces large and small, kept as they came or put together, and ends of messages anywhere in them."""
    messages = [bytes([number]) * size for number, size in enumerate((first, 3, 40_000), 1)]
    wire = b"".join(framed(message) for message in messages)
    inbox = MessageInbox(b"", 100_000)
    got: list[RawMessage] = []
    at = turn = 0
    while at < len(wire):
        inbox.put(wire[at : at + cuts[turn % len(cuts)]])
        at += cuts[turn % len(cuts)]
        turn += 1
        if turn % 3 == 0:
            got += all_of(inbox)

    got += all_of(inbox)
    assert [message for _, message in got] == messages
    assert inbox.pending == inbox.missing == 0


@pytest.mark.parametrize(
    ("encoding", "unpack"), [(b"gzip", gunzip), (b"deflate", inflate), (b"zstd", unzstd)]
)
def test_a_bomb_is_not_unfolded(encoding: bytes, unpack: Callable[[bytes, int], bytes]) -> None:
    packed = pack(encoding, bytes(1_000_000))
    with pytest.raises(MessageFault, match="more than 999999 bytes"):
        unpack(packed, 999_999)
    assert unpack(packed, 1_000_000) == bytes(1_000_000)


def test_what_nobody_knows_is_not_packed() -> None:
    with pytest.raises(ValueError, match="nothing is packed by b'br'"):
        pack(b"br", b"message")


def test_single_bytes_do_not_become_objects_of_their_own() -> None:
    """A peer may send a message byte by byte; what waits must not take forty times its size."""
    inbox = MessageInbox(b"", 100_000)
    wire = framed(bytes(100_000))
    for byte in wire[:-1]:
        inbox.put(bytes((byte,)))

    assert inbox.take() is None
    assert len(inbox._chunks) < 10
    inbox.put(wire[-1:])
    assert inbox.take() == (False, bytes(100_000))
    assert inbox.pending == 0


@settings(deadline=None)
@given(
    sizes=st.lists(st.integers(0, 9_000), max_size=6),
    cuts=st.lists(st.integers(1, 5_000), max_size=12),
    eager=st.booleans(),
)
def test_messages_larger_than_their_pieces_survive_any_cutting(
    sizes: list[int], cuts: list[int], eager: bool
) -> None:
    messages = [bytes(number % 251 for number in range(size)) for size in sizes]
    wire = b"".join(framed(message) for message in messages)
    inbox = MessageInbox(b"", 9_000)
    got = []
    for cut in [*cuts, len(wire) + 1]:
        inbox.put(wire[:cut])
        wire = wire[cut:]
        if eager:
            got += all_of(inbox)
    got += all_of(inbox)

    assert got == [(False, message) for message in messages]
    assert inbox.pending == 0


def test_messages_are_cut_off_when_they_are_taken() -> None:
    inbox = MessageInbox(b"", 10)
    inbox.put(framed(b"") * 10_000)

    assert len(inbox._chunks) == 1
    assert len(all_of(inbox)) == 10_000


@settings(deadline=None)
@given(message=st.binary(max_size=50), cut=st.integers(0, 54))
def test_a_message_that_has_begun_says_what_it_still_needs(message: bytes, cut: int) -> None:
    wire = framed(message)
    reader = MessageInbox(b"", 50)

    reader.put(wire[:cut])
    whole = all_of(reader)

    expected = len(wire) - cut if cut >= 5 else 5 - cut
    assert reader.missing == (0 if whole or not cut else expected)


@settings(deadline=None)
@given(pieces=st.lists(st.binary(max_size=40), max_size=8))
def test_arbitrary_bytes_raise_only_faults(pieces: list[bytes]) -> None:
    reader = MessageInbox(b"gzip", 100)
    for piece in pieces:
        reader.put(piece)
        try:
            messages = [reader.unpack(raw) for raw in all_of(reader)]
        except MessageFault:
            return
        assert all(len(message) <= 100 for message in messages)
        assert reader.pending <= 105


@settings(deadline=None)
@given(size=st.integers(0, 300))
def test_unpacking_stops_at_the_cap(size: int) -> None:
    packed = gzip.compress(bytes(size))
    if size > 100:
        with pytest.raises(MessageFault) as caught:
            gunzip(packed, 100)
        assert caught.value.fault is Fault.TOO_LARGE
    else:
        assert gunzip(packed, 100) == bytes(size)


@pytest.mark.parametrize(
    ("packed", "text"),
    [
        pytest.param(gzip.compress(b"x") + b"y", "tail", id="tail"),
        pytest.param(gzip.compress(b"x" * 99)[:-2], "cut off", id="cut-off"),
        pytest.param(b"not at all", "not gzip", id="not-gzip"),
    ],
)
def test_only_one_whole_gzip_member_is_a_message(packed: bytes, text: str) -> None:
    with pytest.raises(MessageFault, match=text):
        gunzip(packed, 100)


@pytest.mark.parametrize(
    ("encoding", "wire", "fault"),
    [
        pytest.param(b"", b"\0\0\0\0\x65", Fault.TOO_LARGE, id="announced-too-large"),
        pytest.param(b"", b"\x02\0\0\0\0", Fault.BROKEN, id="impossible-flag"),
        pytest.param(b"", b"\x01\0\0\0\0", Fault.UNNAMED, id="compressed-without-a-name"),
        pytest.param(b"identity", b"\x01\0\0\0\0", Fault.UNNAMED, id="compressed-as-identity"),
        pytest.param(b"br", b"\x01\0\0\0\0", Fault.UNKNOWN, id="compressed-unknown"),
    ],
)
def test_faults_are_told_apart(encoding: bytes, wire: bytes, fault: Fault) -> None:
    reader = MessageInbox(encoding, 100)

    reader.put(wire)

    with pytest.raises(MessageFault) as caught:
        reader.unpack(all_of(reader)[0])

    assert caught.value.fault is fault


@given(st.binary(max_size=500))
def test_zstd_is_unpacked_up_to_the_cap(message: bytes) -> None:
    inbox = MessageInbox(b"zstd", 500)
    assert inbox.unpack((True, zstd.compress(message))) == message
    if len(message) > 100:
        with pytest.raises(MessageFault, match="more than 100"):
            unzstd(zstd.compress(message), 100)


@pytest.mark.parametrize(
    ("packed", "text"),
    [
        pytest.param(
            zlib.compress(b"x") + b"y", "a deflate message that is cut off or has a tail", id="tail"
        ),
        pytest.param(zlib.compress(b"x" * 99)[:-2], "cut off", id="cut-off"),
        pytest.param(zlib.compress(b"x", wbits=-15), "not deflate", id="without-the-head-of-zlib"),
    ],
)
def test_deflate_is_one_whole_stream_of_zlib(packed: bytes, text: str) -> None:
    with pytest.raises(MessageFault, match=text) as caught:
        inflate(packed, 100)
    assert caught.value.fault is Fault.BROKEN


@pytest.mark.parametrize(
    ("packed", "text"),
    [
        pytest.param(zstd.compress(b"x") + b"y", "tail", id="tail"),
        pytest.param(zstd.compress(b"x" * 99)[:-2], "cut off", id="cut-off"),
        pytest.param(b"not at all", "not zstd", id="not-zstd"),
    ],
)
def test_only_one_whole_zstd_frame_is_a_message(packed: bytes, text: str) -> None:
    with pytest.raises(MessageFault, match=text) as caught:
        unzstd(packed, 100)
    assert caught.value.fault is Fault.BROKEN
