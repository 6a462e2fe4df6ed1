"""
What Envoy is told beside the decision, as `dynamic_metadata`: what was asked, and what rules have to say.

Only made where `dynamic_metadata` is on; it costs about 15 us.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from silence_gateway.core.rls_rules import Unit


def metadata_of(question: Any, passed: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """
    Return the metadata of an answer as JSON values.

    Args:
        question: The RateLimitRequest.
        passed: The `metadata` of the rules that were met and not reached; of two values for one key the
            first is kept, and mappings are merged.
    """
    said: dict[str, Any] = {
        "domain": question.domain,
        "descriptors": [descriptor_values(descriptor) for descriptor in question.descriptors],
    }
    if question.hits_addend:
        said["hitsAddend"] = question.hits_addend
    merged: dict[str, Any] = {}
    for metadata in passed:
        merge(merged, metadata)
    if merged:
        said["metadata"] = merged
    return said


def descriptor_values(descriptor: Any) -> dict[str, Any]:
    """Return one descriptor of a question."""
    said: dict[str, Any] = {"entries": [f"{entry.key}={entry.value}" for entry in descriptor.entries]}
    limit = descriptor.limit
    if limit is not None:
        unit = int(limit.unit)
        parts = [f"requests_per_unit:{limit.requests_per_unit}"] if limit.requests_per_unit else []
        parts += [f"unit:{Unit(unit).name if unit in UNIT_NUMBERS else unit}"] if unit else []
        if limit.unit_multiplier is not None:
            parts.append(f"unit_multiplier:{{value:{limit.unit_multiplier.value}}}")
        said["limit"] = " ".join(parts)
    if descriptor.hits_addend is not None:
        said["hitsAddend"] = descriptor.hits_addend.value
    return said


UNIT_NUMBERS = frozenset(unit.value for unit in Unit)


def merge(into: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Add what *more* says and *into* does not."""
    for key, value in more.items():
        there = into.get(key)
        if key not in into:
            into[key] = {**value} if isinstance(value, dict) else value
        elif isinstance(there, dict) and isinstance(value, dict):
            merge(there, value)
