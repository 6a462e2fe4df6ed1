"""
How the scripts and the pure functions are held against each other: one trace, driven through both.

Shared by the tests here and by `bench/agreement.py`, which does the same for longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, TypeAlias

import redis

from silence_gateway.core.limits import Ask, Change, Changed, Decision, LimitRule, Op
from silence_gateway.core.prospect import Prospect
from silence_gateway.stores.limit_batch import (
    deliver,
    pack_changes,
    pack_looks,
    pack_requests,
    read_changes,
    read_looks,
)
from silence_gateway.stores.limits_memory import Key, MemoryLimitStore, Table

START_US = 1_764_000_000_000_000

Request: TypeAlias = list[Ask]


class SetClock:
    """A clock that stands where it was put; also the monotonic one, so that time may step back."""

    def __init__(self) -> None:
        self.at_us = START_US

    def now_us(self) -> int:
        """The same: the store counts in microseconds since the epoch."""
        return self.at_us

    def monotonic_s(self) -> Fraction:
        """A fraction, because a float cannot hold every microsecond of such a large number."""
        return Fraction(self.at_us, 1_000_000)


class SteppedStore(MemoryLimitStore):
    """The memory store on a clock that may step back."""

    def __init__(self, clock: SetClock) -> None:
        super().__init__(clock)  # type: ignore[arg-type]  # no timer is ever asked for

    def forget(self, rule: LimitRule, table: Table, now_us: int) -> None:
        """Keep everything: what was forgotten in time does not come back when time does."""

    def forget_blocks(self, blocks: dict[Key, int], now_us: int) -> None:
        """Likewise."""


def name_of(rule: LimitRule, key: str) -> bytes:
    return f"{rule.counter}|{key}".encode()


def log_of(start: int, *records: tuple[int, int]) -> bytes:
    """A sliding window as it is stored: the total before it, and time and total of each moment."""
    return start.to_bytes(6) + b"".join(at_us.to_bytes(7) + total.to_bytes(6) for at_us, total in records)


class Twin:
    """The scripts on a real server, with the time given."""

    def __init__(self, valkey: redis.Redis) -> None:
        self.valkey = valkey
        self.digests: dict[str, str] = {}

    def call(self, packed: tuple[Any, list[bytes], list[bytes | int]], now_us: int) -> Any:
        script, keys, args = packed
        digest = self.digests.get(script.text)
        if digest is None:
            digest = self.digests[script.text] = self.valkey.script_load(script.text)
        return self.valkey.evalsha(digest, len(keys), *keys, now_us, *args[1:])

    def decide(self, requests: Sequence[Request], now_us: int) -> list[list[Decision]]:
        async def read(answer: Any) -> list[list[Decision]]:
            loop = asyncio.get_running_loop()
            batch: Any = [(asks, loop.create_future()) for asks in requests]
            deliver(batch, answer)
            return [future.result() for _, future in batch]

        packed = pack_requests([(asks, None) for asks in requests], name_of)  # type: ignore[misc]
        return asyncio.run(read(self.call(packed, now_us)))

    def look(self, asks: Request, now_us: int) -> list[Prospect]:
        return read_looks(asks, self.call(pack_looks(asks, name_of), now_us))

    def adjust(self, changes: Sequence[Change], now_us: int) -> list[Changed]:
        return read_changes(self.call(pack_changes(changes, name_of), now_us))


def asks_of(rules: Sequence[LimitRule], asked: list[tuple[int, int, str]], key: str) -> Request:
    """Return the asks of one request; those about the same counter twice, or of too much, are mended."""
    asks: dict[str, Ask] = {}
    for index, cost, holder in asked:
        rule = rules[index % len(rules)]
        if rule.kind == "c":
            cost = min(cost, 1)
        asks[rule.counter] = Ask(rule, key, cost, holder if rule.kind == "c" else "")
    return list(asks.values())


def change_of(
    rules: Sequence[LimitRule], moments: list[int], said: tuple[Op, int, str, int, int, str]
) -> Change:
    """Return one change; what the rule's algorithm does not know is replaced by something that it does."""
    op, index, key, amount, back, holder = said
    rule = rules[index % len(rules)]
    if rule.kind == "c":
        op = op if op in (Op.RENEW, Op.RELEASE) else Op.RENEW
        return Change(op, rule, key, 0, 0, holder)
    if op in (Op.RENEW, Op.RELEASE):
        op = Op.GIVE_BACK
    return Change(op, rule, key, amount, moments[-1 - back % len(moments)])


def check_trace(valkey: redis.Redis, rules: Sequence[LimitRule], trace: list[tuple[str, int, Any]]) -> None:
    """Drive one trace through both, on a clock that may step either way, and compare every number."""
    valkey.flushall()
    twin, clock = Twin(valkey), SetClock()
    store = SteppedStore(clock)
    moments = [START_US]
    for what, gap_us, said in trace:
        clock.at_us += gap_us
        moments.append(clock.at_us)
        if what == "decide":
            requests = [asks_of(rules, asked, key) for asked, key in said]
            # Looked at before, so that a look which changed anything would show in what is decided.
            for asks in requests:
                assert twin.look(asks, clock.at_us) == store.look_now(asks)
            assert twin.decide(requests, clock.at_us) == [store.decide_now(asks) for asks in requests]
        else:
            changes = [change_of(rules, moments, change) for change in said]
            assert twin.adjust(changes, clock.at_us) == store.adjust_now(changes)
