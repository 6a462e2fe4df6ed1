"""
HPACK (RFC 7541): reading header blocks, and writing them without state.

Pure: bytes in, header pairs out. One `BlockReader` belongs to one direction of one connection and is
given every header block of it, in order. Servers repeat themselves byte for byte (a grpcio server
answers every call with two blocks that never change), so a block that leaves the dynamic table
alone is interpreted once and remembered by its bytes until the table changes: 0.1 us instead of 7.

We write only indexes of the static table and literals that are not indexed. Such blocks depend on
nothing but themselves, so that whoever sends them may keep them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from sys import maxsize
from typing import Generic, TypeAlias, TypeVar

from silence_gateway.core.hpack_tables import INDEX_OF_FIELD, INDEX_OF_NAME, STATIC_COUNT, STATIC_TABLE
from silence_gateway.core.huffman import HuffmanError, decode_huffman

HeaderPairs: TypeAlias = "list[tuple[bytes, bytes]]"

T = TypeVar("T")

ENTRY_OVERHEAD = 32  # RFC 7541 section 4.1: what an entry costs beyond its name and value
DEFAULT_TABLE_SIZE = 4096  # RFC 9113 section 6.5.2: SETTINGS_HEADER_TABLE_SIZE before anyone says otherwise

# A server that answers with a request id in its headers makes every block new; without a bound it
# would be remembered for ever. 256 covers every method's usual answers on one connection.
MAX_REMEMBERED = 256
MAX_REMEMBERED_BYTES = 1024
# A block of 1024 bytes can name 1024 fields of the table, so what it means is bounded as well.
MAX_REMEMBERED_LIST = 4096

NO_TABLE = b"\x20"
"""A table size update to zero: to be sent before the first block of a connection, because we keep no
table, and a peer that allows less than the default would otherwise have to be told later."""

# Intermediaries must not put these into their tables either (RFC 7541 section 7.1.3).
_SECRET_NAMES = frozenset((b"authorization", b"cookie", b"proxy-authorization", b"set-cookie"))


class HpackError(ValueError):
    """A header block breaks the rules; the table is lost, so the connection must end."""


class HeaderBomb(HpackError):
    """A header list is so far beyond what we keep that the rest of its block is not read."""


class HeaderListTooLarge(ValueError):
    """A header block was read to its end, but holds more than we keep; only its stream must end."""


class BlockReader(Generic[T]):
    """
    Reads the header blocks of one direction of a connection.

    Args:
        interpret: Turns the pairs of a block into what the caller wants to have. Must not fail, and
            its result must not be changed afterwards, because it is handed out again.
        max_table_size: The largest dynamic table that we told the peer it may use, in bytes.
        max_list_size: The most bytes of header list we keep, counted as RFC 9113 section 10.5.1 does.
        bomb_size: The most bytes we go on counting in order to read the next block. A byte of a block can
            stand for the whole table, so a peer that is not trusted could buy much time with few bytes.

    Attributes:
        known: What blocks mean, by their bytes; valid until the next `read`.
    """

    __slots__ = (
        "_bomb_size",
        "_entries",
        "_interpret",
        "_max_list_size",
        "_max_table_size",
        "_table_limit",
        "_table_size",
        "known",
    )

    def __init__(
        self,
        interpret: Callable[[HeaderPairs], T],
        *,
        max_table_size: int = DEFAULT_TABLE_SIZE,
        max_list_size: int = 65536,
        bomb_size: int = maxsize,
    ) -> None:
        self._interpret = interpret
        self._max_table_size = max_table_size
        self._max_list_size = max_list_size
        self._bomb_size = bomb_size
        self._entries: deque[tuple[bytes, bytes]] = deque()
        self._table_limit = min(max_table_size, DEFAULT_TABLE_SIZE)
        self._table_size = 0
        self.known: dict[bytes, T] = {}

    def read(self, block: bytes) -> T:
        """
        Read one whole block.

        Raises:
            HpackError: If it breaks the rules; a HeaderBomb if it was made to cost us time.
            HeaderListTooLarge: If it keeps them but is too much; the next block can be read.
        """
        known = self.known.get(block)
        if known is not None:
            return known
        pairs, size, changed = self._decode(block)
        meaning = self._interpret(pairs)
        if changed:
            self.known.clear()
        elif size <= MAX_REMEMBERED_LIST and len(block) <= MAX_REMEMBERED_BYTES:
            if len(self.known) >= MAX_REMEMBERED:
                self.known.clear()
            self.known[block] = meaning
        return meaning

    def _decode(self, block: bytes) -> tuple[HeaderPairs, int, bool]:
        pairs: HeaderPairs = []
        changed = False
        size = at = 0
        end = len(block)
        while at < end:
            first = block[at]
            if first & 0x80:
                index, at = _read_integer(block, at, 0x7F)
                field = self._field(index)
            elif first & 0xE0 == 0x20:
                if size:
                    raise HpackError("a table size update is not at the start of its header block")
                limit, at = _read_integer(block, at, 0x1F)
                self._resize(limit)
                changed = True
                continue
            else:
                remember = first & 0x40
                index, at = _read_integer(block, at, 0x3F if remember else 0x0F)
                if index:
                    name = self._field(index)[0]
                else:
                    name, at = _read_string(block, at)
                value, at = _read_string(block, at)
                field = (name, value)
                if remember:
                    self._add(field)
                    changed = True
            size += len(field[0]) + len(field[1]) + ENTRY_OVERHEAD
            if size <= self._max_list_size:
                pairs.append(field)
            elif size > self._bomb_size:
                raise HeaderBomb(f"a header list is above {self._bomb_size} bytes")
        if size > self._max_list_size:
            if changed:
                self.known.clear()
            raise HeaderListTooLarge(f"a header list of {size} bytes is above {self._max_list_size}")
        return pairs, size, changed

    def _field(self, index: int) -> tuple[bytes, bytes]:
        if 0 < index <= STATIC_COUNT:
            return STATIC_TABLE[index]
        if 0 < index <= STATIC_COUNT + len(self._entries):
            return self._entries[index - STATIC_COUNT - 1]
        raise HpackError(f"header index {index} is not in the table")

    def _add(self, field: tuple[bytes, bytes]) -> None:
        size = len(field[0]) + len(field[1]) + ENTRY_OVERHEAD
        self._evict(self._table_limit - size)
        if size <= self._table_limit:
            self._entries.appendleft(field)
            self._table_size += size

    def _resize(self, limit: int) -> None:
        if limit > self._max_table_size:
            raise HpackError(f"a header table of {limit} bytes is above the agreed {self._max_table_size}")
        self._table_limit = limit
        self._evict(limit)

    def _evict(self, limit: int) -> None:
        while self._entries and self._table_size > limit:
            name, value = self._entries.pop()
            self._table_size -= len(name) + len(value) + ENTRY_OVERHEAD


def _read_integer(block: bytes, at: int, mask: int) -> tuple[int, int]:
    """Read the integer whose first byte is at *at*, under *mask*; return it and where it ends."""
    value = block[at] & mask
    at += 1
    if value < mask:
        return value, at
    # Four more bytes reach 2**28, more than any size we would accept; a longer one is an attack.
    for shift in (0, 7, 14, 21):
        if at >= len(block):
            raise HpackError("a header block ends inside a number")
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise HpackError("a number in a header block is too long")


def _read_string(block: bytes, at: int) -> tuple[bytes, int]:
    """Read the string that starts at *at*; return it and where it ends."""
    if at >= len(block):
        raise HpackError("a header block ends before a string")
    coded = block[at] & 0x80
    length, at = _read_integer(block, at, 0x7F)
    stop = at + length
    if stop > len(block):
        raise HpackError("a header block ends inside a string")
    text = block[at:stop]
    if coded:
        try:
            text = decode_huffman(text)
        except HuffmanError as exc:
            raise HpackError(str(exc)) from exc
    return text, stop


def integer(value: int, mask: int, flags: int = 0) -> bytes:
    """Write *value* with *flags* in the first byte and as many low bits of it as *mask* has."""
    if value < mask:
        return bytes((flags | value,))
    written = bytearray((flags | mask,))
    value -= mask
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def string(text: bytes) -> bytes:
    """Write *text* as it is, without Huffman coding: it is short, and the time is dearer than the bytes."""
    length = len(text)
    return (bytes((length,)) if length < 0x7F else integer(length, 0x7F)) + text


def name_prefix(name: bytes) -> bytes:
    """Write everything of a literal field but its value; the value follows as a `string`."""
    flags = 0x10 if name in _SECRET_NAMES else 0x00
    index = INDEX_OF_NAME.get(name)
    if index is not None:
        return integer(index, 0x0F, flags)
    return bytes((flags,)) + string(name)


def field(name: bytes, value: bytes) -> bytes:
    """Write one header field."""
    index = INDEX_OF_FIELD.get((name, value))
    if index is not None:
        return integer(index, 0x7F, 0x80)
    return name_prefix(name) + string(value)


def encode(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Write a header block that any peer at any time reads as *pairs*."""
    return b"".join([field(name, value) for name, value in pairs])
