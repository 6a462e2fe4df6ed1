"""
Limits in this process only: the reference store, the fallback, and all that one process needs.

The algorithms are in core; this file keeps their states in dicts, one per counter, in the order of last
use. Every few decisions drop twice as many states that are over, so that memory follows the keys in use.
One decision costs 2.5 us (sliding window) or 3.5 us (token bucket).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice
from typing import Any, TypeAlias

from silence_gateway.clock import Clock
from silence_gateway.core import concurrency
from silence_gateway.core.algorithms import ARITHMETIC
from silence_gateway.core.concurrency import Places
from silence_gateway.core.limits import Ask, Change, Changed, Decision, LimitRule, Op
from silence_gateway.core.penalty import standing_block, with_block

Table: TypeAlias = "OrderedDict[str, Any]"
"""What each key of one counter has spent, in whatever form its algorithm keeps it."""

MAX_KEYS = 100_000
"""Keys kept per counter. Beyond it the key unused for longest is forgotten, and counted in `evicted`."""

FORGET_EVERY = 8
"""Decisions that spend between two looks at what is over."""


class MemoryLimitStore:
    """
    A `LimitStore` of this process.

    Attributes:
        evicted: Keys that were forgotten for want of room, though they still mattered.
    """

    def __init__(self, clock: Clock, *, max_keys: int = MAX_KEYS) -> None:
        self.clock = clock
        self.max_keys = max_keys
        self.tables: dict[str, Table] = {}
        self.blocks: dict[str, dict[str, int]] = {}
        self.evicted = 0
        self.spends = 0

    def reaches(self, _rule: LimitRule, _key: str) -> bool:
        """It is here."""
        return True

    def at_once(self, asks: Sequence[Ask]) -> Sequence[Decision]:
        """Decide about one request; this store never has to wait."""
        return self.decide_now(asks)

    async def decide(self, asks: Sequence[Ask]) -> Sequence[Decision]:
        """Decide about one request; never waits."""
        return self.decide_now(asks)

    async def adjust(self, changes: Sequence[Change]) -> Sequence[Changed]:
        """Change what keys have spent; never waits."""
        return self.adjust_now(changes)

    async def reset(self, rule: LimitRule, key: str) -> bool:
        """Forget what *key* has spent, and that it is blocked."""
        blocked = self.blocks.get(rule.counter, {}).pop(key, 0) > self.now_us()
        table = self.tables.get(rule.counter)
        state = table.pop(key, None) if table is not None else None
        return blocked or (state is not None and not is_over(rule, state, self.now_us()))

    def now_us(self) -> int:
        """Time of this store: the clock that never steps back."""
        return int(self.clock.monotonic_s() * 1_000_000)

    def decide_now(self, asks: Sequence[Ask]) -> list[Decision]:
        """Decide about one request. No lock: nothing awaits between the reads and the writes."""
        now_us = self.now_us()
        passes = True
        decisions = []
        for ask in asks:
            decision = self.judge(ask, now_us)
            decisions.append(decision)
            if not decision[0] and not ask[0].shadow:
                passes = False
        for index, (rule, key, cost, holder) in enumerate(asks):
            if not decisions[index][0] or not cost:
                continue
            if passes:
                self.spend(rule, key, now_us, cost, holder)
            else:
                decisions[index] = self.judge(Ask(rule, key, 0), now_us)
        return decisions

    def judge(self, ask: Ask, now_us: int) -> Decision:
        """Return what a limit says to *ask*; begins a block where a limit that blocks refuses."""
        rule, key, cost, holder = ask
        table = self.tables.get(rule.counter)
        state = table.get(key) if table is not None else None
        if rule.kind == "c":
            return concurrency.judge(rule, state, now_us, cost, holder)
        decision = ARITHMETIC[rule.kind].judge(rule, state, now_us, cost)
        if rule.block_us:
            blocks = self.blocks.setdefault(rule.counter, {})
            standing_us = standing_block(rule, blocks.get(key, 0), now_us)
            decision, until_us = with_block(rule, standing_us, now_us, cost, decision)
            if until_us:
                blocks[key] = until_us
                self.forget_blocks(blocks, now_us)
        return decision

    def spend(self, rule: LimitRule, key: str, now_us: int, cost: int, holder: str = "") -> None:
        """Write the spending down, and drop what is over."""
        table = self.tables.get(rule.counter)
        if table is None:
            table = self.tables[rule.counter] = OrderedDict()
        state = table.get(key)
        if rule.kind == "c":
            table[key] = concurrency.spend(rule, state, now_us, holder)
        else:
            table[key] = ARITHMETIC[rule.kind].spend(rule, state, now_us, cost)
        if state is not None:
            table.move_to_end(key)
        self.spends += 1
        if not self.spends % FORGET_EVERY or len(table) > self.max_keys:
            self.forget(rule, table, now_us)

    def adjust_now(self, changes: Sequence[Change]) -> list[Changed]:
        """Change what keys have spent, one change after the other."""
        now_us = self.now_us()
        return [self.change(change, now_us) for change in changes]

    def change(self, change: Change, now_us: int) -> Changed:
        """Make one change."""
        op, rule, key, amount, at_us, holder = change
        arithmetic = ARITHMETIC.get(rule.kind)
        table = self.tables.get(rule.counter)
        state = table.get(key) if table is not None else None
        if op is Op.TAKE and arithmetic is not None:
            amount = min(amount, arithmetic.judge(rule, state, now_us, 0).remaining)
        if op is Op.RENEW:
            amount = 1
        if op in (Op.CHARGE, Op.TAKE, Op.RENEW):
            if amount:
                self.spend(rule, key, now_us, amount, holder)
        elif table is None or state is None:
            amount = 0
        elif arithmetic is None:
            table[key], amount = concurrency.release(rule, state, now_us, holder)
        else:
            after, amount = arithmetic.give_back(rule, state, now_us, at_us, amount)
            if amount:
                table[key] = after
        table = self.tables.get(rule.counter)
        state = table.get(key) if table is not None else None
        used_of = concurrency.used_of if arithmetic is None else arithmetic.used_of
        return Changed(amount, *used_of(rule, state, now_us), now_us)

    def forget(self, rule: LimitRule, table: Table, now_us: int) -> None:
        """Drop the states that are over among those unused for longest."""
        for _ in range(2 * FORGET_EVERY):
            if not table:
                break
            oldest = next(iter(table))
            if is_over(rule, table[oldest], now_us):
                del table[oldest]
            elif len(table) > self.max_keys:
                del table[oldest]
                self.evicted += 1
            else:
                break

    def forget_blocks(self, blocks: dict[str, int], now_us: int) -> None:
        """Drop the oldest blocks of one limit that have ended, or are too many; all last equally long."""
        for key in list(islice(blocks, 2)):
            if blocks[key] <= now_us or len(blocks) > self.max_keys:
                del blocks[key]

    def keys_kept(self) -> int:
        """How many keys are remembered."""
        return sum(map(len, self.tables.values()))


def is_over(rule: LimitRule, state: Any, now_us: int) -> bool:
    """Whether *state* can be forgotten."""
    if type(state) is Places:
        return concurrency.is_over(rule, state, now_us)
    return ARITHMETIC[rule.kind].is_over(rule, state, now_us)
