"""
What the admin API says about single limits and keys, as text for a person at a terminal.

Nothing here asks anybody. As in `fleet_tables.py`, what an answer lacks is shown as a dash, and what it has
beyond what is known here is shown by its name: the gateway may be older or newer than this program.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from typing import Any

from silence_gateway.app.fleet_tables import ago, items, match_of, rate_of, words
from silence_gateway.app.tables import cell, printable, table

WINDOWS = {"1m": "the last minute", "1h": "the last hour"}
KNOWN_OF_KEY = frozenset({"name", "key", "limit", "remaining", "reset_s"})
NONE = "(none)"
LAST_US = 253_402_300_800_000_000  # the year 10000, which no clock shows


def one_key(body: Any) -> str:
    """Return what one key has left."""
    state = fields(body)
    text = table(("limit", "key", "left", "of", "full again in"), [(state.get("name"), *left_of(state))])
    # What there may be beside: an override, a block.
    more = [
        f"{name}: {exception(value) if name == 'override' else cell(value)}"
        for name, value in state.items()
        if name not in KNOWN_OF_KEY
    ]
    return "\n".join([text, *map(printable, more)])


def left_of(state: Mapping[str, Any]) -> tuple[object, ...]:
    """Return the cells that say what a key has left, the key first."""
    never = "reset_s" in state and state["reset_s"] is None
    wait = "never" if never else in_seconds(state.get("reset_s"))
    return state.get("key"), state.get("remaining"), state.get("limit"), wait


def in_seconds(value: Any) -> str:
    """Return a time as somebody who waits wants it: whole seconds, never too few."""
    known = isinstance(value, (int, float)) and math.isfinite(value) and 0 <= value < 1e12
    return waiting_time(math.ceil(value)) if known else ""


def waiting_time(seconds: int) -> str:
    """Return whole seconds as people say them, in at most two units: `59s`, `1m 1s`, `2d 5h`."""
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        number, rest = divmod(seconds, size)
        if number or parts:
            parts.append(f"{number}{unit}" if number else "")
        if len(parts) == 2:
            break
        seconds = rest
    return " ".join(filter(None, parts)) or "0s"


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
    rows = [
        (
            limit.get("name"),
            limit.get("rate"),
            ", ".join(words(limit.get("by"))),
            *left_of(limit),
            limit.get("outcome"),
            limit.get("why"),
        )
        for limit in items(said.get("limits"))
    ]
    headers = ("limit", "rate", "by", "key", "left", "of", "full again in", "outcome", "counts")
    return "\n\n".join(
        [
            table(("step", "decided", "why"), steps) if steps else NONE,
            table(headers, rows) if rows else "no limit counts it",
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
    if isinstance(until_us, int) and 0 < until_us < LAST_US:
        said.append(f"until {dt.datetime.fromtimestamp(until_us // 1_000_000, dt.UTC):%Y-%m-%d %H:%M:%S} UTC")
    said += [f"{name} {cell(held[name])}" for name in ("reason", "by") if held.get(name)]
    return ", ".join(said)
