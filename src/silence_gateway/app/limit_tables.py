"""
What the admin API says about single limits and keys, as text for a person at a terminal.

Nothing here asks anybody. As in `fleet_tables.py`, what an answer lacks is shown as a dash, and what it has
beyond what is known here is shown by its name: the gateway may be older or newer than this program.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from silence_gateway.app.fleet_tables import ago, items, match_of, rate_of, words
from silence_gateway.app.tables import cell, printable, table
from silence_gateway.core.waits import LAST_US, moment_text, wait_text

WINDOWS = {"1m": "the last minute", "1h": "the last hour"}
KNOWN_OF_KEY = frozenset(
    ("name", "key", "limit", "remaining", "reset_s", "verdict", "rate", "burst", "own_rate", "override",
     "cost", "allowed", "retry_after_s", "retry_at_us", "blocked", "outcome", "mode", "counted_by")
)  # fmt: skip
"""What the table, the verdict and the exception tell already."""
NONE = "(none)"


def one_key(body: Any) -> str:
    """Return whether one key may go on, and what it has left."""
    state = fields(body)
    headers = ("limit", "rate", "key", "left", "of", "full again in", "passes")
    row = (state.get("name"), rate_in_force(state), *left_of(state), state.get("allowed"))
    # What another version may tell beside.
    more = [f"{name}: {cell(value)}" for name, value in state.items() if name not in KNOWN_OF_KEY]
    return "\n".join([*verdict(state), table(headers, [row]), *remarks([state]), *map(printable, more)])


def verdict(said: Mapping[str, Any]) -> list[str]:
    """Return what it comes to, and an empty line; nothing of a gateway that does not say."""
    return [printable(str(said["verdict"])), ""] if said.get("verdict") else []


def rate_in_force(limit: Mapping[str, Any]) -> str:
    """Return the rate that holds for a key, and that it is not the limit's own."""
    rate = limit.get("rate")
    if rate is None:
        return ""
    burst = "" if limit.get("burst") is None else f", bucket of {limit['burst']}"
    return f"{rate}{burst}" + (" (exception)" if limit.get("override") else "")


def remarks(limits: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what no column has room for: why a limit refuses and until when, and exceptions."""
    lines = []
    for limit in limits:
        name, held, own = cell(limit.get("name")), limit.get("override"), limit.get("own_rate")
        if limit.get("outcome") not in (None, "passes"):
            lines.append(f"{name} {limit['outcome']}")
        if held:
            others = "" if own is None else f"; all other keys have {cell(own)}"
            lines.append(f"{name} has an exception for this key: {exception(held)}{others}")
    if any(limit.get("counted_by", "fleet") != "fleet" for limit in limits):
        lines.append("told by this instance alone: the store is away, or not shared")
    return ["", *map(printable, lines)] if lines else []


def left_of(state: Mapping[str, Any]) -> tuple[object, ...]:
    """Return the cells that say what a key has left, the key first."""
    never = "reset_s" in state and state["reset_s"] is None
    wait = "never" if never else in_seconds(state.get("reset_s"))
    return state.get("key"), state.get("remaining"), state.get("limit"), wait


def in_seconds(value: Any) -> str:
    """Return a time as somebody who waits wants it: whole seconds, never too few."""
    known = isinstance(value, (int, float)) and math.isfinite(value) and 0 <= value < 1e12
    return wait_text(math.ceil(value) * 1_000_000) if known else ""


def about_key(body: Any, what: str) -> str:
    """Return what was done to a key."""
    state = fields(body)
    return printable(f"{cell(state.get('name'))}, {cell(state.get('key'))}: {what}")


def overridden(body: Any) -> str:
    """Return what holds for a key from now on."""
    held = fields(fields(body).get("override"))
    what = terms(held)
    since, until = held.get("added_us"), held.get("until_us")
    if isinstance(since, int) and isinstance(until, int):
        what += f", for {in_seconds((until - since) / 1_000_000)}"
    return about_key(body, what)


def begun_anew(body: Any) -> str:
    """Return whose statistics were reset."""
    names = words(fields(body).get("reset"))
    return printable(f"begun anew: {', '.join(names) or NONE}")


def top_keys(body: Any) -> str:
    """Return the top keys of one limit, and how many clients there were."""
    said = fields(body)
    by = str(said.get("by"))
    window = WINDOWS.get(str(said.get("window")), str(said.get("window")))
    return "\n".join(
        [
            ranking(said.get("top"), by),
            printable(f"in {window}; clients, about: {cell(said.get('unique_clients'))}{by_whom(said)}"),
        ]
    )


def ranking(top: Any, by: str) -> str:
    """Return keys with their counts."""
    rows = [(item.get("key"), item.get(by)) for item in items(top)]
    return table(("key", by), rows) if rows else NONE


def by_whom(said: Mapping[str, Any]) -> str:
    """Return a warning where the counts are not the fleet's."""
    return (
        ""
        if said.get("counted_by") == "fleet"
        else "; counted by this instance alone: the store is away, or not shared"
    )


def one_limit(body: Any, now_us: int) -> str:
    """Return everything about one limit."""
    limit = fields(body)
    windows = fields(limit.get("windows"))
    since = ago(limit.get("since_us"), now_us)
    rows: list[Sequence[object]] = []
    for name, span in WINDOWS.items():
        window = fields(windows.get(name))
        rows.append((f"in {span}", *counts_of(window), window.get("unique_clients")))
    rows.append((f"since {since} ago" if since else "in all", *counts_of(limit), None))
    hour = fields(windows.get("1h"))
    return "\n".join(
        [
            printable(
                f"{cell(limit.get('name'))}: {rate_of(limit)} by {', '.join(words(limit.get('key')))}, "
                f"{match_of(limit.get('match'))}{by_whom(limit)}"
            ),
            "",
            table(("", "allowed", "denied", "in shadow", "near", "clients, about"), rows),
            "",
            "busiest in the last hour:",
            ranking(hour.get("top"), "requests"),
            "",
            "refused most in the last hour:",
            ranking(hour.get("top_denied"), "denied"),
        ]
    )


def counts_of(said: Mapping[str, Any]) -> tuple[object, ...]:
    """Return the cells of a row of counts."""
    return tuple(said.get(name) for name in ("allowed", "denied", "shadow_denied", "near"))


def explained(body: Any) -> str:
    """Return what a running gateway would decide about a request."""
    said = fields(body)
    steps = [(step.get("what"), step.get("decided"), step.get("why")) for step in items(said.get("steps"))]
    limits = items(said.get("limits"))
    rows = [
        (
            limit.get("name"),
            rate_in_force(limit),
            ", ".join(words(limit.get("by"))),
            *left_of(limit),
            limit.get("allowed"),
            limit.get("why"),
        )
        for limit in limits
    ]
    headers = ("limit", "rate", "by", "key", "left", "of", "full again in", "passes", "counts")
    return "\n".join(
        [
            *verdict(said),
            table(("step", "decided", "why"), steps) if steps else NONE,
            "",
            table(headers, rows) if rows else "no limit counts it",
            *remarks(limits),
        ]
    )


def fields(value: Any) -> Mapping[str, Any]:
    """Return an object's fields; none of anything else."""
    return value if isinstance(value, Mapping) else {}


def terms(held: Mapping[str, Any]) -> str:
    """Return what an exception allows."""
    return ", ".join(
        name if value is True else f"{name} {cell(value)}"
        for name, value in held.items()
        if name in ("rate", "burst", "max", "unlimited", "blocked")
    )


def exception(value: Any) -> str:
    """Return an exception for one key: what it allows, until when, why, and whose it is."""
    held = fields(value)
    said = [terms(held) or cell(value)]
    until_us = held.get("until_us")
    if isinstance(until_us, int) and 0 < until_us <= LAST_US:
        said.append(f"until {moment_text(until_us)}")
    said += [f"{name} {cell(held[name])}" for name in ("reason", "by") if held.get(name)]
    return ", ".join(said)
