"""
What the admin API answers, as tables for a person at a terminal: one row per thing, and why it is so.

Nothing here asks anybody. A field that an answer lacks is shown as a dash: the gateway that was asked may
be older or newer than this program. Everything that there is comes with `--json`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from silence_gateway.app.tables import cell, table

Item: TypeAlias = "Mapping[str, Any]"

NONE = "(none)"
MAX_CHANNELS_SHOWN = 3


def limits_table(body: Any, _now_us: int) -> str:
    """Return one row per limit, with whoever uses it most."""
    limits = items(body)
    if not limits:
        return NONE
    rows = [
        (
            limit.get("name"),
            rate_of(limit),
            ", ".join(words(limit.get("key"))),
            match_of(limit.get("match")),
            limit.get("allowed"),
            f"({limit.get('shadow_denied')})" if limit.get("mode") == "shadow" else limit.get("denied"),
            busiest_of(limit),
        )
        for limit in limits
    ]
    text = table(("limit", "rate", "by", "counts", "allowed", "denied", "busiest"), rows)
    if any(limit.get("mode") == "shadow" for limit in limits):
        text += "\n(in parentheses: what a shadow limit would deny)"
    if any(limit.get("counted_by") != "fleet" for limit in limits):
        text += "\ncounted by this instance alone: the store is away, or not shared"
    return text


def rate_of(limit: Item) -> str:
    """Return a limit's rate, and what kind of limit it is where that is not the usual one."""
    if limit.get("max") is not None:
        return f"{limit['max']} at once"
    text = str(limit.get("rate"))
    if limit.get("burst") is not None:
        return f"{text}, bucket of {limit['burst']}"
    return text if limit.get("algorithm") in (None, "sliding_window") else f"{text}, {limit['algorithm']}"


def match_of(match: Any) -> str:
    """Return in a few words which requests a limit counts."""
    if not isinstance(match, Mapping):
        return ""
    what = match.get("rpc") or match.get("path") or "every request"
    return " ".join([",".join(words(match.get("methods"))), str(what)]).strip()


def busiest_of(limit: Item) -> str:
    """Return the key that used a limit most, and how often."""
    top = items(limit.get("top"))
    return f"{top[0].get('key')} ({top[0].get('requests')})" if top else ""


def sessions_table(body: Any, now_us: int) -> str:
    """Return one row per WebSocket session."""
    sessions = items(body)
    if not sessions:
        return NONE
    rows = [
        (
            session.get("id"),
            session.get("user") or "(anonymous)",
            channels_of(session),
            session.get("name"),
            ago(session.get("connected_us"), now_us),
            session.get("commands"),
            session.get("instance"),
        )
        for session in sessions
    ]
    text = table(("session", "user", "channels", "client", "since", "commands", "instance"), rows)
    cursor = body.get("cursor") if isinstance(body, Mapping) else ""
    return text + (f"\nthere are more: --cursor {cell(cursor)}" if cursor else "")


def channels_of(session: Item) -> str:
    """Return the first channels of a session and how many more there are."""
    channels = words(session.get("channels"))
    more = len(channels) - MAX_CHANNELS_SHOWN
    return ", ".join(channels[:MAX_CHANNELS_SHOWN]) + (f" and {more} more" if more > 0 else "")


def nodes_table(body: Any, now_us: int) -> str:
    """Return one row per live instance, and whether they run the same configuration."""
    nodes = items(body)
    rows = [
        (
            node.get("id"),
            node.get("host"),
            node.get("pid"),
            node.get("listen"),
            node.get("version"),
            node.get("config"),
            ago(node.get("started_us"), now_us),
        )
        for node in nodes
    ]
    text = table(("node", "host", "pid", "listen", "version", "config", "up"), rows) if rows else NONE
    if isinstance(body, Mapping):
        text += f"\nalive: {cell(body.get('live'))}; asked: {cell(body.get('this'))}"
    if len({str(node.get("config")) for node in nodes}) > 1:
        text += "\nthe configurations differ: some instances run another file than others"
    return text


VIEWS: Mapping[str, Callable[[Any, int], str]] = {
    "limits": limits_table,
    "sessions": sessions_table,
    "nodes": nodes_table,
}
"""How each list of the admin API is shown, at a time in microseconds since the epoch."""


def items(body: Any) -> list[Item]:
    """Return the objects of a list, or of the one list in an object; nothing for anything else."""
    if isinstance(body, Mapping):
        body = next((value for value in body.values() if isinstance(value, list)), [])
    return [item for item in body if isinstance(item, Mapping)] if isinstance(body, list) else []


def words(value: Any) -> list[str]:
    """Return a list's items as text; nothing for anything else."""
    return [str(item) for item in value] if isinstance(value, list) else []


def ago(at_us: Any, now_us: int) -> str:
    """Return how long ago *at_us* was, in its largest unit."""
    if not isinstance(at_us, int) or at_us <= 0:
        return ""
    seconds = max(0, now_us - at_us) // 1_000_000
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
