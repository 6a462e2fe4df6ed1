"""
The token bucket: `burst` tokens at once, earned back at the rate.

Nothing here awaits or reads a clock. Times are integer microseconds. The Lua twin is
`stores/scripts/limits/token_bucket.lua`; `tests/agreement` holds both to the same numbers.

What is kept is the debt: what was spent and not yet earned back, in units of which a token is worth
`rule.token_units` and a microsecond earns `rule.earn_units`. This is GCRA with its arrival time held
apart from the clock, which keeps every number whole and below 2**53 for any rate. No debt is a full
bucket, so a key never seen before needs no state.

What is given back is what has not been earned back since it was spent. A charge may go beyond the burst,
but never so far that the next token is more than one window of the rate away.

Time that steps back stands still until it has caught up. If it steps back by more than it takes to
fill the whole bucket, the debt is of another time and is forgotten.
"""

from __future__ import annotations

from typing import NamedTuple

from silence_gateway.core.limits import MAX_EXACT, NEVER, Decision, LimitRule


class Bucket(NamedTuple):
    """*debt* units were owed at *at_us*."""

    debt: int
    at_us: int


FULL = Bucket(0, 0)
"""A bucket that owes nothing."""


def fill_time_us(rule: LimitRule) -> int:
    """How long the emptiest bucket takes to fill, rounded up."""
    return -(-most_debt(rule) // rule.earn_units)


def most_debt(rule: LimitRule) -> int:
    """Return the most units that a bucket may owe."""
    beyond = min(rule.window_us * rule.earn_units, MAX_EXACT // 4)
    return rule.capacity * rule.token_units + beyond


def is_over(rule: LimitRule, bucket: Bucket, now_us: int) -> bool:
    """Whether *bucket* no longer matters: it is full again."""
    return settled(rule, bucket, now_us)[0] == 0


def settled(rule: LimitRule, bucket: Bucket | None, now_us: int) -> tuple[int, int]:
    """Return debt and moment of the bucket with everything earned until *now_us*."""
    if bucket is None:
        return 0, now_us
    debt, at_us = bucket
    elapsed_us = now_us - at_us
    if elapsed_us >= 0:
        # Compared before multiplied: a long silence times the rate could leave the exact numbers.
        earn_units = rule.earn_units
        return (debt - elapsed_us * earn_units if elapsed_us < -(-debt // earn_units) else 0), now_us
    return bucket if -elapsed_us < fill_time_us(rule) else (0, now_us)


def judge(rule: LimitRule, bucket: Bucket | None, now_us: int, cost: int) -> Decision:
    """
    Say what spending *cost* would meet.

    *cost* is at least 0; 0 asks what is left.
    """
    debt, at_us = settled(rule, bucket, now_us)
    capacity, token_units, earn_units = rule.capacity, rule.token_units, rule.earn_units
    # A debt dated ahead of the clock is earned back only once the clock has caught up.
    ahead_us = max(0, at_us - now_us)
    left = capacity * token_units - debt - cost * token_units
    if left >= 0 or not cost:
        owed = debt + cost * token_units
        reset_us = ahead_us - (-owed // earn_units)
        return Decision(True, capacity, max(0, left // token_units), 0, reset_us, now_us)
    remaining = max(0, capacity * token_units - debt) // token_units
    reset_us = ahead_us - (-debt // earn_units)
    if cost > capacity:
        return Decision(False, capacity, remaining, NEVER, reset_us, now_us)
    return Decision(False, capacity, remaining, ahead_us - (left // earn_units), reset_us, now_us)


def spend(rule: LimitRule, bucket: Bucket | None, now_us: int, cost: int) -> Bucket:
    """Owe *cost* tokens more, whether they fit or not."""
    debt, at_us = settled(rule, bucket, now_us)
    return Bucket(min(debt + cost * rule.token_units, most_debt(rule)), at_us)


def give_back(rule: LimitRule, bucket: Bucket, now_us: int, at_us: int, amount: int) -> tuple[Bucket, int]:
    """
    Undo *amount* tokens spent at *at_us*, as far as they are still owed; says how many, rounded up.

    What has been earned since then may have paid for them, and for nothing else: so much stays.
    """
    debt, since_us = settled(rule, bucket, now_us)
    # No more can be owed than this; it keeps the product exact in Lua.
    amount = min(amount, most_debt(rule) // rule.token_units)
    earned = max(0, now_us - at_us) * rule.earn_units
    owed = max(0, min(amount * rule.token_units - earned, debt))
    return Bucket(debt - owed, since_us), -(-owed // rule.token_units)


def used_of(rule: LimitRule, bucket: Bucket | None, now_us: int) -> tuple[int, int]:
    """Return how many tokens are owed, rounded up, and how long until none is."""
    decision = judge(rule, bucket, now_us, 0)
    return -(-settled(rule, bucket, now_us)[0] // rule.token_units), decision.reset_us
