"""
When names are looked up again, and what the records of a service say: arithmetic, no resolver.

Durations are seconds, because the TTLs of DNS are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

SOONEST_S = 1.0
"""A TTL below this (0 is common) would make every gateway a load on its resolver."""

SPREAD = 0.2
"""Waits differ by this share, so that gateways started together do not ask together."""


class ServiceRecord(NamedTuple):
    """One SRV record."""

    host: str
    port: int
    priority: int
    weight: int


def next_look_s(refresh_s: float, ttl_s: float | None, failures: int, draw: float) -> float:
    """
    Return how long to wait before a name is looked up again.

    Args:
        refresh_s: The longest wait.
        ttl_s: How long the answer may be kept, as far as it said so.
        failures: Look-ups without an answer so far, in a row.
        draw: In [0, 1).

    An answer is asked for again when its TTL is over and after *refresh_s* at the latest. After a failure
    the wait begins with a second and doubles up to *refresh_s*, or to the TTL of what was answered besides.
    """
    wait_s = refresh_s if ttl_s is None else min(refresh_s, max(SOONEST_S, ttl_s))
    if failures:
        wait_s = min(wait_s, SOONEST_S * float(1 << min(failures - 1, 20)))
    return wait_s * (1 - SPREAD / 2 + SPREAD * draw)


def ranks(records: Sequence[ServiceRecord]) -> dict[int, int]:
    """Return 0 for the lowest priority of *records*, 1 for the next, and so on."""
    return {priority: rank for rank, priority in enumerate(sorted({one.priority for one in records}))}


def shares(records: Sequence[ServiceRecord], most: int) -> list[int]:
    """
    Return a weight of 1 to *most* for each record, in the proportions that it has within its priority.

    Weights stay as they are where none of their priority is above *most*. A weight of 0 means "hardly any"
    (RFC 2782) and becomes 1.
    """
    heaviest: dict[int, int] = {}
    for record in records:
        heaviest[record.priority] = max(most, record.weight, heaviest.get(record.priority, 0))
    return [max(1, round(record.weight * most / heaviest[record.priority])) for record in records]
