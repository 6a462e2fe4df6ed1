"""
Statistics of limits as several workers tell them, as one answer.

What the fleet has counted any worker can tell. Without a store, or while it is away, each tells its own.

Then decisions are added up, and so are requests by key. Unique clients are added up as well: nobody knows
which of them reached several workers, so a client that did counts once for each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

SUMMED = ("allowed", "denied", "shadow_denied", "near", "unique_clients")
TOPS = {"top": ("requests", "denied"), "top_denied": ("denied",)}
OWN_COUNTS = re.compile(r"limits(?:/(?!explain$)[^/]+)?")
"""Paths whose answers may be a worker's own counts: all limits, the top of one, everything of one."""


def limits_together(answers: Sequence[Any]) -> Any:
    """Return what workers say to one of these paths as one answer: the fleet's, if any of them has it."""
    for answer in answers:
        first = answer[0] if isinstance(answer, list) and answer else answer
        if isinstance(first, Mapping) and first.get("counted_by") == "fleet":
            return answer
    return limits_added(answers)


def limits_added(answers: Sequence[Any]) -> Any:
    """Add up answers of one shape; a list has the same limit in the same place."""
    if isinstance(answers[0], list):
        return [limit_added(rows) for rows in zip(*answers, strict=False)]
    return limit_added(answers)


def limit_added(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what all workers say of one limit, or of one window of it; what it is they say alike."""
    together = dict(rows[0])
    for name in SUMMED:
        if name in together:
            together[name] = summed([row[name] for row in rows])
    if "since_us" in together:
        together["since_us"] = min(row["since_us"] for row in rows)
    for name, words in TOPS.items():
        if name in together:
            together[name] = top_added([row[name] for row in rows], words)
    if "windows" in together:
        together["windows"] = {
            window: limit_added([row["windows"][window] for row in rows]) for window in together["windows"]
        }
    return together


def summed(values: Sequence[Any]) -> Any:
    """Add numbers up, or objects of numbers by name."""
    if isinstance(values[0], Mapping):
        return {name: sum(value[name] for value in values) for name in values[0]}
    return sum(values)


def top_added(lists: Sequence[Sequence[Mapping[str, Any]]], words: Sequence[str]) -> list[dict[str, Any]]:
    """Add up lists of top keys; as many are left as the longest of them has."""
    counted: dict[str, int] = {}
    word = next((word for items in lists for item in items for word in words if word in item), "")
    for items in lists:
        for item in items:
            counted[item["key"]] = counted.get(item["key"], 0) + item[word]
    best = sorted(counted.items(), key=lambda item: -item[1])[: max(map(len, lists))]
    return [{"key": key, word: count} for key, count in best]
