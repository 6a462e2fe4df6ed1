"""
Everything that the admin API says about one upstream, endpoint by endpoint, for a person at a terminal.

As `upstream_tables.py`: nothing here asks anybody, and what an answer lacks is a dash or left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from silence_gateway.app.admin_client import WrongInput
from silence_gateway.app.fleet_tables import Item, ago, items, words
from silence_gateway.app.tables import cell, printable
from silence_gateway.app.upstream_tables import (
    COLOURS,
    YELLOW,
    Paint,
    folded,
    lately,
    object_of,
    plain,
    remarks,
    state_of,
    summary,
    troubles,
)
from silence_gateway.app.wording import count, counted, duration, share, size

LABEL_WIDTH = 15
MAX_INSTANCE = 16
TOGETHER_US = 2_000_000
"""Moves of several workers within this time are told in one line, if they are alike."""


def one_upstream(
    body: Any, now_us: int, *, width: int = 80, paint: Paint = plain, only: str | None = None
) -> str:
    """
    Return an upstream and all of its endpoints in detail, or *only* one of them.

    Raises:
        WrongInput: It has no such endpoint.
    """
    upstream: Item = body if isinstance(body, dict) else {}
    endpoints = items(upstream.get("endpoints"))
    if only is not None:
        known = [str(endpoint.get("address")) for endpoint in endpoints]
        if only not in known:
            raise WrongInput(
                f"{upstream.get('name')} has no endpoint {only}; it has {', '.join(known) or 'none'}"
            )
        (endpoint,) = [one for one in endpoints if one.get("address") == only]
        return one_endpoint(endpoint, words(upstream.get("instances")), now_us, width, paint)
    lines = list(laid_out(upstream_facts(upstream, now_us), width))
    head = folded(f"{upstream.get('name')}: {summary(upstream)}", width, indent=4)
    blocks = ["\n".join([*(printable(line) for line in head), *troubles(upstream, width), *lines])]
    blocks += [
        one_endpoint(endpoint, words(upstream.get("instances")), now_us, width, paint)
        for endpoint in endpoints
    ]
    return "\n\n".join(blocks)


def one_endpoint(endpoint: Item, instances: list[str], now_us: int, width: int, paint: Paint) -> str:
    """Return one endpoint; *instances* are those of the gateway that was asked."""
    state = state_of(endpoint)
    head = f"{cell(endpoint.get('address'))}  {paint(cell(state), COLOURS.get(state, YELLOW))}"
    lines = [f"{head} for {ago(endpoint.get('since_us'), now_us) or '-'}"]
    for said in remarks(endpoint, now_us):
        lines += [printable(part) for part in folded(said, width, indent=2, all_lines=True)]
    lines += laid_out(endpoint_facts(endpoint, instances, now_us), width)
    return "\n".join(lines)


def laid_out(facts: Iterator[tuple[str, str]], width: int) -> Iterator[str]:
    """Yield facts as lines: what each is about, and what there is to say, folded beside it."""
    for label, text in facts:
        label = f"  {label}".ljust(LABEL_WIDTH)
        for line in folded(text, width - LABEL_WIDTH, indent=0):
            yield printable(label + line)
            label = " " * LABEL_WIDTH


def upstream_facts(upstream: Item, now_us: int) -> Iterator[tuple[str, str]]:
    """Yield what there is to say about an upstream as a whole."""
    since = ago(upstream.get("since_us"), now_us) or "-"
    yield "since", f"{since}: {by_code(upstream.get('calls_by_code'))}"
    yield "latency", quantiles(object_of(upstream, "latency"))
    yield "bytes", f"{size(upstream.get('bytes_in'))} in, {size(upstream.get('bytes_out'))} out"
    for gone in reversed(items(upstream.get("departed"))):
        calls = f"{count(gone.get('calls'))} calls, {count(gone.get('faults'))} failed"
        error = f"; {gone['last_error']}" if gone.get("last_error") else ""
        yield "left", f"{cell(gone.get('address'))}, {ago(gone.get('left_us'), now_us)} ago: {calls}{error}"
    yield from breaker_facts(upstream, words(upstream.get("instances")), now_us)


def endpoint_facts(endpoint: Item, instances: list[str], now_us: int) -> Iterator[tuple[str, str]]:
    """Yield what there is to say about one endpoint."""
    recent = object_of(endpoint, "recent")
    yield "calls", f"{by_code(endpoint.get('codes'))}; {count(endpoint.get('in_flight'))} in flight"
    yield "latency", quantiles(object_of(endpoint, "latency"))
    some = f", {share(recent.get('faults'), recent['calls'])} failed" if recent.get("calls") else ""
    took = f", {quantiles(object_of(recent, 'latency'))}" if some else ""
    yield "last minute", f"{lately(recent)}{some}{took}"
    connections = (
        f"{counted(endpoint.get('connections'), 'connection')} ({count(endpoint.get('connects'))} opened)"
    )
    traffic = f"{size(endpoint.get('bytes_in'))} in, {size(endpoint.get('bytes_out'))} out"
    yield "network", f"{connections}, {counted(endpoint.get('streams'), 'stream')}, {traffic}"
    place = [f"weight {count(endpoint.get('weight'))}", f"priority {count(endpoint.get('priority'))}"]
    yield "place", ", ".join([*place, f"zone {endpoint['zone']}"] if endpoint.get("zone") else place)
    yield from health_facts(endpoint, instances, now_us)
    yield "ejections", count(endpoint.get("ejections"))
    if endpoint.get("last_error"):
        said, code = str(endpoint["last_error"]), endpoint.get("last_error_code")
        # What an upstream answers begins with its code by itself.
        code = f"{code}, " if code and not said.startswith(f"{code}:") else ""
        yield "last error", f"{ago(endpoint.get('last_error_us'), now_us)} ago, {code}{said}"
    yield from breaker_facts(endpoint, instances, now_us)


def health_facts(endpoint: Item, instances: list[str], now_us: int) -> Iterator[tuple[str, str]]:
    """Yield how healthy an endpoint is, and who says so."""
    told = str(endpoint.get("health") or "-")
    if endpoint.get("last_check"):
        by = who(endpoint.get("last_check_by"), instances)
        when = ago(endpoint.get("last_check_us"), now_us)
        told += f"; last check {when} ago by {by}: {endpoint['last_check']}"
    yield "health", told
    if endpoint.get("prober"):
        since = ago(endpoint.get("prober_since_us"), now_us)
        yield "checked by", f"{who(endpoint['prober'], instances)}, since {since}"
    elif endpoint.get("prober") is not None:
        yield "checked by", "nobody that is known of"


def breaker_facts(guarded: Item, instances: list[str], now_us: int) -> Iterator[tuple[str, str]]:
    """Yield what the breaker of an endpoint, or of the whole upstream, is and did, the latest first."""
    moved = object_of(guarded, "breaker_moved_to")
    opened = moved.get("open", 0)
    state = str(guarded.get("breaker") or "-").replace("_", " ")
    yield "breaker", f"{state}; opened {counted(opened, 'time')}"
    for moves in alike(reversed(items(guarded.get("breaker_moves")))):
        move = moves[0]
        states = f"{move.get('old')} to {move.get('new')}".replace("_", " ")
        places = [who(one.get("instance"), []) for one in moves]
        place = f" at {', '.join(places)}" if len(places) < len(instances) else ""
        by = who(move.get("by"), instances)
        yield "", f"{clock_of(move.get('at_us'), now_us)} {states}{place}, by {by}: {move.get('reason')}"


def alike(moves: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield moves that several workers made at the same time for the same reason together."""
    group: list[Item] = []
    for move in moves:
        if group and not same(group[-1], move):
            yield group
            group = []
        group.append(move)
    if group:
        yield group


def same(one: Item, other: Item) -> bool:
    """Return whether two moves are one decision, made known to two workers."""
    if any(one.get(name) != other.get(name) for name in ("old", "new", "by", "reason")):
        return False
    one_us, other_us = one.get("at_us"), other.get("at_us")
    near = isinstance(one_us, int) and isinstance(other_us, int) and abs(one_us - other_us) < TOGETHER_US
    return near and one.get("instance") != other.get("instance")


def by_code(counts: Any) -> str:
    """Return calls by their codes, most of them first."""
    if not isinstance(counts, dict) or not counts:
        return "no calls yet"
    known = [(code, number) for code, number in counts.items() if isinstance(number, int)]
    return ", ".join(f"{count(number)} {code}" for code, number in sorted(known, key=lambda one: -one[1]))


def quantiles(latency: Item) -> str:
    """Return how long calls took."""
    if not latency.get("calls"):
        return "no unary calls timed"
    return ", ".join(f"{name} {duration(latency.get(f'{name}_s'))}" for name in ("p50", "p90", "p99"))


def who(instance: Any, instances: list[str]) -> str:
    """Return an instance's name, short, and whether that is the one that was asked."""
    if not isinstance(instance, str) or not instance:
        return "-"
    return f"{instance[:MAX_INSTANCE]} (here)" if instance in instances else instance[:MAX_INSTANCE]


def clock_of(at_us: Any, now_us: int) -> str:
    """Return a time of day in UTC, as logs have it, and how long ago that was."""
    if not isinstance(at_us, int) or not 0 < at_us < 10**17:
        return "-"
    return f"{datetime.fromtimestamp(at_us / 1e6, UTC):%H:%M:%S}Z ({ago(at_us, now_us)} ago)"
