"""
Exceptions for single keys, made at run time for the whole fleet: another rate, none, or a block.

They live on the board, so every instance has them in memory and a request costs no trip for them; with
a TTL they end by themselves. A key is stored as its hash, with a text for people to read that is the
hash again where the key may be a secret.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

from silence_gateway.clock import Clock
from silence_gateway.core.limits import MAX_EXACT, LimitRule
from silence_gateway.core.rates import parse_rate
from silence_gateway.errors import BadRequest, StoreMisconfigured
from silence_gateway.events import Event, Observer, nobody
from silence_gateway.stores.contracts import Board

ROOM = "limit-overrides"
MAX_OVERRIDES = 9_000
"""In the whole fleet: a room of the board holds 10,000. Whoever needs more wants another limit."""

MAX_TTL_S = 366 * 86_400
MAX_TEXT = 200
MAX_DIGESTS = 20_000
MAX_KEY_CHARS = 512
"""Hashes of longer keys are not remembered, so that nobody fills the memory with them."""

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


class Overrides:
    """
    The exceptions of a fleet; `start` before use.

    Attributes:
        by_limit: By limit and hash of the key; a limit without any is not in it.
        on_changed: Called after any of them has changed.
    """

    def __init__(self, board: Board, clock: Clock, observer: Observer = nobody) -> None:
        self.board = board
        self.clock = clock
        self.observer = observer
        self.by_limit: dict[str, dict[str, Override]] = {}
        self.on_changed: Callable[[], None] = lambda: None
        self.digests: dict[str, str] = {}
        self.rules: dict[tuple[int, Override], tuple[LimitRule, LimitRule]] = {}

    def start(self) -> None:
        """Take up what the fleet has, now and from now on."""
        for name, value in self.board.watch(ROOM, self.on_change).items():
            self.on_change(name, value)

    def find(self, limit: str, key: str) -> Override | None:
        """Return the exception for *key*, if there is one."""
        overrides = self.by_limit.get(limit)
        return overrides.get(self.digest(key)) if overrides else None

    def digest(self, key: str) -> str:
        """Return the hash of a key; 1.5 us, or 0.1 for one seen before."""
        digest = self.digests.get(key)
        if digest is None:
            digest = blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
            if len(key) <= MAX_KEY_CHARS:
                if len(self.digests) >= MAX_DIGESTS:
                    self.digests.clear()
                self.digests[key] = digest
        return digest

    def rule_for(self, override: Override, rule: LimitRule) -> LimitRule:
        """Return the rule that *override* makes of *rule*, the same one every time."""
        known = self.rules.get((id(rule), override))
        if known is None:
            if len(self.rules) >= 2 * MAX_OVERRIDES:
                self.rules.clear()
            try:
                made = override.rule_of(rule)
            except ValueError:
                made = rule  # the limit was configured anew since, and no longer goes with it
            known = self.rules[id(rule), override] = (rule, made)
        return known[1]

    async def put(
        self, rule: LimitRule, key: str, shown: str, said: Mapping[str, Any], by: str, *, cost: int = 1
    ) -> Override:
        """
        Make an exception for *key*, or replace the one it has.

        *shown* is the key as people may see it; the key itself is stored nowhere. *said* is what its maker
        wants: the fields of `Override` that hold, `ttl` in seconds. *cost* is what a request costs at least.

        Raises:
            BadRequest: It cannot be had.
            StoreUnavailable: It holds on this instance; the fleet learns of it when the store is back.
            StoreMisconfigured: The store refused it; it does not hold.
        """
        override, ttl_s = self.read_wish(rule, shown, said, by, cost)
        is_new = self.find(rule.name, key) is None
        if is_new and sum(map(len, self.by_limit.values())) >= MAX_OVERRIDES:
            raise BadRequest(f"there are {MAX_OVERRIDES} overrides already: remove some, or make a limit")
        made = OverrideChanged(
            change="made",
            limit=rule.name,
            key=override.shown,
            what=override.what(),
            reason=override.reason,
            by=override.by,
            ttl_s=ttl_s,
        )
        await self.tell_and_do(
            made, self.board.put(ROOM, self.name_of(rule.name, key), written(override), ttl_s)
        )
        return override

    async def remove(self, limit: str, key: str, shown: str, by: str) -> bool:
        """
        Take back the exception for *key*; returns whether there was one.

        Raises:
            StoreUnavailable: It is gone here; the fleet learns of it when the store is back.
            StoreMisconfigured: The store refused; it goes on.
        """
        removing = self.board.remove(ROOM, self.name_of(limit, key))
        if self.find(limit, key) is None:
            await removing
            return False
        gone = OverrideChanged(change="removed", limit=limit, key=shown[:MAX_TEXT], by=by[:MAX_TEXT])
        await self.tell_and_do(gone, removing)
        return True

    async def tell_and_do(self, change: OverrideChanged, doing: Coroutine[Any, Any, None]) -> None:
        """Tell of a change that holds here from now on, whatever becomes of the call that asked for it."""
        self.observer(change)
        try:
            await doing
        except StoreMisconfigured:
            self.observer(replace(change, change="refused"))
            raise

    def listed(self, limit: str) -> list[Override]:
        """Return the exceptions of one limit, in the order of their keys."""
        return sorted(self.by_limit.get(limit, {}).values(), key=lambda override: override.shown)

    def name_of(self, limit: str, key: str) -> str:
        """Return the name on the board of the exception for *key*."""
        return f"{limit} {self.digest(key)}"

    def read_wish(
        self, rule: LimitRule, shown: str, said: Mapping[str, Any], by: str, cost: int
    ) -> tuple[Override, float | None]:
        """
        Return what is wanted, and for how many seconds.

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
            now_us = self.clock.now_us()
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

    def on_change(self, name: str, value: bytes | None) -> None:
        """The board has a new, changed or ended exception."""
        limit, _, digest = name.partition(" ")
        if value is None:
            overrides = self.by_limit.get(limit)
            if overrides is not None and overrides.pop(digest, None) is not None and not overrides:
                del self.by_limit[limit]
            self.on_changed()
            return
        override = read(limit, value)
        if override is None:
            self.observer(OverrideUnreadable(name=name[:100]))
            return
        self.by_limit.setdefault(limit, {})[digest] = override
        self.on_changed()


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
