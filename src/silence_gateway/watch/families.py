"""
Metric families: what a scrape is made of, how several workers' answers become one, and how it is written.

Nothing here counts. Engines keep plain integers; `watch/collect.py` turns them into families when asked.
The text form is Prometheus exposition format 0.0.4.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from silence_gateway.core.histogram import BOUNDS_S

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]
Merging: TypeAlias = Literal["sum", "max", "min"]
Labels: TypeAlias = tuple[tuple[str, str], ...]

# A family with more series than this is cut and says so: an attacker must not be able to fill
# the monitoring by inventing names. Route templates and limit names are bounded by configuration.
MAX_SERIES = 2000


@dataclass(frozen=True, slots=True)
class Sample:
    """
    One series.

    Attributes:
        labels: Name and value pairs, in the order they are written.
        value: A counter's or gauge's number; for a histogram the sum of what was observed.
        buckets: Cumulative counts per upper bound, +Inf last; empty unless it is a histogram.
    """

    labels: Labels
    value: float
    buckets: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Family:
    """One metric name and its series; *merging* says how workers' values combine."""

    name: str
    kind: Kind
    help: str
    samples: Sequence[Sample] = field(default_factory=tuple)
    merging: Merging = "sum"


def histogram_sample(counts: Sequence[int], sum_s: float, labels: Labels = ()) -> Sample:
    """Return the *counts* of `core.histogram` as a series with cumulative buckets."""
    buckets: list[tuple[float, int]] = []
    total = 0
    for bound, count in zip((*BOUNDS_S, float("inf")), counts, strict=True):
        total += count
        buckets.append((bound, total))
    return Sample(labels, sum_s, tuple(buckets))


def merged(answers: Iterable[Sequence[Family]]) -> list[Family]:
    """Combine the families of several workers into one answer, series by series."""
    families: dict[str, Family] = {}
    series: dict[str, dict[Labels, Sample]] = {}
    for answer in answers:
        for family in answer:
            families.setdefault(family.name, family)
            mine = series.setdefault(family.name, {})
            for sample in family.samples:
                known = mine.get(sample.labels)
                mine[sample.labels] = sample if known is None else _combine(family.merging, known, sample)
    return [
        Family(family.name, family.kind, family.help, tuple(series[name].values()), family.merging)
        for name, family in families.items()
    ]


def _combine(merging: Merging, one: Sample, two: Sample) -> Sample:
    if one.buckets and two.buckets:
        buckets = tuple((bound, a + b) for (bound, a), (_, b) in zip(one.buckets, two.buckets, strict=True))
        return Sample(one.labels, one.value + two.value, buckets)
    if merging == "max":
        return Sample(one.labels, max(one.value, two.value))
    if merging == "min":
        return Sample(one.labels, min(one.value, two.value))
    return Sample(one.labels, one.value + two.value)


def render(families: Iterable[Family]) -> bytes:
    """Write *families* in the Prometheus text format."""
    lines: list[str] = []
    for family in families:
        lines.append(f"# HELP {family.name} {_escape_help(family.help)}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        for sample in family.samples[:MAX_SERIES]:
            if family.kind == "histogram":
                lines.extend(_histogram_lines(family.name, sample))
            else:
                lines.append(f"{family.name}{_labels(sample.labels)} {_number(sample.value)}")
        if len(family.samples) > MAX_SERIES:
            lines.append(f"# {family.name}: {len(family.samples) - MAX_SERIES} series left out")
    lines.append("")
    return "\n".join(lines).encode()


def _histogram_lines(name: str, sample: Sample) -> Iterable[str]:
    for bound, count in sample.buckets:
        le = "+Inf" if bound == float("inf") else _number(bound)
        yield f"{name}_bucket{_labels((*sample.labels, ('le', le)))} {count}"
    total = sample.buckets[-1][1] if sample.buckets else 0
    yield f"{name}_sum{_labels(sample.labels)} {_number(sample.value)}"
    yield f"{name}_count{_labels(sample.labels)} {total}"


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _escape_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))


def as_json(families: Iterable[Family]) -> list[dict[str, Any]]:
    """Return *families* as plain data, for a worker to hand to its supervisor."""
    return [
        {
            "name": family.name,
            "kind": family.kind,
            "help": family.help,
            "merging": family.merging,
            "samples": [
                [
                    list(map(list, sample.labels)),
                    sample.value,
                    [[str(bound), n] for bound, n in sample.buckets],
                ]
                for sample in family.samples
            ],
        }
        for family in families
    ]


def from_json(data: list[dict[str, Any]]) -> list[Family]:
    """Return what `as_json` was given."""
    return [
        Family(
            item["name"],
            item["kind"],
            item["help"],
            tuple(
                Sample(
                    tuple((name, value) for name, value in labels),
                    value,
                    tuple((float(bound), n) for bound, n in buckets),
                )
                for labels, value, buckets in item["samples"]
            ),
            item["merging"],
        )
        for item in data
    ]
