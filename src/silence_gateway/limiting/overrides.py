"""
Exceptions for single keys, made at run time for the whole fleet: another rate, none, or a block.

They live on the board, so every instance has them in memory and a request costs no trip for them; with
a TTL they end by themselves. A key is stored as its hash, with a text for people to read that is the
hash again where the key may be a secret.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import Any

from silence_gateway.clock import Clock
from silence_gateway.core.limits import LimitRule
from silence_gateway.errors import BadRequest, StoreMisconfigured
from silence_gateway.events import Observer, nobody
from silence_gateway.limiting.override_entry import (
    MAX_TEXT,
    Override,
    OverrideChanged,
    OverrideUnreadable,
    read,
    wished,
    written,
)
from silence_gateway.stores.contracts import Board

ROOM = "limit-overrides"
MAX_OVERRIDES = 9_000
"""In the whole fleet: a room of the board holds 10,000. Whoever needs more wants another limit."""

MAX_DIGESTS = 20_000
MAX_KEY_CHARS = 512
"""Hashes of longer keys are not remembered, so that nobody fills the memory with them."""


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
        override, ttl_s = wished(rule, shown, said, by=by, cost=cost, now_us=self.clock.now_us())
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
