"""
How long to wait before trying again.

Exponential with full jitter: after a common failure every instance draws its own moment, so that a
server coming back is not met by all of them at once. Nothing here reads a clock or draws a number.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """
    The shape of a series of waits.

    Attributes:
        first_us: Upper end of the first wait.
        cap_us: Upper end that no wait exceeds.
        floor_us: Shortest wait; keeps an unlucky series of draws from becoming a busy loop.
        factor: How much longer the upper end gets with every attempt.

    Raises:
        ValueError: If the numbers do not satisfy `0 <= floor <= first <= cap` and `factor >= 1`.
    """

    first_us: int
    cap_us: int
    floor_us: int = 0
    factor: float = 2.0

    def __post_init__(self) -> None:
        if not 0 <= self.floor_us <= self.first_us <= self.cap_us or self.factor < 1 or self.cap_us < 1:
            raise ValueError(
                f"a back-off needs 0 <= floor <= first <= cap and a factor of at least 1: {self}"
            )


def wait_us(backoff: Backoff, attempt: int, draw: float) -> int:
    """
    Return the wait before *attempt* (0 is the first repetition), for a *draw* in [0, 1).

    Raises:
        ValueError: If *attempt* is negative or *draw* is outside [0, 1).
    """
    if attempt < 0 or not 0 <= draw < 1:
        raise ValueError(f"attempt {attempt} and draw {draw} must be at least 0, the draw below 1")
    upper_us = float(backoff.first_us)
    # A loop and not a power: a huge attempt number must reach the cap, not an overflow.
    for _ in range(attempt):
        if upper_us >= backoff.cap_us or backoff.factor == 1:
            break
        upper_us *= backoff.factor
    upper_us = min(upper_us, backoff.cap_us)
    return backoff.floor_us + int((upper_us - backoff.floor_us) * draw)
