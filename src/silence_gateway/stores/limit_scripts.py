"""
The scripts about limits, put together from the algorithms that a call needs.

An algorithm is a file of its own in `scripts/limits/`, the twin of a file in `core/`. A script is the
prologue, the algorithms of its rules, and what to do with them: a call that only asks about sliding
windows does not pay for the others (1 us per algorithm and call). There are at most 3 x 31 of them, and
a store only ever loads those that its limits need.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from silence_gateway.core.limits import LimitRule
from silence_gateway.core.token_bucket import fill_time_us, most_debt
from silence_gateway.stores.contracts import Script

SHORT_US = 3_600_000_000
"""Up to an hour a key may outlive what it counts; that saves working out each key's own end, 0.7 us."""

MARGIN_MS = 2_000
"""How much longer than what it counts a key lives, for clocks that step and numbers that are rounded."""

FILE_OF_KIND = {
    "w": "sliding_window",
    "n": "sliding_counter",
    "b": "token_bucket",
    "f": "fixed_window",
    "h": "fixed_window",
    "c": "concurrency",
}


@cache
def part(name: str) -> str:
    """Return one file of `scripts/limits/`."""
    return files("silence_gateway.stores").joinpath(f"scripts/limits/{name}.lua").read_text()


@cache
def script_of(what: str, algorithms: tuple[str, ...]) -> Script:
    """Return the script that does *what* (`decide`, `look`, `adjust`) with *algorithms*, named by files."""
    text = "\n".join(part(name) for name in ("prologue", *algorithms, what))
    return Script(f"limits_{what} ({', '.join(algorithms)})", text)


@cache
def algorithms_of(kinds: frozenset[str]) -> tuple[str, ...]:
    """Return the files that rules of these kinds need, in a fixed order."""
    return tuple(sorted({FILE_OF_KIND[kind] for kind in kinds}))


def script_for(what: str, kinds: Iterable[str]) -> Script:
    """Return the script that does *what* with rules of *kinds*."""
    return script_of(what, algorithms_of(frozenset(kinds)))


def declaration(rule: LimitRule) -> tuple[bytes | int, ...]:
    """Describe a rule the way the prologue reads it."""
    numbers: tuple[int, int, int] = (rule.window_us, 0, 0)
    lasts_us = rule.window_us
    match rule.kind:
        case "w":
            eighth_us = -(-rule.window_us // 8)
            numbers = (rule.window_us, eighth_us, 0)
            lasts_us = rule.window_us + eighth_us
        case "n":
            numbers = (rule.window_us, rule.grain_us, 0)
            lasts_us = 2 * rule.window_us
        case "b":
            numbers = (rule.earn_units, rule.token_units, most_debt(rule))
            lasts_us = fill_time_us(rule)
        case "f" | "h":
            numbers = (rule.window_us, rule.offset_us, rule.months)
        case "c":
            numbers = (rule.ttl_us, 0, 0)
            lasts_us = rule.ttl_us
    # Where it is short, every key of a rule lives as long as the one that lives longest.
    ttl_ms = b"%d" % (lasts_us // 1000 + MARGIN_MS) if lasts_us <= SHORT_US else b""
    return (rule.kind.encode(), rule.capacity, *numbers, ttl_ms, int(rule.shadow), rule.block_us)
