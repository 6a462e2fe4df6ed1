"""The sliding counter, alone."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.limits import NEVER, Algorithm, Decision, LimitRule, seconds_rounded_up
from silence_gateway.core.rates import Rate
from silence_gateway.core.sliding_counter import (
    MOST_USES,
    Windows,
    current,
    give_back,
    is_over,
    judge,
    spend,
    used_of,
)

SECOND = 1_000_000
START_US = 1_764_000_000 * SECOND  # where a window of a second begins


def rule_of(count: int, window_us: int) -> LimitRule:
    return LimitRule(name="t", algorithm=Algorithm.SLIDING_COUNTER, rate=Rate(count, window_us))


TEN_PER_SECOND = rule_of(10, SECOND)

rules = st.builds(rule_of, st.integers(1, 40), st.integers(1_000, 5_000_000))
steps = st.lists(st.tuples(st.integers(0, 2_000_000), st.integers(1, 5)), max_size=60)


def take(
    rule: LimitRule, windows: Windows | None, now_us: int, cost: int = 1
) -> tuple[Windows | None, Decision]:
    """Spend if that is allowed."""
    decision = judge(rule, windows, now_us, cost)
    return (spend(rule, windows, now_us, cost) if decision.allowed and cost else windows), decision


def told(decision: Decision) -> Decision:
    """What a decision says, apart from when it was made."""
    return decision._replace(at_us=0)


@pytest.mark.parametrize(
    ("into_us", "left"),
    [
        pytest.param(0, 0, id="the-last-window-counts-in-full"),
        pytest.param(250_000, 2, id="a-quarter-of-it-is-out-of-reach"),
        pytest.param(999_999, 9, id="a-moment-of-it-is-left"),
        pytest.param(1_000_000, 10, id="nothing-of-it-is-left"),
    ],
)
def test_the_last_window_counts_as_far_as_it_is_in_reach(into_us: int, left: int) -> None:
    windows = spend(TEN_PER_SECOND, None, START_US, 10)

    assert judge(TEN_PER_SECOND, windows, START_US + SECOND + into_us, 0).remaining == left


def test_the_cost_is_part_of_the_comparison() -> None:
    windows = spend(TEN_PER_SECOND, None, START_US, 7)

    assert judge(TEN_PER_SECOND, windows, START_US, 3).allowed
    assert not judge(TEN_PER_SECOND, windows, START_US, 4).allowed


def test_a_refusal_says_when_the_last_window_is_light_enough() -> None:
    windows = spend(TEN_PER_SECOND, None, START_US, 10)

    refused = judge(TEN_PER_SECOND, windows, START_US + SECOND, 3)

    assert told(refused) == Decision(False, 10, 0, 300_000, SECOND)


def test_a_refusal_in_a_full_window_waits_for_the_next_one() -> None:
    windows = spend(TEN_PER_SECOND, None, START_US, 10)

    refused = judge(TEN_PER_SECOND, windows, START_US + 400_000, 1)

    assert told(refused) == Decision(False, 10, 0, 600_000 + 100_000, 2 * SECOND - 400_000)


def test_a_cost_above_the_limit_is_refused_for_ever() -> None:
    assert told(judge(TEN_PER_SECOND, None, START_US, 11)) == Decision(False, 10, 10, NEVER, 0)


@pytest.mark.parametrize("back_us", [1, SECOND - 1])
def test_time_that_steps_back_stands_still(back_us: int) -> None:
    windows = spend(TEN_PER_SECOND, None, START_US, 10)

    assert judge(TEN_PER_SECOND, windows, START_US - back_us, 0).remaining == 0


def test_time_that_steps_back_by_a_window_starts_anew() -> None:
    windows = spend(TEN_PER_SECOND, None, START_US, 10)

    assert judge(TEN_PER_SECOND, windows, START_US - SECOND - 1, 10).allowed


def test_it_is_over_when_no_window_is_in_reach() -> None:
    windows = spend(TEN_PER_SECOND, None, START_US, 1)

    assert not is_over(TEN_PER_SECOND, windows, START_US + 2 * SECOND - 1)
    assert is_over(TEN_PER_SECOND, windows, START_US + 2 * SECOND)


def test_what_is_given_back_comes_off_the_window_it_was_spent_in() -> None:
    windows = spend(TEN_PER_SECOND, None, START_US, 6)
    windows = spend(TEN_PER_SECOND, windows, START_US + SECOND, 2)

    assert give_back(TEN_PER_SECOND, windows, START_US + SECOND, START_US, 4)[0][1:] == (2, 2)
    assert give_back(TEN_PER_SECOND, windows, START_US + SECOND, START_US + SECOND, 4)[0][1:] == (0, 6)
    assert give_back(TEN_PER_SECOND, windows, START_US + SECOND, START_US - 1, 4) == (windows, 0)


def test_a_charge_is_bounded_by_what_is_counted_exactly() -> None:
    windows = spend(TEN_PER_SECOND, None, START_US, 2 * MOST_USES)

    decision = judge(TEN_PER_SECOND, windows, START_US, 1)

    assert windows.this == MOST_USES
    assert SECOND < decision.retry_after_us <= 2 * SECOND


def test_used_is_rounded_up() -> None:
    windows = spend(TEN_PER_SECOND, None, START_US, 3)

    assert used_of(TEN_PER_SECOND, windows, START_US + SECOND + 400_000) == (2, 600_000)
    assert used_of(TEN_PER_SECOND, None, START_US) == (0, 0)


@given(rules, steps)
def test_it_never_sees_less_than_the_even_spread_of_the_last_window(
    rule: LimitRule, trace: list[tuple[int, int]]
) -> None:
    """The formula of the sliding counter, in exact fractions, never allows what this refuses to fit."""
    windows, now_us = None, START_US
    for gap_us, cost in trace:
        now_us += gap_us
        windows, decision = take(rule, windows, now_us, cost)
        start_us, this, last = current(rule, windows, now_us)
        share = Fraction(now_us - start_us, rule.window_us)
        if decision.allowed:
            assert this + last * (1 - share) <= rule.capacity


@given(rules, steps, st.integers(1, 40), st.integers(0, 3_000_000), st.booleans())
def test_waiting_as_told_is_enough_and_not_too_long(
    rule: LimitRule, trace: list[tuple[int, int]], cost: int, late_us: int, whole_seconds: bool
) -> None:
    windows, now_us = None, START_US
    for gap_us, step_cost in trace:
        now_us += gap_us
        windows, _ = take(rule, windows, now_us, step_cost)
    refused = judge(rule, windows, now_us, cost)
    if refused.allowed:
        return
    if refused.retry_after_us == NEVER:
        assert cost > rule.capacity
        return
    wait_us = refused.retry_after_us
    early = judge(rule, windows, now_us + wait_us - 1, cost)
    if whole_seconds:
        wait_us = seconds_rounded_up(wait_us) * SECOND

    assert not early.allowed
    assert judge(rule, windows, now_us + wait_us + late_us, cost).allowed
    assert refused.reset_us >= refused.retry_after_us


@given(rules, steps)
def test_after_the_reset_time_everything_is_free(rule: LimitRule, trace: list[tuple[int, int]]) -> None:
    windows, now_us, decision = None, START_US, Decision(True, 0, 0, 0, 0)
    for gap_us, cost in trace:
        now_us += gap_us
        windows, decision = take(rule, windows, now_us, cost)

    assert judge(rule, windows, now_us + decision.reset_us, rule.capacity).allowed


@given(rules, st.lists(st.tuples(st.integers(-3_000_000, 3_000_000), st.integers(1, 3)), max_size=60))
def test_a_jumping_clock_breaks_no_invariant(rule: LimitRule, trace: list[tuple[int, int]]) -> None:
    windows, now_us = None, START_US
    for gap_us, cost in trace:
        now_us += gap_us
        windows, decision = take(rule, windows, now_us, cost)

        assert 0 <= decision.remaining <= rule.capacity
        assert 0 <= decision.retry_after_us <= 3 * rule.window_us or cost > rule.capacity
