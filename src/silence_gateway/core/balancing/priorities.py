"""
How calls are shared by levels of priority: Envoy's arithmetic.

A level is as healthy as its ready endpoints are many, times a factor (1.4): it is full while 71 % of it
are well. What a level cannot take overflows to the next one. If all levels together cannot take
everything, each takes its part of what there is.

Panic: a level with less than a threshold of its endpoints ready stops to believe its judges and uses all
that can be reached, because a few survivors would only go down under the load of all. Off unless asked
for: here calls fail at once where nobody is well, and an open breaker means it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

OVERPROVISIONING = 1.4
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """
    The endpoints of one priority.

    Attributes:
        ready: How many are good for calls.
        reachable: How many are connected and not draining, whatever is said about them.
        all: How many there are.
    """

    ready: int
    reachable: int
    all: int


@dataclass(frozen=True, slots=True)
class Load:
    """
    What one level gets.

    Attributes:
        part: Its part of all calls, in [0, 1].
        panic: Whether all that can be reached are used.
    """

    part: float
    panic: bool = False


def loads(
    levels: Sequence[Level], overprovisioning: float = OVERPROVISIONING, panic_threshold: float = 0.0
) -> list[Load]:
    """
    Share all calls among *levels*, the most wanted first. The parts add up to 1, or to 0 if nobody can.

    Args:
        levels: In order of priority.
        overprovisioning: How much more than its even part of the calls an endpoint can take.
        panic_threshold: Part of a level that must be ready, in [0, 1]; 0 never panics.
    """
    health = [min(1.0, overprovisioning * level.ready / level.all) if level.all else 0.0 for level in levels]
    total = min(1.0, sum(health))
    if not total:
        return _in_total_panic(levels, panic_threshold)
    left = 1.0
    answer: list[Load] = []
    for level, well in zip(levels, health, strict=True):
        part = min(left, well / total)
        # What floating point leaves over is nobody's part.
        left = left - part if left - part > ROUNDING else 0.0
        panic = total < 1.0 and level.ready < panic_threshold * level.all and level.reachable > 0
        answer.append(Load(part, panic))
    return answer


def _in_total_panic(levels: Sequence[Level], panic_threshold: float) -> list[Load]:
    reachable = sum(level.reachable for level in levels)
    if not reachable or not panic_threshold:
        return [Load(0.0) for _ in levels]
    return [Load(level.reachable / reachable, level.reachable > 0) for level in levels]
