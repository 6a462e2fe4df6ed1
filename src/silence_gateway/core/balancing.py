"""
Which endpoint gets the next call.

Pure choices among candidates that may all take a call (who may is decided in `core/endpoints.py`).
Randomness is an argument; weights are already in the order of the sequence (`weighted_order`), so that a
pick is a few list look-ups: it runs once for every call.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import Protocol, TypeVar

T = TypeVar("T")

MAX_WEIGHT = 100
"""Weights are proportions; above this the order would become long for no gain."""

MAX_PENALTY = 64
"""An endpoint that only fails looks this much busier than it is, at most."""


class Candidate(Protocol):
    """
    An endpoint as balancing sees it.

    Attributes:
        in_flight: Calls begun and not answered; a call that never completes stays in here, so that a
            silent endpoint looks busy and not idle.
        penalty: Failures not yet forgotten; without it an endpoint that fails fast would look idle.
        weight: Share of the calls it should get; an endpoint of weight 2 is as busy with two calls as
            another with one.
    """

    in_flight: int
    penalty: int
    weight: int


C = TypeVar("C", bound=Candidate)


def weighted_order(weights: Sequence[int]) -> tuple[int, ...]:
    """
    Return indices in an order in which each appears as often as its weight says, well spread.

    Two equal weights alternate, and 3:1 becomes a, a, b, a: never all of one's turns in a lump. Weights
    are reduced by their common divisor. No weights give an empty order.

    Raises:
        ValueError: If a weight is outside 1 to MAX_WEIGHT.
    """
    if any(not 1 <= weight <= MAX_WEIGHT for weight in weights):
        raise ValueError(f"weights must be from 1 to {MAX_WEIGHT}, got {list(weights)}")
    if not weights:
        return ()
    divisor = gcd(*weights)
    shares = [weight // divisor for weight in weights]
    # The k-th of n turns is due at (k + 1/2) / n of the round; equally due turns go by index.
    turns = ((2 * k + 1) / share for share in shares for k in range(share))
    owners = (index for index, share in enumerate(shares) for _ in range(share))
    return tuple(owner for _, owner in sorted(zip(turns, owners, strict=True)))


def pick_in_turn(order: Sequence[T], turn: int) -> T:
    """
    Return the candidate whose turn it is: 0 is the first, and after the last the first again.

    Raises:
        ValueError: If *order* is empty.
    """
    if not order:
        raise ValueError("there is nobody to pick from")
    return order[turn % len(order)]


def pick_at_random(order: Sequence[T], draw: float) -> T:
    """
    Return the candidate that *draw*, in [0, 1), falls on.

    Raises:
        ValueError: If *order* is empty.
    """
    if not order:
        raise ValueError("there is nobody to pick from")
    return order[int(draw * len(order))]


def pick_less_busy(order: Sequence[C], draw: float) -> C:
    """
    Take two places of *order* by one *draw* in [0, 1) and return the less busy one; the first wins a tie.

    Two choices and not all: several gateways that all look for the least busy endpoint would meet at it.

    Raises:
        ValueError: If *order* is empty.
    """
    count = len(order)
    if count < 2:
        if not count:
            raise ValueError("there is nobody to pick from")
        return order[0]
    first, other = divmod(int(draw * count * (count - 1)), count - 1)
    if other >= first:
        other += 1
    one, two = order[first], order[other]
    if (one.in_flight + 1) * (1 + one.penalty) * two.weight <= (two.in_flight + 1) * (
        1 + two.penalty
    ) * one.weight:
        return one
    return two


def raised(penalty: int) -> int:
    """Return the penalty after one more failure."""
    return min(penalty + 1, MAX_PENALTY)


def faded(penalty: int) -> int:
    """
    Return the penalty after a second without looking: half of it.

    It fades with time and not only with a success, because an endpoint that is never picked could never
    succeed.
    """
    return penalty // 2
