"""
The Huffman code of HPACK (RFC 7541, appendix B): decoding, one byte at a time.

The code is canonical, so the lengths alone define it. Decoding walks a state machine whose rows are
made when they are first met: a state is a prefix of a symbol, a step eats one byte and gives the
symbols it completes. There are 256 states at most, so the table is bounded.
"""

from __future__ import annotations

# Bits of the code of each byte, and last of the end-of-string symbol.
_TABLE = (
    "13 23 28 28 28 28 28 28 28 24 30 28 28 30 28 28 28 28 28 28 28 28 30 28 28 28 28 28 28 28 28 28 "
    "6 10 10 12 13 6 8 11 10 10 8 11 8 6 6 6 5 5 5 6 6 6 6 6 6 6 7 8 15 6 12 10 "
    "13 6 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 8 7 8 13 19 13 14 6 "
    "15 5 6 5 6 5 6 6 6 5 7 7 6 6 6 5 6 7 6 5 5 6 7 7 7 7 7 15 11 14 13 28 "
    "20 22 20 20 22 22 22 23 22 23 23 23 23 23 24 23 24 24 22 23 24 23 23 23 23 21 22 23 22 23 23 24 "
    "22 21 20 22 22 23 23 21 23 22 22 24 21 22 23 23 21 21 22 21 23 22 23 23 20 22 22 22 23 22 22 23 "
    "26 26 20 19 22 23 22 25 26 26 26 27 27 26 24 25 19 21 26 27 27 26 27 24 21 21 26 26 28 27 27 27 "
    "20 24 20 21 22 21 21 23 22 22 25 25 24 24 26 23 26 27 26 26 27 27 27 27 27 28 27 27 27 27 27 26 "
    "30 "
)
_LENGTHS: tuple[int, ...] = tuple(int(length) for length in _TABLE.split())
_END_OF_STRING = 256

_Step = tuple[bytes, "int"]
_BROKEN: _Step = (b"", -1)


class HuffmanError(ValueError):
    """The bytes are not the Huffman code of anything."""


def _canonical_codes() -> dict[tuple[int, int], int]:
    """Return (length, code) -> symbol for the whole alphabet."""
    symbols: dict[tuple[int, int], int] = {}
    code = length = 0
    for symbol in sorted(range(257), key=lambda each: (_LENGTHS[each], each)):
        code <<= _LENGTHS[symbol] - length
        length = _LENGTHS[symbol]
        symbols[length, code] = symbol
        code += 1
    return symbols


_SYMBOLS = _canonical_codes()
# State 0 is "between symbols". A state is the bits of a symbol begun, as (length, code).
_prefixes: list[tuple[int, int]] = [(0, 0)]
_state_of_prefix: dict[tuple[int, int], int] = {(0, 0): 0}
_steps: dict[int, _Step] = {}


def _step(state: int, byte: int) -> _Step:
    """Eat *byte* in *state*: the symbols it completes and the state after it, -1 if it is no code."""
    length, code = _prefixes[state]
    completed = bytearray()
    for shift in range(7, -1, -1):
        length += 1
        code = code << 1 | (byte >> shift & 1)
        symbol = _SYMBOLS.get((length, code))
        if symbol == _END_OF_STRING:
            return _BROKEN
        if symbol is not None:
            completed.append(symbol)
            length = code = 0
    prefix = (length, code)
    after = _state_of_prefix.get(prefix)
    if after is None:
        after = _state_of_prefix[prefix] = len(_prefixes)
        _prefixes.append(prefix)
    return bytes(completed), after


def decode_huffman(coded: bytes) -> bytes:
    """
    Decode a whole string.

    Raises:
        HuffmanError: If it holds the end-of-string symbol, or its padding is longer than seven bits
            or not all ones.
    """
    state = 0
    pieces: list[bytes] = []
    for byte in coded:
        key = state << 8 | byte
        step = _steps.get(key)
        if step is None:
            step = _steps[key] = _step(state, byte)
        completed, state = step
        if completed:
            pieces.append(completed)
        elif state < 0:
            raise HuffmanError("a Huffman string contains the end-of-string symbol")
    length, code = _prefixes[state]
    if length > 7 or code != (1 << length) - 1:
        raise HuffmanError("a Huffman string is not padded with at most seven one bits")
    return b"".join(pieces)
