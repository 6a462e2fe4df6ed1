"""
One exception for one key of a limit: what may be said, how it is stored, and how it is read again.

Pure: nothing here knows where exceptions live; that is `overrides.py`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from silence_gateway.core.limits import MAX_EXACT, LimitRule
from silence_gateway.core.rates import parse_rate
from silence_gateway.errors import BadRequest
from silence_gateway.events import Event

MAX_TTL_S = 366 * 86_400
MAX_TEXT = 200

WANTS = ("rate", "burst", "max", "unlimited", "blocked")
FORMS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "rate": ((str,), "a text such as '100/minute'"),
    "burst": ((int,), "a whole number"),
    "max": ((int,), "a whole number"),
    "unlimited": ((bool,), "true or false"),
    "blocked": ((bool,), "true or false"),
    "ttl": ((int, float), "a number of seconds"),
    "reason": ((str,), "a text"),
}
"""What may be said about a key, and in which form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """
    What holds for one key of one limit instead.

    Attributes:
        limit: Name of the limit.
        shown: The key, as people may see it.
        rate: As a limit's `rate`; empty for its own.
        burst: As a limit's `burst`; None for its own, or for the count of *rate*.
        max: As a concurrency limit's `max`; None for its own.
        unlimited: Nothing is counted or refused.
        blocked: Everything is refused.
        reason: Why, in the words of whoever made it.
        by: Who made it.
        added_us: When, in microseconds since the epoch.
        until_us: When it ends by itself; 0 means never.
    """

    limit: str
    shown: str
    rate: str = ""
    burst: int | None = None
    max: int | None = None
    unlimited: bool = False
    blocked: bool = False
    reason: str = ""
    by: str = ""
    added_us: int = 0
    until_us: int = 0

    def what(self) -> str:
        """Say what holds, in few words."""
        said = [f"{name} {getattr(self, name)}" for name in ("rate", "burst", "max") if getattr(self, name)]
        return ", ".join(said + [name for name in ("unlimited", "blocked") if getattr(self, name)])

    def rule_of(self, rule: LimitRule) -> LimitRule:
        """
        Return the rule that holds for this key.

        Raises:
            ValueError: Its numbers do not go with the limit's algorithm.
        """
        if self.max is not None:
            return replace(rule, max=self.max)
        if not self.rate and self.burst is None:
            return rule
        rate = parse_rate(self.rate) if self.rate else rule.rate
        burst = self.burst if self.burst is not None or self.rate else rule.burst
        most = burst or (rate.count if rate is not None else 0)
        return replace(rule, rate=rate, burst=burst, lease=min(rule.lease, most))


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideChanged(Event):
    """
    Somebody made or removed an exception for one key: a line for the audit.

    Attributes:
        change: `made` (or replaced), `removed`, or `refused` by the store, which took the change before it
            back. That one has ended by itself nobody tells: *ttl_s* of the line of its beginning says when.
        limit: Name of the limit.
        key: The key, as people may see it.
        what: What holds from now on.
        reason: Why.
        by: Who did it.
        ttl_s: For how long it holds; None for no end.
    """

    change: str
    limit: str
    key: str
    what: str = ""
    reason: str = ""
    by: str = ""
    ttl_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideUnreadable(Event):
    """The board holds an exception that this version cannot read; it is not applied."""

    name: str

    @property
    def level(self) -> str:
        """Somebody wrote it by hand, or runs another version."""
        return "warning"


def wished(
    rule: LimitRule, shown: str, said: Mapping[str, Any], *, by: str, cost: int, now_us: int
) -> tuple[Override, float | None]:
    """
    Return what is wanted for a key, and for how many seconds; None for ever.

    *cost* is what a request costs at least.

    Raises:
        BadRequest: It cannot be had; the text says what, of which limit, and how to put it right.
    """
    try:
        check_forms(said)
        wanted = [name for name in WANTS if is_said(said.get(name))]
        if not wanted:
            raise ValueError("say what holds for this key: rate, burst, max, unlimited or blocked")
        if len(wanted) > 1 and wanted != ["rate", "burst"]:
            raise ValueError(f"{' and '.join(wanted)} do not go together: keep one")
        ttl_s, reason = said.get("ttl"), said.get("reason") or ""
        if ttl_s is not None and not 0 < ttl_s <= MAX_TTL_S:
            raise ValueError(f"ttl is above 0 s and at most 366 days, not {ttl_s:g} s")
        if len(reason) > MAX_TEXT:
            raise ValueError(f"a reason has at most {MAX_TEXT} characters, not {len(reason)}")
        override = Override(
            limit=rule.name,
            shown=shown[:MAX_TEXT],
            **{name: said[name] for name in wanted},
            reason=reason,
            by=by[:MAX_TEXT],
            added_us=now_us,
            until_us=0 if ttl_s is None else now_us + math.ceil(ttl_s * 1_000_000),
        )
        most = override.rule_of(rule).capacity
        if cost > most:
            raise ValueError(f"a cost of {cost} never fits in {most}: allow more, or say blocked")
    except ValueError as exc:
        raise BadRequest(f"limit {rule.name}: {str(exc).removeprefix(f'limit {rule.name}: ')}") from None
    return override, ttl_s


def written(override: Override) -> bytes:
    """Write an exception as the board keeps it."""
    values = {name: getattr(override, name) for name in Override.__dataclass_fields__ if name != "limit"}
    return json.dumps({name: value for name, value in values.items() if name == "shown" or value}).encode()


def read(limit: str, value: bytes) -> Override | None:
    """Read an exception as the board keeps it; None if that is none."""
    try:
        said = json.loads(value)
        override = Override(limit=limit, **said)
    except (ValueError, TypeError, RecursionError):
        return None
    numbers = (override.added_us, override.until_us)
    optional = (override.burst, override.max)
    texts = (override.shown, override.rate, override.reason, override.by)
    fits = (
        all(type(number) is int and 0 <= number < MAX_EXACT for number in numbers)
        and all(number is None or type(number) is int for number in optional)
        and all(isinstance(text, str) and len(text) <= MAX_TEXT for text in texts)
        and type(override.unlimited) is bool
        and type(override.blocked) is bool
    )
    return override if fits else None


def is_said(value: Any) -> bool:
    """Whether a value says anything; 0 does, though nothing useful."""
    return value is not None and value is not False and value != ""


def check_forms(said: Mapping[str, Any]) -> None:
    """
    Check that everything said is known, and of the form it should have.

    Raises:
        ValueError: It is not; the text says what would be right.
    """
    unknown = said.keys() - FORMS.keys()
    if unknown:
        # A misspelt ttl would make a block of an hour one for ever.
        wrong = ", ".join(sorted(map(str, unknown)))[:100]
        raise ValueError(f"{wrong} is not known here; there are {', '.join(FORMS)}")
    for name, value in said.items():
        types, form = FORMS[name]
        if value is not None and type(value) not in types:
            raise ValueError(f"{name} is {form}, not {str(value)[:40]!r}")
