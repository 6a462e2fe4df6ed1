"""The exact sliding window, alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.limits import NEVER, Algorithm, Decision, LimitRule, seconds_rounded_up
from silence_gateway.core.rates import Rate
from silence_gateway.core.sliding_window import Log, is_over, judge, take

START_US = 1_764_000_000_000_000
SECOND = 1_000_000


def rule_of(count: int, window_us: int) -> LimitRule:
    return LimitRule(name="t", algorithm=Algorithm.SLIDING_WINDOW, rate=Rate(count, window_us))


TWO_PER_SECOND = rule_of(2, SECOND)

rules = st.builds(rule_of, st.integers(1, 6), st.integers(1_000, 5_000_000))
steps = st.lists(st.tuples(st.integers(0, 2_000_000), st.integers(1, 3)), max_size=60)


def test_the_limit_itself_passes_and_one_more_waits_for_the_oldest_to_leave() -> None:
    log = Log()
    answers = [take(TWO_PER_SECOND, log, START_US + at, 1)[1] for at in (0, 300_000, 400_000)]

    assert answers == [
        Decision(True, 2, 1, 0, SECOND),
        Decision(True, 2, 0, 0, SECOND),
        Decision(False, 2, 0, 600_000, 900_000),
    ]


def test_a_use_counts_until_just_before_it_is_one_window_old() -> None:
    log = Log()
    take(TWO_PER_SECOND, log, START_US, 2)

    assert not judge(TWO_PER_SECOND, log, START_US + SECOND - 1, 1).allowed
    assert judge(TWO_PER_SECOND, log, START_US + SECOND, 1).allowed


def test_a_cost_above_the_limit_is_refused_for_ever() -> None:
    _, decision = take(TWO_PER_SECOND, Log(), START_US, 3)

    assert decision == Decision(False, 2, 2, NEVER, 0)


def test_a_lowered_limit_never_shows_less_than_nothing() -> None:
    log, _ = take(rule_of(5, SECOND), Log(), START_US, 5)

    assert judge(TWO_PER_SECOND, log, START_US, 1) == Decision(False, 2, 0, SECOND, SECOND)
    assert judge(TWO_PER_SECOND, log, START_US, 0) == Decision(True, 2, 0, 0, SECOND)


@pytest.mark.parametrize("back_us", [1, 400_000, SECOND - 1])
def test_time_that_steps_back_stands_still(back_us: int) -> None:
    log, _ = take(TWO_PER_SECOND, Log(), START_US, 2)

    assert judge(TWO_PER_SECOND, log, START_US - back_us, 1) == Decision(
        False, 2, 0, SECOND + back_us, SECOND + back_us
    )


def test_time_that_steps_back_by_a_window_starts_anew() -> None:
    log, _ = take(TWO_PER_SECOND, Log(), START_US, 2)

    assert is_over(TWO_PER_SECOND, log, START_US - SECOND)
    assert take(TWO_PER_SECOND, log, START_US - SECOND, 2)[1].allowed
    assert not take(TWO_PER_SECOND, log, START_US - SECOND, 1)[1].allowed


@given(rules, steps)
def test_no_window_ever_holds_more_than_the_limit(rule: LimitRule, trace: list[tuple[int, int]]) -> None:
    log, now_us, granted = Log(), START_US, list[tuple[int, int]]()
    for gap_us, cost in trace:
        now_us += gap_us
        if take(rule, log, now_us, cost)[1].allowed:
            granted.append((now_us, cost))

    for end_us, _ in granted:
        inside = sum(cost for at_us, cost in granted if end_us - rule.rate.window_us < at_us <= end_us)
        assert inside <= rule.rate.count


@given(rules, steps, st.integers(1, 6))
def test_it_refuses_only_what_would_not_fit(rule: LimitRule, trace: list[tuple[int, int]], cost: int) -> None:
    """Exact means both ways: the refusal is right as well."""
    log, now_us, granted = Log(), START_US, list[tuple[int, int]]()
    for gap_us, step_cost in trace:
        now_us += gap_us
        if take(rule, log, now_us, step_cost)[1].allowed:
            granted.append((now_us, step_cost))
    used = sum(spent for at_us, spent in granted if at_us > now_us - rule.rate.window_us)

    decision = judge(rule, log, now_us, cost)

    assert decision.allowed is (used + cost <= rule.rate.count)
    assert decision.remaining == rule.rate.count - used - (cost if decision.allowed else 0)


@given(rules, steps, st.integers(1, 6), st.integers(0, 3_000_000), st.booleans())
def test_waiting_as_told_is_enough_and_not_too_long(
    rule: LimitRule, trace: list[tuple[int, int]], cost: int, late_us: int, whole_seconds: bool
) -> None:
    log, now_us = Log(), START_US
    for gap_us, step_cost in trace:
        now_us += gap_us
        take(rule, log, now_us, step_cost)
    refused = judge(rule, log, now_us, cost)
    if refused.allowed:
        return
    if refused.retry_after_us == NEVER:
        assert cost > rule.rate.count
        return
    wait_us = refused.retry_after_us
    early = judge(rule, log, now_us + wait_us - 1, cost)
    if whole_seconds:
        wait_us = seconds_rounded_up(wait_us) * SECOND

    assert not early.allowed
    assert judge(rule, log, now_us + wait_us + late_us, cost).allowed


@given(rules, steps)
def test_a_refusal_spends_nothing(rule: LimitRule, trace: list[tuple[int, int]]) -> None:
    log, now_us = Log(), START_US
    for gap_us, cost in trace:
        now_us += gap_us
        before = judge(rule, log, now_us, 0)
        decision = take(rule, log, now_us, cost)[1]
        if not decision.allowed:
            assert judge(rule, log, now_us, 0) == before
        else:
            assert decision.remaining == before.remaining - cost


@given(rules, steps)
def test_after_the_reset_time_everything_is_free(rule: LimitRule, trace: list[tuple[int, int]]) -> None:
    log, now_us, decision = Log(), START_US, Decision(True, 0, 0, 0, 0)
    for gap_us, cost in trace:
        now_us += gap_us
        decision = take(rule, log, now_us, cost)[1]

    assert judge(rule, log, now_us + decision.reset_us, rule.rate.count).allowed


@given(rules, st.lists(st.tuples(st.integers(-3_000_000, 3_000_000), st.integers(1, 3)), max_size=60))
def test_a_jumping_clock_breaks_no_invariant(rule: LimitRule, trace: list[tuple[int, int]]) -> None:
    log, now_us = Log(), START_US
    for gap_us, cost in trace:
        now_us += gap_us
        decision = take(rule, log, now_us, cost)[1]

        assert 0 <= decision.remaining <= rule.rate.count
        assert 0 <= decision.retry_after_us < 2 * rule.rate.window_us or cost > rule.rate.count
        assert log.times == sorted(set(log.times))
        assert log.totals == sorted(set(log.totals))
