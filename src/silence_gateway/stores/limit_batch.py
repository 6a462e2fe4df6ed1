"""
One script call for many requests: how their asks are written down, and how the answers are read.

Hot path: 1.6 us per ask of one limit, both ways together. Nothing here waits or knows a server.

Requests that ask the same limits for the same costs follow each other as a run, so that what is the same
is written once; in the usual batch that is everything but the keys.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from silence_gateway.core.limits import Ask, Change, Changed, Decision, LimitRule, Op, new_tuple
from silence_gateway.core.prospect import Prospect
from silence_gateway.stores.contracts import Script
from silence_gateway.stores.limit_names import BLOCK
from silence_gateway.stores.limit_scripts import declaration, script_for

Waiting: TypeAlias = "tuple[Sequence[Ask], asyncio.Future[Sequence[Decision]]]"
Packed: TypeAlias = "tuple[Script, list[bytes], list[bytes | int]]"
NameOf: TypeAlias = Callable[[LimitRule, str], bytes]

OPS = {Op.CHARGE: b"s", Op.TAKE: b"t", Op.GIVE_BACK: b"b", Op.RENEW: b"h", Op.RELEASE: b"r"}


class Rules:
    """The rules of one call, numbered in the order in which they came."""

    __slots__ = ("kinds", "numbers", "written")

    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}  # id of the rule -> its number
        self.written: list[bytes | int] = []
        self.kinds: set[str] = set()

    def number(self, rule: LimitRule) -> int:
        """Return the number of *rule* in this call."""
        number = self.numbers.get(id(rule))
        if number is None:
            number = self.numbers[id(rule)] = len(self.numbers) + 1
            self.written += declaration(rule)
            self.kinds.add(rule.kind)
        return number


def pack_requests(batch: Sequence[Waiting], name_of: NameOf) -> Packed:
    """Write a batch of requests as a call of decide.lua."""
    rules = Rules()
    keys: list[bytes] = []
    runs: list[bytes | int] = []
    # Where the run that is being written says how many requests it has, and what these ask.
    counted_at = -1
    run_rule: LimitRule | None = None
    run_cost = 0
    run_shape: list[tuple[int, int]] | None = None
    for asks, _ in batch:
        if len(asks) == 1:
            rule, whom, cost, holder = asks[0]
            if rule is run_rule and cost == run_cost:
                runs[counted_at] += 1  # type: ignore[operator] # what stands there is a number
            else:
                counted_at = len(runs)
                runs += (1, 1, rules.number(rule), cost)
                run_rule, run_cost, run_shape = rule, cost, None
            keys.append(name_of(rule, whom))
            if rule.block_us:
                keys.append(keys[-1] + BLOCK)
            if rule.kind == "c":
                runs.append(holder.encode())
            continue
        shape = [(rules.number(rule), cost) for rule, _, cost, _ in asks]
        if shape == run_shape:
            runs[counted_at] += 1  # type: ignore[operator]
        else:
            counted_at = len(runs)
            runs += (1, len(asks))
            for pair in shape:
                runs += pair
            run_rule, run_shape = None, shape
        for rule, whom, _, holder in asks:
            keys.append(name_of(rule, whom))
            if rule.block_us:
                keys.append(keys[-1] + BLOCK)
            if rule.kind == "c":
                runs.append(holder.encode())
    apart = int(len(set(keys)) == len(keys))
    return script_for("decide", rules.kinds), keys, [b"", len(rules.numbers), *rules.written, apart, *runs]


def deliver(batch: Sequence[Waiting], answer: Sequence[int]) -> None:
    """Hand the answers of decide.lua to those who wait for them."""
    now_us = answer[0]
    at = 1
    for asks, future in batch:
        decisions = []
        for ask in asks:
            retry_us = answer[at + 1]
            told = (retry_us == 0, ask[0].capacity, answer[at], retry_us, answer[at + 2], now_us)
            decisions.append(new_tuple(Decision, told))
            at += 3
        if not future.done():
            future.set_result(decisions)


def pack_looks(asks: Sequence[Ask], name_of: NameOf) -> Packed:
    """Write asks as a call of look.lua."""
    rules = Rules()
    keys: list[bytes] = []
    written: list[bytes | int] = []
    for rule, whom, cost, _ in asks:
        keys.append(name_of(rule, whom))
        if rule.block_us:
            keys.append(keys[-1] + BLOCK)
        written += (rules.number(rule), cost)
    return script_for("look", rules.kinds), keys, [b"", len(rules.numbers), *rules.written, *written]


def read_looks(asks: Sequence[Ask], answer: Sequence[int]) -> list[Prospect]:
    """Read the answer of look.lua."""
    now_us = answer[0]
    return [
        Prospect(ask.rule.capacity, answer[at], answer[at + 1], answer[at + 2], answer[at + 3], now_us)
        for ask, at in zip(asks, range(1, len(answer), 4), strict=True)
    ]


def pack_changes(changes: Sequence[Change], name_of: NameOf) -> Packed:
    """Write changes as a call of adjust.lua."""
    rules = Rules()
    keys: list[bytes] = []
    written: list[bytes | int] = []
    for op, rule, key, amount, at_us, holder in changes:
        keys.append(name_of(rule, key))
        written += (OPS[op], rules.number(rule), amount, at_us, holder.encode())
    return script_for("adjust", rules.kinds), keys, [b"", len(rules.numbers), *rules.written, *written]


def read_changes(answer: Any) -> list[Changed]:
    """Read the answer of adjust.lua."""
    now_us = answer[0]
    return [Changed(answer[at], answer[at + 1], answer[at + 2], now_us) for at in range(1, len(answer), 3)]
