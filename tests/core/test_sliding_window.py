"""The exact sliding window, alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.limits import NEVER, Algorithm, Decision, LimitRule, seconds_rounded_up
from silence_gateway.core.rates import Rate
from silence_gateway.core.sliding_window import Log, admit, give_back, is_over, judge, spend, used_of

START_US = 1_764_000_000_000_000
SECOND = 1_000_000


def rule_of(count: int, window_us: int) -> LimitRule:
    return LimitRule(name="t", algorithm=Algorithm.SLIDING_WINDOW, rate=Rate(count, window_us))


def take(rule: LimitRule, log: Log, now_us: int, cost: int = 1) -> tuple[Log, Decision]:
    """Spend if that is allowed."""
    decision = judge(rule, log, now_us, cost)
    return (spend(rule, log, now_us, cost) if decision.allowed and cost else log), decision


def told(decision: Decision) -> Decision:
    """What a decision says, apart from when it was made."""
    return decision._replace(at_us=0)


TWO_PER_SECOND = rule_of(2, SECOND)

rules = st.builds(rule_of, st.integers(1, 6), st.integers(1_000, 5_000_000))
steps = st.lists(st.tuples(st.integers(0, 2_000_000), st.integers(1, 3)), max_size=60)


def test_the_limit_itself_passes_and_one_more_waits_for_the_oldest_to_leave() -> None:
    log = Log()
    answers = [told(take(TWO_PER_SECOND, log, START_US + at, 1)[1]) for at in (0, 300_000, 400_000)]

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

    assert told(decision) == Decision(False, 2, 2, NEVER, 0)


def test_a_lowered_limit_never_shows_less_than_nothing() -> None:
    log, _ = take(rule_of(5, SECOND), Log(), START_US, 5)

    assert told(judge(TWO_PER_SECOND, log, START_US, 1)) == Decision(False, 2, 0, SECOND, SECOND)
    assert told(judge(TWO_PER_SECOND, log, START_US, 0)) == Decision(True, 2, 0, 0, SECOND)


@pytest.mark.parametrize("back_us", [1, 400_000, SECOND - 1])
def test_time_that_steps_back_stands_still(back_us: int) -> None:
    log, _ = take(TWO_PER_SECOND, Log(), START_US, 2)

    assert told(judge(TWO_PER_SECOND, log, START_US - back_us, 1)) == Decision(
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
        inside = sum(cost for at_us, cost in granted if end_us - rule.window_us < at_us <= end_us)
        assert inside <= rule.capacity


@given(rules, steps, st.integers(1, 6))
def test_it_refuses_only_what_would_not_fit(rule: LimitRule, trace: list[tuple[int, int]], cost: int) -> None:
    """Exact means both ways: the refusal is right as well."""
    log, now_us, granted = Log(), START_US, list[tuple[int, int]]()
    for gap_us, step_cost in trace:
        now_us += gap_us
        if take(rule, log, now_us, step_cost)[1].allowed:
            granted.append((now_us, step_cost))
    used = sum(spent for at_us, spent in granted if at_us > now_us - rule.window_us)

    decision = judge(rule, log, now_us, cost)

    assert decision.allowed is (used + cost <= rule.capacity)
    assert decision.remaining == rule.capacity - used - (cost if decision.allowed else 0)


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
        assert cost > rule.capacity
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

    assert judge(rule, log, now_us + decision.reset_us, rule.capacity).allowed


@given(rules, st.lists(st.tuples(st.integers(-3_000_000, 3_000_000), st.integers(1, 3)), max_size=60))
def test_a_jumping_clock_breaks_no_invariant(rule: LimitRule, trace: list[tuple[int, int]]) -> None:
    log, now_us = Log(), START_US
    for gap_us, cost in trace:
        now_us += gap_us
        decision = take(rule, log, now_us, cost)[1]

        assert 0 <= decision.remaining <= rule.capacity
        assert 0 <= decision.retry_after_us < 2 * rule.window_us or cost > rule.capacity
        assert log.times == sorted(set(log.times))
        assert log.totals == sorted(set(log.totals))


def test_what_is_given_back_can_be_spent_again_at_once() -> None:
    log, decision = take(TWO_PER_SECOND, Log(), START_US, 2)

    _, undone = give_back(TWO_PER_SECOND, log, START_US + 10, decision.at_us, 1)

    assert undone == 1
    assert judge(TWO_PER_SECOND, log, START_US + 10, 1).allowed
    assert not judge(TWO_PER_SECOND, log, START_US + 10, 2).allowed


def test_what_has_left_the_window_cannot_be_given_back() -> None:
    log, decision = take(TWO_PER_SECOND, Log(), START_US, 2)
    take(TWO_PER_SECOND, log, START_US + SECOND, 2)

    assert give_back(TWO_PER_SECOND, log, START_US + SECOND, decision.at_us, 2)[1] == 0
    assert not judge(TWO_PER_SECOND, log, START_US + SECOND, 1).allowed


def test_no_more_is_given_back_than_counts() -> None:
    log, decision = take(TWO_PER_SECOND, Log(), START_US, 1)

    assert give_back(TWO_PER_SECOND, log, START_US, decision.at_us, 5)[1] == 1
    assert told(judge(TWO_PER_SECOND, log, START_US, 0)) == Decision(True, 2, 2, 0, 0)


def test_a_charge_may_pass_the_limit_and_is_over_after_one_window() -> None:
    log = spend(TWO_PER_SECOND, None, START_US, 50)

    assert told(judge(TWO_PER_SECOND, log, START_US, 1)) == Decision(False, 2, 0, SECOND, SECOND)
    assert used_of(TWO_PER_SECOND, log, START_US + 1) == (50, SECOND - 1)
    assert judge(TWO_PER_SECOND, log, START_US + SECOND, 2).allowed


@given(rules, st.lists(st.tuples(st.integers(0, 1_500_000), st.integers(1, 3), st.booleans()), max_size=60))
def test_with_refunds_no_window_ever_holds_more_than_the_limit(
    rule: LimitRule, trace: list[tuple[int, int, bool]]
) -> None:
    """Whoever gives back has not used it; what others have used still counts."""
    log, now_us, kept = Log(), START_US, list[tuple[int, int]]()
    open_to_undo: list[tuple[int, int]] = []
    for gap_us, cost, undoes in trace:
        now_us += gap_us
        if undoes and open_to_undo:
            at_us, amount = open_to_undo.pop()
            give_back(rule, log, now_us, at_us, amount)
            kept.remove((at_us, amount))
        elif take(rule, log, now_us, cost)[1].allowed:
            kept.append((now_us, cost))
            open_to_undo.append((now_us, cost))

    for end_us, _ in kept:
        inside = sum(cost for at_us, cost in kept if end_us - rule.window_us < at_us <= end_us)
        assert inside <= rule.capacity


@given(
    st.integers(1, 12),
    st.lists(st.tuples(st.integers(-1_500_000, 2_500_000), st.integers(0, 14)), max_size=60),
)
def test_admitting_is_judging_and_spending(count: int, steps: list[tuple[int, int]]) -> None:
    """The shorter way comes to the same numbers and the same log, also when time steps back."""
    rule = rule_of(count, SECOND)
    short, long = Log(), Log()
    now_us = START_US
    for gap_us, cost in steps:
        now_us += gap_us
        expected = judge(rule, long, now_us, cost)
        if expected.allowed and cost:
            spend(rule, long, now_us, cost)

        assert admit(rule, short, now_us, cost) == expected
        assert (short.times, short.totals, short.start) == (long.times, long.totals, long.start)
