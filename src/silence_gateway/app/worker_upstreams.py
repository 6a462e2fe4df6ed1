"""
Statistics of upstreams as several workers tell them, as one answer.

Each worker has its own connections and counts. Counts add up, quantiles are worked out anew from the added
histograms, and where workers see an endpoint differently the one that sees it worst is believed: `states`
says how many see what. What the fleet shares (checks, holds, drains) they say alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from silence_gateway.admin.upstreams import timed
from silence_gateway.core.durations import read, written
from silence_gateway.core.endpoints import Verdict
from silence_gateway.upstreams.record import MAX_DEPARTURES, MAX_MOVES

UPSTREAMS = re.compile(r"upstreams(?:/[^/]+)?")
"""Paths of all upstreams, and of one."""

HISTOGRAMS = "histograms"
"""What workers are always asked for in the query; callers get it if they ask."""

WORST_FIRST = [
    verdict.value
    for verdict in (Verdict.OUT, Verdict.PROBE, Verdict.WAITING, Verdict.DOUBTFUL, Verdict.READY)
]

SUMMED = frozenset(
    {
        "calls", "in_flight", "codes", "failures", "faults", "bytes_in", "bytes_out", "connects",
        "connections", "streams", "ejections", "breaker_moved_to", "states", "calls_by_code",
        "latency_counts", "latency_sum_s", "waiting", "shed", "concurrency_limit", "unplaced", "failovers",
        "retries", "hedges", "hedges_won", "retries_refused", "board_malformed", "board_unsent",
    }
)  # fmt: skip
EARLIEST = frozenset({"begun_us"})
ANY = frozenset({"panic", "ejected", "vetoed"})
MOST = frozenset({"known_endpoints", "span_s"})
LATEST = {
    "last_error_us": ("last_error", "last_error_code", "last_error_us"),
    "last_check_us": ("last_check", "last_check_us", "last_check_by"),
    "prober_since_us": ("prober", "prober_since_us"),
    "ejected_until_us": ("ejected_until_us", "ejected_because"),
}
"""By the field that says when: the fields that go with it, all of them from whoever has the latest."""

Row = Mapping[str, Any]


def upstreams_together(answers: Sequence[Any], *, histograms: bool) -> Any:
    """Return what workers say to one of these paths as one answer, with *histograms* if they are wanted."""
    together: Any
    if isinstance(answers[0], list):
        together = [upstream_together(rows) for rows in grouped(answers, "name")]
    else:
        together = upstream_together(answers)
    return together if histograms else without_counts(together)


def upstream_together(rows: Sequence[Row]) -> dict[str, Any]:
    """Return what all workers say of one upstream."""
    told = put_together(rows)
    told["since_us"] = min(row["since_us"] for row in rows)
    told["discovery"] = list(dict.fromkeys(problem for row in rows for problem in row["discovery"]))
    told["departed"] = departures_together(row["departed"] for row in rows)
    told["instances"] = [instance for row in rows for instance in row["instances"]]
    told["endpoints"] = [
        endpoint_together(group) for group in grouped([row["endpoints"] for row in rows], "address")
    ]
    return told


def departures_together(lists: Iterable[Sequence[Row]]) -> list[dict[str, Any]]:
    """Return what all workers say of endpoints that have left; one left with the last that let go of it."""
    together = []
    for rows in grouped(lists, "address"):
        # The same address may have left several times; what each worker saw last is one departure.
        latest = max(rows, key=itemgetter("left_us"))
        counts = {name: sum(row[name] for row in rows) for name in ("calls", "faults")}
        together.append({**latest, **counts, **latest_of(rows, "last_error_us")})
    return sorted(together, key=itemgetter("left_us"))[-MAX_DEPARTURES:]


def latest_of(rows: Sequence[Row], when: str) -> dict[str, Any]:
    """Return the fields that go with *when* from whoever has the latest."""
    latest = max(rows, key=itemgetter(when))
    return {name: latest[name] for name in LATEST[when]}


def endpoint_together(rows: Sequence[Row]) -> dict[str, Any]:
    """Return what all workers say of one endpoint."""
    told = put_together(sorted(rows, key=lambda row: WORST_FIRST.index(row["state"])))
    for when in LATEST:
        told |= latest_of(rows, when)
    return told


def put_together(rows: Sequence[Row]) -> dict[str, Any]:
    """Put together all fields of *rows* that are told to how; any other is as the first row has it."""
    told = dict(rows[0])
    for name in told:
        values = [row[name] for row in rows]
        if name in SUMMED:
            told[name] = summed(values)
        elif name in ANY:
            told[name] = any(values)
        elif name in MOST:
            told[name] = max(values)
        elif name in EARLIEST:
            told[name] = min(values)
        elif name == "breaker_moves":
            moves = [move for value in values for move in value]
            told[name] = sorted(moves, key=itemgetter("at_us"))[-MAX_MOVES:]
        elif name == "latency":
            told[name] = latency_together(values)
        elif name == "recent":
            told[name] = put_together(values)
    return told


def latency_together(rows: Sequence[Row]) -> dict[str, Any]:
    """Work out anew how long calls took, from the histograms of all."""
    counts = summed([read(row["counts"]) for row in rows])
    return timed(counts) | {"counts": written(counts)}


def summed(values: Sequence[Any]) -> Any:
    """Add up numbers, objects of numbers by name, or lists of one length number by number."""
    if isinstance(values[0], Mapping):
        names = dict.fromkeys(name for value in values for name in value)
        return {name: sum(value.get(name, 0) for value in values) for name in names}
    if isinstance(values[0], list):
        return [sum(numbers) for numbers in zip(*values, strict=True)]
    return sum(values)


def grouped(lists: Iterable[Sequence[Row]], by: str) -> list[list[Row]]:
    """Return the items of all *lists* that have the same name together, in the order they are first met."""
    groups: dict[str, list[Row]] = {}
    for items in lists:
        for item in items:
            groups.setdefault(item[by], []).append(item)
    return list(groups.values())


def without_counts(told: Any) -> Any:
    """Return *told* without the histograms behind its quantiles."""
    if isinstance(told, list):
        return [without_counts(item) for item in told]
    if isinstance(told, dict):
        return {
            name: {key: value for key, value in item.items() if key != "counts"}
            if name == "latency"
            else without_counts(item)
            for name, item in told.items()
        }
    return told
