"""
The token bucket: `burst` tokens at once, earned back at the rate.

Nothing here awaits or reads a clock. Times are integer microseconds. The Lua twin is
`stores/scripts/limits.lua`; `tests/agreement` holds both to the same numbers.

What is kept is the debt: what was spent and not yet earned back, in units of which a token is worth
`rule.token_units` and a microsecond earns `rule.earn_units`. This is GCRA with its arrival time held
apart from the clock, which keeps every number whole and below 2**53 for any rate. No debt is a full
bucket, so a key never seen before needs no state.

Time that steps back stands still until it has caught up. If it steps back by more than it takes to
fill the whole bucket, the debt is of another time and is forgotten.
"""

from __future__ import annotations

from typing import NamedTuple

from silence_gateway.core.limits import NEVER, Decision, LimitRule


class Bucket(NamedTuple):
    """*debt* units were owed at *at_us*."""

    debt: int
    at_us: int


FULL = Bucket(0, 0)
"""A bucket that owes nothing."""


def fill_time_us(rule: LimitRule) -> int:
    """How long an empty bucket takes to fill, rounded up."""
    return -(-rule.capacity * rule.token_units // rule.earn_units)


def is_over(rule: LimitRule, bucket: Bucket, now_us: int) -> bool:
    """Whether *bucket* no longer matters: it is full again."""
    return settled(rule, bucket, now_us).debt == 0


def settled(rule: LimitRule, bucket: Bucket, now_us: int) -> Bucket:
    """Return the bucket with everything earned until *now_us*."""
    debt, at_us = bucket
    elapsed_us = now_us - at_us
    # Compared before multiplied: a long silence times the rate could leave the exact numbers.
    if elapsed_us >= -(-debt // rule.earn_units) or -elapsed_us >= fill_time_us(rule):
        return Bucket(0, now_us)
    if elapsed_us < 0:
        return bucket
    return Bucket(debt - elapsed_us * rule.earn_units, now_us)


def judge(rule: LimitRule, bucket: Bucket, now_us: int, cost: int) -> Decision:
    """
    Say what `take` would decide for a settled *bucket*.

    *cost* is at least 0; 0 asks what is left.
    """
    debt, at_us = bucket
    capacity, token_units, earn_units = rule.capacity, rule.token_units, rule.earn_units
    # A debt dated ahead of the clock is earned back only once the clock has caught up.
    ahead_us = max(0, at_us - now_us)
    left = capacity * token_units - debt - cost * token_units
    if left >= 0 or not cost:
        owed = debt + cost * token_units
        reset_us = ahead_us - (-owed // earn_units)
        return Decision(True, capacity, max(0, left // token_units), 0, reset_us)
    remaining = max(0, capacity * token_units - debt) // token_units
    reset_us = ahead_us - (-debt // earn_units)
    if cost > capacity:
        return Decision(False, capacity, remaining, NEVER, reset_us)
    return Decision(False, capacity, remaining, ahead_us - (left // earn_units), reset_us)


def spend(rule: LimitRule, bucket: Bucket, cost: int) -> Bucket:
    """Owe *cost* tokens more; call it only after `judge` has allowed the same."""
    return Bucket(bucket.debt + cost * rule.token_units, bucket.at_us)


def take(rule: LimitRule, bucket: Bucket | None, now_us: int, cost: int = 1) -> tuple[Bucket, Decision]:
    """Spend *cost* tokens at *now_us*, or refuse and spend none. None is a key never seen before."""
    bucket = settled(rule, bucket or FULL, now_us)
    decision = judge(rule, bucket, now_us, cost)
    return (spend(rule, bucket, cost) if decision.allowed else bucket), decision
