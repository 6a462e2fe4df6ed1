"""
What the admin API says about upstreams, for a person at a terminal: which endpoint, since when, and why.

Nothing here asks anybody. A row is as wide as 80 columns allow; what does not fit there, because it is a
sentence, stands below its row. A field that an answer lacks is a dash: the gateway that was asked may be
older or newer than this program.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from silence_gateway.app.fleet_tables import NONE, Item, ago, items, words
from silence_gateway.app.tables import cell, printable
from silence_gateway.app.wording import count, counted, duration, share, span
from silence_gateway.core.endpoints import Verdict

Paint: TypeAlias = Callable[[str, str], str]
"""Gives a text a colour."""

HEADERS = ("endpoint", "state", "for", "/min", "failed", "now", "p50", "p99", "conns")
LEFT = 2
"""Columns from here on are numbers, and right-aligned."""

WIDTHS = (21, 8, 4, 5, 6, 5, 5, 5, 5)
"""80 columns with the spaces between them, so that nothing jumps while somebody watches. An IPv4 address with
its port fits; a longer one makes its column wider."""

GREEN, YELLOW, RED = "green", "yellow", "red"
COLOURS = {"ready": GREEN, "out": RED, "held": RED}
MINUTE_S = 60
FRESH_S = 60.0
"""An error younger than this is shown where nothing else is said."""


def plain(text: str, _colour: str) -> str:
    """Paint nothing."""
    return text


def overview(body: Any, now_us: int, *, width: int = 80, paint: Paint = plain) -> str:
    """Return one row per endpoint under a line for its upstream, and below it why it takes no calls."""
    upstreams = items(body)
    if not upstreams:
        return NONE
    return "\n\n".join(section(upstream, now_us, width, paint) for upstream in upstreams)


def section(upstream: Item, now_us: int, width: int, paint: Paint) -> str:
    """Return one upstream."""
    endpoints = items(upstream.get("endpoints"))
    lines = [
        printable(line) for line in folded(f"{upstream.get('name')}: {summary(upstream)}", width, indent=4)
    ]
    lines += troubles(upstream, width)
    rows = [row(endpoint, now_us) for endpoint in endpoints]
    widths = [max([width, *(len(one[column]) for one in rows)]) for column, width in enumerate(WIDTHS)]
    if rows:
        lines.append(aligned([header.upper() for header in HEADERS], widths))
    for endpoint, cells in zip(endpoints, rows, strict=True):
        line = aligned(cells, widths)
        state = cells[1]
        start = widths[0] + 2
        colour = COLOURS.get(state, YELLOW)
        lines.append(line[:start] + paint(state, colour) + line[start + len(state) :])
        for said in remarks(endpoint, now_us):
            lines += [printable(part) for part in folded(said, width, indent=2, all_lines=True)]
    return "\n".join(lines)


def troubles(upstream: Item, width: int) -> list[str]:
    """Return what keeps it unknown which endpoints there are."""
    kept = "; endpoints stay as they are" if items(upstream.get("endpoints")) else ""
    return [
        printable(part)
        for problem in words(upstream.get("discovery"))
        for part in folded(f"{problem}{kept}", width, indent=2, all_lines=True)
    ]


def summary(upstream: Item) -> str:
    """Return how an upstream as a whole is doing, in one sentence."""
    states = [state_of(endpoint) for endpoint in items(upstream.get("endpoints"))]
    # Who only finishes its calls is no endpoint any more.
    here, ready = len(states) - states.count("leaving"), states.count(Verdict.READY.value)
    recent = object_of(upstream, "recent")
    latency = object_of(recent, "latency")
    parts = [f"{ready} of {here} ready"]
    if states:  # without any, nothing is counted, and the time in which it was not says nothing
        failed = f", {share(recent.get('faults'), recent.get('calls'))} failed" if recent.get("calls") else ""
        parts.append(lately(recent) + failed)
    if latency.get("calls"):
        parts.append(f"p50 {duration(latency.get('p50_s'))}, p99 {duration(latency.get('p99_s'))}")
    parts += [
        f"{count(upstream[key])} {words}"
        for key, words in (
            ("waiting", "waiting for a place"),
            ("unplaced", "found no endpoint"),
            ("failovers", "offered to another endpoint"),
            ("retries", "retried"),
            ("hedges", "hedged"),
            ("retries_refused", "not retried for lack of budget"),
        )
        if upstream.get(key)
    ]
    if upstream.get("concurrency_limit"):
        parts.append(f"at most {count(upstream['concurrency_limit'])} at once")
    shed = {
        name: value for name, value in object_of(upstream, "shed").items() if isinstance(value, int) and value
    }
    if shed:
        whose = ", ".join(f"{count(value)} {name}" for name, value in shed.items())
        parts.append(f"{count(sum(shed.values()))} shed ({whose})")
    if upstream.get("breaker", "closed") != "closed":
        why = upstream.get("hold_reason")
        parts.append(
            f"circuit breaker {str(upstream['breaker']).replace('_', ' ')}" + (f" ({why})" if why else "")
        )
    if upstream.get("panic") is True:
        parts.append("PANIC: endpoints are used although they are judged unfit")
    return "; ".join(parts)


def row(endpoint: Item, now_us: int) -> list[str]:
    """Return the cells of one endpoint."""
    recent = object_of(endpoint, "recent")
    latency = object_of(recent, "latency")
    return [
        cell(endpoint.get("address")),
        cell(state_of(endpoint)),
        cell(ago(endpoint.get("since_us"), now_us)),
        count(per_minute(recent)),
        share(recent.get("faults"), recent.get("calls")),
        count(endpoint.get("in_flight")),
        duration(latency.get("p50_s")),
        duration(latency.get("p99_s")),
        count(endpoint.get("connections")),
    ]


def state_of(endpoint: Item) -> str:
    """Return an endpoint's state in the word that says most about it."""
    if endpoint.get("removed") is True:
        return "leaving"
    if endpoint.get("active") is False:
        return "drained"
    if endpoint.get("breaker") == "held_open":
        return "held"
    if endpoint.get("ejected") is True and endpoint.get("state") == Verdict.DOUBTFUL.value:
        return "ejected"
    return str(endpoint.get("state", ""))


def remarks(endpoint: Item, now_us: int) -> list[str]:
    """Return what the row has no room for: why it takes no calls, until when, and what went wrong lately."""
    state = state_of(endpoint)
    said = [str(endpoint.get("reason") or "")]
    if state == "drained":
        why = endpoint.get("drain_reason")
        said = [
            f"drained by an operator, {count(endpoint.get('in_flight'))} in flight"
            + (f": {why}" if why else "")
        ]
    elif state == "leaving":
        said = [f"no endpoint any more, {count(endpoint.get('in_flight'))} in flight"]
    elif state == "held":
        said = []
    if endpoint.get("ejected") is True:
        said = [one for one in said if not one.startswith("ejected")]
        left = until(endpoint.get("ejected_until_us"), now_us)
        said.append(f"ejected for another {left}: {endpoint.get('ejected_because')}")
    if endpoint.get("hold_until_us"):
        held = str(endpoint.get("breaker", "")).replace("_", " ")
        why = endpoint.get("hold_reason")
        said.append(
            f"circuit breaker {held} by an operator for another "
            f"{until(endpoint.get('hold_until_us'), now_us)}" + (f": {why}" if why else "")
        )
    states = object_of(endpoint, "states")
    if len(states) > 1:
        said.append("workers differ: " + ", ".join(f"{seen} {word}" for word, seen in states.items()))
    error = str(endpoint.get("last_error") or "")
    at_us = endpoint.get("last_error_us")
    fresh = isinstance(at_us, int) and now_us - at_us < FRESH_S * 1e6
    if error and fresh and not any(said):
        said.append(f"{ago(at_us, now_us)} ago: {error}")
    return [one for one in said if one]


def aligned(cells: list[str], widths: list[int]) -> str:
    """Return one line of the table, numbers to the right."""
    return "  ".join(
        text.ljust(width) if column < LEFT else text.rjust(width)
        for column, (text, width) in enumerate(zip(cells, widths, strict=True))
    )


def folded(text: str, width: int, indent: int, *, all_lines: bool = False) -> list[str]:
    """Return a text in lines of at most *width*; all but the first are indented, or that one as well."""
    return textwrap.wrap(
        text,
        max(width, 40),
        initial_indent=" " * indent if all_lines else "",
        subsequent_indent=" " * indent,
        break_on_hyphens=False,
    )


def per_minute(recent: Item) -> float | None:
    """
    Return calls of the last minute; None if that is not told.

    Where counting began later that is what was counted. A rate would make one call of the first second sixty.
    """
    calls, seconds = recent.get("calls"), recent.get("span_s")
    if not isinstance(calls, int) or not isinstance(seconds, int | float):
        return None
    return MINUTE_S * calls / max(seconds, MINUTE_S)


def lately(recent: Item) -> str:
    """Return calls of the last minute in words; until there is a whole one, in how long they were counted."""
    seconds = recent.get("span_s")
    if isinstance(seconds, int | float) and seconds < MINUTE_S:
        return f"{counted(recent.get('calls'), 'call')} in {span(max(seconds, 1))}"
    return f"{count(per_minute(recent))} calls/min"


def until(at_us: Any, now_us: int) -> str:
    """Return how long it is until *at_us*."""
    return span((at_us - now_us) / 1e6) if isinstance(at_us, int) else "-"


def object_of(item: Item, name: str) -> Mapping[str, Any]:
    """Return an object that is a field of another one; an empty one for anything else."""
    value = item.get(name)
    return value if isinstance(value, Mapping) else {}
