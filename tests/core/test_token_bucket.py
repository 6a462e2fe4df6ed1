"""The token bucket, alone."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.limits import NEVER, Algorithm, Decision, LimitRule, seconds_rounded_up
from silence_gateway.core.rates import Rate
from silence_gateway.core.token_bucket import (
    FULL,
    Bucket,
    fill_time_us,
    give_back,
    is_over,
    judge,
    most_debt,
    settled,
    spend,
    used_of,
)

START_US = 1_764_000_000_000_000
SECOND = 1_000_000


def rule_of(count: int, window_us: int, burst: int | None = None) -> LimitRule:
    return LimitRule(name="t", algorithm=Algorithm.TOKEN_BUCKET, rate=Rate(count, window_us), burst=burst)


def take(rule: LimitRule, bucket: Bucket | None, now_us: int, cost: int = 1) -> tuple[Bucket, Decision]:
    """Spend if that is allowed."""
    decision = judge(rule, bucket, now_us, cost)
    return (spend if decision.allowed else unspent)(rule, bucket, now_us, cost), decision


def unspent(rule: LimitRule, bucket: Bucket | None, now_us: int, _cost: int = 0) -> Bucket:
    return Bucket(*settled(rule, bucket, now_us))


def told(decision: Decision) -> Decision:
    """What a decision says, apart from when it was made."""
    return decision._replace(at_us=0)


TWO_PER_SECOND = rule_of(2, SECOND)

rules = st.builds(
    rule_of,
    st.integers(1, 5_000_000),
    st.integers(1_000, 100_000_000),
    st.one_of(st.none(), st.integers(1, 20)),
)
steps = st.lists(st.tuples(st.integers(0, 2_000_000), st.integers(1, 3)), max_size=60)


def test_a_full_bucket_gives_its_burst_at_once_and_then_one_token_per_interval() -> None:
    bucket: Bucket | None = None
    answers = []
    for at_us in (0, 0, 0, 499_999, 500_000):
        bucket, decision = take(TWO_PER_SECOND, bucket, START_US + at_us)
        answers.append(told(decision))

    assert answers == [
        Decision(True, 2, 1, 0, 500_000),
        Decision(True, 2, 0, 0, SECOND),
        Decision(False, 2, 0, 500_000, SECOND),
        Decision(False, 2, 0, 1, 500_001),
        Decision(True, 2, 0, 0, SECOND),
    ]


def test_the_burst_may_differ_from_the_rate() -> None:
    rule = rule_of(60, 60 * SECOND, burst=5)
    _, decision = take(rule, None, START_US, 5)

    assert told(decision) == Decision(True, 5, 0, 0, 5 * SECOND)


def test_a_cost_above_the_burst_is_refused_for_ever() -> None:
    assert told(take(TWO_PER_SECOND, None, START_US, 3)[1]) == Decision(False, 2, 2, NEVER, 0)


def test_a_rate_that_is_no_whole_number_of_microseconds_is_exact() -> None:
    """7 per second for an hour is 25,200 tokens, not one less."""
    rule = rule_of(7, SECOND, burst=1)
    bucket: Bucket | None = None
    granted, now_us = 0, START_US
    while now_us < START_US + 36 * SECOND:
        bucket, decision = take(rule, bucket, now_us)
        granted += decision.allowed
        now_us += decision.retry_after_us

    assert granted == 7 * 36


@pytest.mark.parametrize("back_us", [1, 400_000, SECOND - 1])
def test_time_that_steps_back_stands_still(back_us: int) -> None:
    bucket, _ = take(TWO_PER_SECOND, None, START_US, 2)

    assert told(take(TWO_PER_SECOND, bucket, START_US - back_us)[1]) == Decision(
        False, 2, 0, 500_000 + back_us, SECOND + back_us
    )


def test_time_that_steps_back_further_than_a_fill_starts_anew() -> None:
    bucket, _ = take(TWO_PER_SECOND, None, START_US, 2)

    assert is_over(TWO_PER_SECOND, bucket, START_US - 2 * SECOND)
    assert take(TWO_PER_SECOND, bucket, START_US - 2 * SECOND, 2)[1].allowed


@given(rules, steps)
def test_no_span_ever_holds_more_than_the_burst_plus_what_it_earned(
    rule: LimitRule, trace: list[tuple[int, int]]
) -> None:
    bucket, now_us, granted = FULL, START_US, list[tuple[int, int]]()
    for gap_us, cost in trace:
        now_us += gap_us
        bucket, decision = take(rule, bucket, now_us, cost)
        if decision.allowed:
            granted.append((now_us, cost))

    for first, (begin_us, _) in enumerate(granted):
        spent = 0
        for at_us, cost in granted[first:]:
            spent += cost
            earned = Fraction((at_us - begin_us) * rule.earn_units, rule.token_units)
            assert spent <= rule.capacity + earned


@given(rules, steps, st.integers(1, 6), st.integers(0, 3_000_000), st.booleans())
def test_waiting_as_told_is_enough_and_not_too_long(
    rule: LimitRule, trace: list[tuple[int, int]], cost: int, late_us: int, whole_seconds: bool
) -> None:
    bucket, now_us = FULL, START_US
    for gap_us, step_cost in trace:
        now_us += gap_us
        bucket, _ = take(rule, bucket, now_us, step_cost)
    refused = judge(rule, unspent(rule, bucket, now_us), now_us, cost)
    if refused.allowed:
        return
    if refused.retry_after_us == NEVER:
        assert cost > rule.capacity
        return
    wait_us = refused.retry_after_us
    early = take(rule, bucket, now_us + wait_us - 1, cost)[1]
    if whole_seconds:
        wait_us = seconds_rounded_up(wait_us) * SECOND

    assert not early.allowed
    assert take(rule, bucket, now_us + wait_us + late_us, cost)[1].allowed


@given(rules, steps)
def test_a_refusal_spends_nothing(rule: LimitRule, trace: list[tuple[int, int]]) -> None:
    bucket, now_us = FULL, START_US
    for gap_us, cost in trace:
        now_us += gap_us
        before = unspent(rule, bucket, now_us)
        bucket, decision = take(rule, bucket, now_us, cost)
        if not decision.allowed:
            assert bucket == before


@given(rules, steps)
def test_after_the_reset_time_the_bucket_is_full(rule: LimitRule, trace: list[tuple[int, int]]) -> None:
    bucket, now_us, decision = FULL, START_US, Decision(True, 0, 0, 0, 0)
    for gap_us, cost in trace:
        now_us += gap_us
        bucket, decision = take(rule, bucket, now_us, cost)

    assert (
        judge(rule, unspent(rule, bucket, now_us + decision.reset_us), now_us, 0).remaining == rule.capacity
    )


@given(rules, st.lists(st.tuples(st.integers(-3_000_000, 3_000_000), st.integers(1, 3)), max_size=60))
def test_a_jumping_clock_breaks_no_invariant(rule: LimitRule, trace: list[tuple[int, int]]) -> None:
    bucket, now_us = FULL, START_US
    for gap_us, cost in trace:
        now_us += gap_us
        bucket, decision = take(rule, bucket, now_us, cost)

        assert 0 <= decision.remaining <= rule.capacity
        assert 0 <= decision.retry_after_us <= 2 * fill_time_us(rule) or cost > rule.capacity
        assert bucket.debt <= rule.capacity * rule.token_units


def test_what_is_given_back_is_what_has_not_been_earned_back_since() -> None:
    rule = rule_of(1, SECOND, burst=10)
    bucket, decision = take(rule, None, START_US, 8)

    at_once, undone = give_back(rule, bucket, START_US, decision.at_us, 8)
    later, undone_later = give_back(rule, bucket, START_US + 3 * SECOND, decision.at_us, 8)

    assert (undone, at_once.debt) == (8, 0)
    assert (undone_later, later.debt) == (5, 0)


def test_giving_back_in_a_moment_leaves_no_more_owed_than_that_moment_earns() -> None:
    rule = rule_of(9, 3600 * SECOND)
    bucket, decision = take(rule, None, START_US, 1)

    again, undone = give_back(rule, bucket, START_US + 2_000, decision.at_us, 1)

    assert undone == 1
    assert judge(rule, again, START_US + 2_000, 9).allowed, "nothing else was owed"

    both, _ = take(rule, bucket, START_US + 1_000, 2)
    less, _ = give_back(rule, both, START_US + 2_000, decision.at_us, 1)
    assert judge(rule, less, START_US + 2_000, 0).remaining == 7, "others still owe theirs"


def test_what_others_owe_is_not_given_back() -> None:
    rule = rule_of(1, SECOND, burst=10)
    bucket, decision = take(rule, None, START_US, 2)
    bucket, _ = take(rule, bucket, START_US + 2 * SECOND, 9)

    assert give_back(rule, bucket, START_US + 2 * SECOND, decision.at_us, 2) == (bucket, 0)


def test_a_charge_never_makes_the_next_token_wait_longer_than_a_window() -> None:
    rule = rule_of(10, 60 * SECOND, burst=2)
    bucket = spend(rule, None, START_US, 1_000_000)

    decision = judge(rule, bucket, START_US, 1)

    assert bucket.debt == most_debt(rule)
    assert 60 * SECOND <= decision.retry_after_us <= 66 * SECOND
    assert used_of(rule, bucket, START_US) == (12, 72 * SECOND)
