"""Header blocks: the reference understands ours, we understand the reference's, and nothing breaks us."""

from __future__ import annotations

import hpack as reference
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.core.hpack import (
    MAX_REMEMBERED,
    NO_TABLE,
    BlockReader,
    HeaderBomb,
    HeaderListTooLarge,
    HeaderPairs,
    HpackError,
    encode,
    integer,
)

NAMES = st.one_of(
    st.sampled_from([b":status", b":path", b"content-type", b"grpc-status", b"authorization", b"x-id"]),
    st.binary(min_size=1, max_size=20),
)
PAIRS = st.lists(st.tuples(NAMES, st.binary(max_size=150)), max_size=12)


def reader(*, max_table_size: int = 4096, max_list_size: int = 65_536) -> BlockReader[HeaderPairs]:
    return BlockReader(lambda pairs: pairs, max_table_size=max_table_size, max_list_size=max_list_size)


@settings(deadline=None)
@given(blocks=st.lists(PAIRS, max_size=5))
def test_the_reference_reads_what_we_write(blocks: list[HeaderPairs]) -> None:
    decoder = reference.Decoder()
    decoder.decode(NO_TABLE)

    for pairs in blocks:
        assert [tuple(pair) for pair in decoder.decode(encode(pairs), raw=True)] == pairs


@settings(deadline=None)
@given(
    blocks=st.lists(st.tuples(PAIRS, st.booleans(), st.sampled_from([None, 0, 60, 200, 4096])), max_size=8)
)
def test_we_read_what_the_reference_writes(blocks: list[tuple[HeaderPairs, bool, int | None]]) -> None:
    """With its dynamic table, its Huffman coding and its changes of size, and some blocks repeated."""
    encoder, ours = reference.Encoder(), reader()

    for pairs, huffman, table_size in blocks:
        if table_size is not None:
            encoder.header_table_size = table_size
        for _ in range(2):
            assert ours.read(encoder.encode(pairs, huffman=huffman)) == pairs


@st.composite
def edited_blocks(draw: st.DrawFn) -> list[bytes]:
    """What the reference writes with tables of many sizes, some bytes changed, put in or left out."""
    encoder = reference.Encoder()
    blocks: list[bytes] = []
    for _ in range(draw(st.integers(1, 4))):
        size = draw(st.sampled_from([None, None, 0, 50, 300, 4096]))
        if size is not None:
            encoder.header_table_size = size
        block = bytearray(encoder.encode(draw(PAIRS), huffman=draw(st.booleans())))
        for at, byte, how in draw(
            st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255), st.integers(0, 2)), max_size=2)
        ):
            if how == 0:
                block[at : at + 1] = bytes((byte,))
            elif how == 1:
                block.insert(at, byte)
            else:
                del block[at : at + 1]
        blocks.append(bytes(block))
    return blocks


@settings(max_examples=300, deadline=None)
@given(blocks=st.one_of(edited_blocks(), st.lists(st.binary(max_size=60), max_size=4)))
def test_what_is_broken_is_broken_for_the_reference_too(blocks: list[bytes]) -> None:
    """Block by block both read the same, until both refuse; what the table holds then is nobody's concern."""
    decoder, ours = reference.Decoder(max_header_list_size=10**9), reader(max_list_size=10**9)

    for block in blocks:
        try:
            wanted = [tuple(pair) for pair in decoder.decode(block, raw=True)]
        except reference.HPACKError:
            with pytest.raises(HpackError):
                ours.read(block)
            return
        assert ours.read(block) == wanted


@settings(max_examples=200, deadline=None)
@given(blocks=st.lists(st.binary(max_size=60), max_size=4))
def test_arbitrary_bytes_raise_only_our_own_errors(blocks: list[bytes]) -> None:
    ours = reader(max_list_size=1_000)
    for block in blocks:
        try:
            pairs = ours.read(block)
        except HeaderListTooLarge:
            continue
        except HpackError:
            return
        assert sum(len(name) + len(value) + 32 for name, value in pairs) <= 1_000


@pytest.mark.parametrize(
    ("block", "complaint"),
    [
        pytest.param(b"\x80", "index 0", id="index-zero"),
        pytest.param(b"\xbe", "index 62", id="index-beyond-the-table"),
        pytest.param(b"\x7f\xff\xff\xff\xff\x7f", "too long", id="number-too-long"),
        pytest.param(b"\x7f\x80", "inside a number", id="number-cut-off"),
        pytest.param(b"\x40\x05abc", "inside a string", id="string-cut-off"),
        pytest.param(b"\x40", "before a string", id="string-missing"),
        pytest.param(b"\x88\x20", "not at the start", id="size-update-after-a-field"),
        pytest.param(b"\x3f\xe2\x1f", "above the agreed", id="size-update-above-the-limit"),
        pytest.param(b"\x40\x81\x00\x00", "padded", id="bad-huffman"),
    ],
)
def test_broken_blocks_are_named(block: bytes, complaint: str) -> None:
    with pytest.raises(HpackError, match=complaint):
        reader().read(block)


def test_a_block_is_interpreted_once_until_the_table_changes() -> None:
    interpreted: list[HeaderPairs] = []

    def interpret(pairs: HeaderPairs) -> HeaderPairs:
        interpreted.append(pairs)
        return pairs

    ours = BlockReader(interpret)
    add_old = b"\x40\x01a\x03old"
    add_new = b"\x40\x01a\x03new"
    newest = b"\xbe"

    ours.read(add_old)
    first, again = ours.read(newest), ours.read(newest)
    ours.read(add_new)
    after = ours.read(newest)

    assert first == again == [(b"a", b"old")]
    assert after == [(b"a", b"new")]
    assert len(interpreted) == 4


def test_what_is_remembered_is_bounded() -> None:
    ours = reader()
    for number in range(3 * MAX_REMEMBERED):
        ours.read(encode([(b"x-request-id", b"%d" % number)]))

    assert len(ours.known) <= MAX_REMEMBERED


def test_a_list_that_is_too_large_costs_only_itself() -> None:
    """The table is kept in step, so that the next block can be read."""
    ours = reader(max_list_size=200)
    encoder = reference.Encoder()

    with pytest.raises(HeaderListTooLarge, match="200"):
        ours.read(encoder.encode([(b"a", b"x" * 150), (b"b", b"y" * 150)]))

    assert ours.read(encoder.encode([(b"b", b"y" * 150)])) == [(b"b", b"y" * 150)]


def test_a_small_block_cannot_unfold_into_much_memory() -> None:
    """One entry of the table named thousands of times: it is counted, not kept."""
    ours = reader(max_list_size=10_000)
    bomb = b"\x40\x01a" + integer(3_000, 0x7F) + b"x" * 3_000 + b"\xbe" * 60_000

    with pytest.raises(HeaderListTooLarge):
        ours.read(bomb)


@settings(deadline=None)
@given(value=st.integers(0, 2**20), prefix=st.integers(1, 8))
def test_numbers_agree_with_the_reference(value: int, prefix: int) -> None:
    written = integer(value, (1 << prefix) - 1)

    assert written == bytes(reference.hpack.encode_integer(value, prefix))


def test_secrets_are_never_indexed() -> None:
    (pair,) = reference.Decoder().decode(encode([(b"authorization", b"Bearer x")]), raw=True)

    assert pair.indexable is False


def test_a_peer_that_is_not_trusted_cannot_buy_time_with_few_bytes() -> None:
    ours = BlockReader(lambda pairs: pairs, max_list_size=10_000, bomb_size=40_000)
    entry = b"\x40\x01a" + integer(3_000, 0x7F) + b"x" * 3_000

    with pytest.raises(HeaderListTooLarge):
        ours.read(entry + b"\xbe" * 10)
    with pytest.raises(HeaderBomb, match="40000"):
        ours.read(b"\xbe" * 60_000)


def test_a_block_that_means_much_is_not_remembered() -> None:
    """A few bytes that stand for thousands are read again each time."""
    ours = reader()
    ours.read(b"\x40\x01a" + integer(1_000, 0x7F) + b"x" * 1_000)

    assert len(ours.read(b"\xbe" * 5)) == 5
    assert ours.known == {}
    ours.read(b"\xbe")
    assert list(ours.known) == [b"\xbe"]
