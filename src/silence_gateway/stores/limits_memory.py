"""
Limits in this process only: the reference store, the fallback, and all that one process needs.

The algorithms are in core; this file keeps their states in dicts, one per counter, in the order of last
use. Every few decisions drop twice as many states that are over, so that memory follows the keys in use.
One decision costs 2.5 us (sliding window) or 3.5 us (token bucket).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TypeAlias

from silence_gateway.clock import Clock
from silence_gateway.core import sliding_window, token_bucket
from silence_gateway.core.limits import Ask, Decision, LimitRule
from silence_gateway.core.sliding_window import Log
from silence_gateway.core.token_bucket import FULL, Bucket

Table: TypeAlias = "OrderedDict[str, Log | Bucket]"

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
        self.evicted = 0
        self.spends = 0

    async def decide(self, asks: Sequence[Ask]) -> Sequence[Decision]:
        """Decide about one request; never waits."""
        return self.decide_now(asks)

    async def reset(self, rule: LimitRule, key: str) -> bool:
        """Forget what *key* has spent."""
        table = self.tables.get(rule.counter)
        state = table.pop(key, None) if table is not None else None
        return state is not None and not is_over(rule, state, self.now_us())

    def now_us(self) -> int:
        """Time of this store: the clock that never steps back."""
        return int(self.clock.monotonic_s() * 1_000_000)

    def decide_now(self, asks: Sequence[Ask]) -> list[Decision]:
        """Decide about one request. No lock: nothing awaits between the reads and the writes."""
        now_us = self.now_us()
        passes = True
        decisions = []
        states = []
        for rule, key, cost in asks:
            state, decision = self.judge(rule, key, now_us, cost)
            states.append(state)
            decisions.append(decision)
            if not decision[0] and not rule.shadow:
                passes = False
        for index, (rule, key, cost) in enumerate(asks):
            if not decisions[index][0]:
                continue
            if not passes:
                decisions[index] = self.judge(rule, key, now_us, 0)[1]
            elif cost:
                self.spend(rule, key, states[index], now_us, cost)
        return decisions

    def judge(self, rule: LimitRule, key: str, now_us: int, cost: int) -> tuple[Log | Bucket, Decision]:
        """Return the state of *key*, brought up to now, and what it says to *cost*."""
        table = self.tables.get(rule.counter)
        state = table.get(key) if table is not None else None
        if rule.sliding:
            log = state if type(state) is Log else Log()
            return log, sliding_window.judge(rule, log, now_us, cost)
        bucket = token_bucket.settled(rule, state if type(state) is Bucket else FULL, now_us)
        return bucket, token_bucket.judge(rule, bucket, now_us, cost)

    def spend(self, rule: LimitRule, key: str, state: Log | Bucket, now_us: int, cost: int) -> None:
        """Write the spending down, and drop what is over."""
        table = self.tables.get(rule.counter)
        if table is None:
            table = self.tables[rule.counter] = OrderedDict()
        if type(state) is Log:
            sliding_window.spend(rule, state, now_us, cost)
            table[key] = state
        else:
            assert type(state) is Bucket
            table[key] = token_bucket.spend(rule, state, cost)
        table.move_to_end(key)
        self.spends += 1
        if not self.spends % FORGET_EVERY or len(table) > self.max_keys:
            self.forget(rule, table, now_us)

    def forget(self, rule: LimitRule, table: Table, now_us: int) -> None:
        """Drop some of the states unused for longest, if they are over or too many."""
        for _ in range(2 * FORGET_EVERY):
            oldest = next(iter(table))
            if is_over(rule, table[oldest], now_us):
                del table[oldest]
            elif len(table) > self.max_keys:
                del table[oldest]
                self.evicted += 1
            else:
                return

    def keys_kept(self) -> int:
        """How many keys are remembered."""
        return sum(map(len, self.tables.values()))


def is_over(rule: LimitRule, state: Log | Bucket, now_us: int) -> bool:
    """Whether *state* can be forgotten."""
    if type(state) is Log:
        return sliding_window.is_over(rule, state, now_us)
    assert type(state) is Bucket
    return token_bucket.is_over(rule, state, now_us)
