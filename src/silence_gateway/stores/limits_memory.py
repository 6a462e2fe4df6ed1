"""
Limits in this process only: the reference store, the fallback, and all that one process needs.

The algorithms are in core; this file keeps their states in dicts, one per counter, in the order of last
use. Every few decisions drop twice as many states that are over, so that memory follows the keys in use.
One decision costs 0.9 us (sliding window; 2 us where uses leave it) or 3.2 us (token bucket).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from itertools import islice
from typing import Any, TypeAlias

from silence_gateway.clock import Clock
from silence_gateway.core import concurrency
from silence_gateway.core.algorithms import ARITHMETIC
from silence_gateway.core.concurrency import Places
from silence_gateway.core.limits import Ask, Change, Changed, Decision, LimitRule, Op
from silence_gateway.core.penalty import standing_block, with_block
from silence_gateway.core.prospect import Prospect, prospect_of
from silence_gateway.core.sliding_window import Log, admit

Key: TypeAlias = "str | bytes"
"""Whom a counter counts: a text, or the hash of a long one."""

Table: TypeAlias = "OrderedDict[Key, Any]"
"""What each key of one counter has spent, in whatever form its algorithm keeps it."""

MAX_KEYS = 100_000
"""Keys kept per counter. Beyond it the key unused for longest is forgotten, and counted in `evicted`."""

MAX_KEY_CHARS = 512
"""Longer keys are kept as their hash, so that nobody fills the memory with them."""

FORGET_EVERY = 32
"""Decisions that spend between two looks at what is over."""


class MemoryLimitStore:
    """
    A `LimitStore` of this process.

    Attributes:
        evicted: Keys that were forgotten for want of room, though they still mattered.
    """

    def __init__(self, clock: Clock, *, max_keys: int = MAX_KEYS) -> None:
        self.monotonic_s = clock.monotonic_s
        # Windows follow the calendar, and no step of the wall clock shall ever give anybody his uses back.
        self.ahead_us = clock.now_us() - int(clock.monotonic_s() * 1_000_000)
        self.max_keys = max_keys
        self.tables: dict[str, Table] = {}
        self.blocks: dict[str, dict[Key, int]] = {}
        self.evicted = 0
        self.spends = 0

    def reaches(self, _rule: LimitRule, _key: str) -> bool:
        """It is here."""
        return True

    async def decide(self, asks: Sequence[Ask]) -> Sequence[Decision]:
        """Decide about one request; never waits."""
        return self.decide_now(asks)

    async def look(self, asks: Sequence[Ask]) -> Sequence[Prospect]:
        """Tell what each of *asks* would meet; never waits."""
        return self.look_now(asks)

    async def adjust(self, changes: Sequence[Change]) -> Sequence[Changed]:
        """Change what keys have spent; never waits."""
        return self.adjust_now(changes)

    async def reset(self, rule: LimitRule, key: str) -> bool:
        """Forget what *key* has spent, and that it is blocked."""
        kept = kept_as(key)
        blocked = self.blocks.get(rule.counter, {}).pop(kept, 0) > self.now_us()
        table = self.tables.get(rule.counter)
        state = table.pop(kept, None) if table is not None else None
        return blocked or (state is not None and not is_over(rule, state, self.now_us()))

    def now_us(self) -> int:
        """Time of this store: what the wall clock said when it was made, and what has passed since then."""
        return int(self.monotonic_s() * 1_000_000) + self.ahead_us

    def decide_now(self, asks: Sequence[Ask]) -> list[Decision]:
        """Decide about one request. No lock: nothing awaits between the reads and the writes."""
        if len(asks) == 1:
            return [self.decide_one(*asks[0])]
        now_us = self.now_us()
        passes = True
        decisions = []
        keys = [ask[1] if len(ask[1]) <= MAX_KEY_CHARS else kept_as(ask[1]) for ask in asks]
        for key, (rule, _, cost, holder) in zip(keys, asks, strict=True):
            decision = self.judge(rule, key, now_us, cost, holder)
            decisions.append(decision)
            if not decision[0] and not rule.shadow:
                passes = False
        for index, (rule, _, cost, holder) in enumerate(asks):
            if not decisions[index][0] or not cost:
                continue
            if passes:
                self.spend(rule, keys[index], now_us, cost, holder)
            else:
                decisions[index] = self.judge(rule, keys[index], now_us, 0)
        return decisions

    at_once = decide_now  # this store never has to wait

    def decide_one(self, rule: LimitRule, whom: str, cost: int, holder: str = "") -> Decision:
        """Decide about a request of one limit, the usual case: with the fewest looks at anything."""
        key = whom if len(whom) <= MAX_KEY_CHARS else kept_as(whom)
        now_us = int(self.monotonic_s() * 1_000_000) + self.ahead_us
        kind = rule.kind
        if kind == "c" or rule.block_us:
            decision = self.judge(rule, key, now_us, cost, holder)
            if decision[0] and cost:
                self.spend(rule, key, now_us, cost, holder)
            return decision
        table = self.tables.get(rule.counter)
        state = table.get(key) if table is not None else None
        if kind == "w" and table is not None and state is not None:
            decision = admit(rule, state, now_us, cost)
            if cost and decision[0]:
                table.move_to_end(key)
                self.spends = spends = self.spends + 1
                if not spends % FORGET_EVERY:
                    self.forget(rule, table, now_us)
            return decision
        arithmetic = ARITHMETIC[kind]
        decision = arithmetic.judge(rule, state, now_us, cost)
        if decision[0] and cost:
            if table is None or state is None:
                self.spend(rule, key, now_us, cost)
            else:
                table[key] = arithmetic.spend(rule, state, now_us, cost)
                table.move_to_end(key)
                self.spends += 1
                if not self.spends % FORGET_EVERY:
                    self.forget(rule, table, now_us)
        return decision

    def judge(self, rule: LimitRule, key: Key, now_us: int, cost: int, holder: str = "") -> Decision:
        """Return what a limit says to an ask; begins a block where a limit that blocks refuses."""
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

    def spend(self, rule: LimitRule, key: Key, now_us: int, cost: int, holder: str = "") -> None:
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

    def look_now(self, asks: Sequence[Ask]) -> list[Prospect]:
        """Tell what each of *asks* would meet; nothing is spent, and no block begins."""
        now_us = self.now_us()
        return [self.prospect(rule, kept_as(key), now_us, cost) for rule, key, cost, _ in asks]

    def prospect(self, rule: LimitRule, key: Key, now_us: int, cost: int) -> Prospect:
        """Return what a cost would meet at one limit."""
        table = self.tables.get(rule.counter)
        state = table.get(key) if table is not None else None
        judge = concurrency.judge if rule.kind == "c" else ARITHMETIC[rule.kind].judge
        looked = asked = judge(rule, state, now_us, 0)
        if cost:
            asked = judge(rule, state, now_us, cost)
        until_us = standing_block(rule, self.blocks.get(rule.counter, {}).get(key, 0), now_us)
        return prospect_of(looked, asked, until_us - now_us if until_us else 0)

    def adjust_now(self, changes: Sequence[Change]) -> list[Changed]:
        """Change what keys have spent, one change after the other."""
        now_us = self.now_us()
        return [self.change(change, now_us) for change in changes]

    def change(self, change: Change, now_us: int) -> Changed:
        """Make one change."""
        op, rule, whom, amount, at_us, holder = change
        key = kept_as(whom)
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
            elif type(table[oldest]) is Log and table[oldest].window_us > rule.window_us:
                # One key with a longer window of its own must not stand before all others.
                table.move_to_end(oldest)
            else:
                break

    def forget_blocks(self, blocks: dict[Key, int], now_us: int) -> None:
        """Drop the oldest blocks of one limit that have ended, or are too many; all last equally long."""
        for key in list(islice(blocks, 2)):
            if blocks[key] <= now_us or len(blocks) > self.max_keys:
                del blocks[key]

    def keys_kept(self) -> int:
        """How many keys are remembered."""
        return sum(map(len, self.tables.values()))


def kept_as(key: str) -> Key:
    """Return what stands for *key* here; no text is ever the same as the hash of another."""
    if len(key) <= MAX_KEY_CHARS:
        return key
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def is_over(rule: LimitRule, state: Any, now_us: int) -> bool:
    """Whether *state* can be forgotten."""
    if type(state) is Places:
        return concurrency.is_over(rule, state, now_us)
    return ARITHMETIC[rule.kind].is_over(rule, state, now_us)
