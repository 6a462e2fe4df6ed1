"""
Which of the 16,384 slots of a cluster a key is in (Valkey cluster specification, "hash tags").

CRC-16/XMODEM of the key, or of what stands between its first `{` and the next `}` if there is anything.
Python's binascii has that very polynomial.
"""

from __future__ import annotations

from array import array
from binascii import crc_hqx
from collections.abc import Sequence

SLOTS = 16_384


def slot_of(key: bytes) -> int:
    """Return the slot of *key*; 0.3 us."""
    begin = key.find(b"{")
    if begin >= 0:
        end = key.find(b"}", begin + 1)
        if end > begin + 1:
            key = key[begin + 1 : end]
    return crc_hqx(key, 0) % SLOTS


# Numbers tried to find one in a given slot: with four times as many as there are slots, one slot in fifty
# stays without.
MOST_NUMBERS = 4 * SLOTS

_slots_of_numbers = array("H")


def number_in(slots: Sequence[object], owner: object) -> int | None:
    """
    Return the smallest number that, written as a key, is in a slot of *owner*.

    *slots* says whose each slot is. None if no number below `MOST_NUMBERS` is in any of them. It depends
    on the slots alone, so that everybody who sees the same map finds the same number.
    """
    known = _slots_of_numbers
    for number in range(MOST_NUMBERS):
        if number == len(known):
            known.append(slot_of(b"%d" % number))
        if slots[known[number]] is owner:
            return number
    return None
