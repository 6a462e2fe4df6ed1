"""The fixed window, alone."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.fixed_window import (
    MOST_USES,
    Window,
    bounds,
    give_back,
    is_over,
    judge,
    spend,
    used_of,
)
from silence_gateway.core.limits import NEVER, Algorithm, Alignment, Decision, LimitRule, seconds_rounded_up
from silence_gateway.core.rates import Rate, parse_rate

SECOND = 1_000_000
START_US = 1_764_000_000 * SECOND + 300_000


def rule_of(rate: str | Rate, align: Alignment = Alignment.CALENDAR) -> LimitRule:
    return LimitRule(
        name="t",
        algorithm=Algorithm.FIXED_WINDOW,
        rate=parse_rate(rate) if isinstance(rate, str) else rate,
        align=align,
    )


rules = st.builds(
    lambda count, window_us, align: rule_of(Rate(count, window_us), align),
    st.integers(1, 20),
    st.integers(1_000, 5_000_000),
    st.sampled_from(Alignment),
)
steps = st.lists(st.tuples(st.integers(0, 2_000_000), st.integers(1, 5)), max_size=60)


def take(
    rule: LimitRule, window: Window | None, now_us: int, cost: int = 1
) -> tuple[Window | None, Decision]:
    """Spend if that is allowed."""
    decision = judge(rule, window, now_us, cost)
    return (spend(rule, window, now_us, cost) if decision.allowed and cost else window), decision


def told(decision: Decision) -> Decision:
    """What a decision says, apart from when it was made."""
    return decision._replace(at_us=0)


def begin_of(rule: LimitRule, moment: dt.datetime) -> dt.datetime:
    now_us = (moment - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)
    return dt.datetime.fromtimestamp(bounds(rule, now_us)[0] / SECOND, dt.UTC)


@pytest.mark.parametrize(
    ("rate", "align", "begin"),
    [
        ("1/minute", Alignment.CALENDAR, (2025, 11, 26, 13, 45)),
        ("1/15m", Alignment.CALENDAR, (2025, 11, 26, 13, 45)),
        ("1/day", Alignment.CALENDAR, (2025, 11, 26)),
        ("1/week", Alignment.CALENDAR, (2025, 11, 24)),  # a Monday
        ("1/week", Alignment.EPOCH, (2025, 11, 20)),  # a Thursday
        ("1/month", Alignment.CALENDAR, (2025, 11, 1)),
        ("1/3months", Alignment.CALENDAR, (2025, 10, 1)),
        ("1/year", Alignment.CALENDAR, (2025, 1, 1)),
        ("1/minute", Alignment.FIRST_HIT, (2025, 11, 26, 13, 45, 7)),
    ],
)
def test_windows_begin_where_people_expect_it(rate: str, align: Alignment, begin: tuple[int, ...]) -> None:
    moment = dt.datetime(2025, 11, 26, 13, 45, 7, tzinfo=dt.UTC)

    assert begin_of(rule_of(rate, align), moment) == dt.datetime(*begin, tzinfo=dt.UTC)  # type: ignore[arg-type,misc]


def test_uses_count_until_the_window_ends() -> None:
    rule = rule_of("2/s")
    window = spend(rule, None, START_US, 2)

    assert told(judge(rule, window, START_US, 1)) == Decision(False, 2, 0, 700_000, 700_000)
    assert not judge(rule, window, START_US + 699_999, 1).allowed
    assert judge(rule, window, START_US + 700_000, 2).allowed


def test_a_window_of_a_first_hit_lasts_from_that() -> None:
    rule = rule_of("2/s", Alignment.FIRST_HIT)
    window = spend(rule, None, START_US, 2)

    assert told(judge(rule, window, START_US + 1, 1)) == Decision(False, 2, 0, 999_999, 999_999)
    assert judge(rule, window, START_US + SECOND, 2).allowed


def test_a_cost_above_the_limit_is_refused_for_ever() -> None:
    assert told(judge(rule_of("2/s"), None, START_US, 3)) == Decision(False, 2, 2, NEVER, 0)


def test_time_that_steps_back_stands_still() -> None:
    rule = rule_of("2/s")
    window = spend(rule, None, START_US, 2)

    assert not judge(rule, window, START_US - 800_000, 1).allowed
    assert judge(rule, window, START_US - 2 * SECOND, 1).allowed


def test_what_is_given_back_was_spent_in_this_window() -> None:
    rule = rule_of("5/s")
    window = spend(rule, None, START_US, 3)

    assert give_back(rule, window, START_US, START_US, 2) == (Window(window.start_us, 1), 2)
    assert give_back(rule, window, START_US, START_US, 9) == (Window(window.start_us, 0), 3)
    assert give_back(rule, window, START_US, START_US - SECOND, 2) == (window, 0)


def test_a_charge_is_bounded_by_what_is_counted_exactly() -> None:
    window = spend(rule_of("5/s"), None, START_US, 2 * MOST_USES)

    assert window.used == MOST_USES
    assert used_of(rule_of("5/s"), window, START_US) == (MOST_USES, 700_000)
    assert used_of(rule_of("5/s"), window, START_US + SECOND) == (0, 0)
    assert is_over(rule_of("5/s"), window, START_US + SECOND)


@given(rules, steps)
def test_no_window_ever_holds_more_than_the_limit(rule: LimitRule, trace: list[tuple[int, int]]) -> None:
    window, now_us, granted = None, START_US, dict[int, int]()
    for gap_us, cost in trace:
        now_us += gap_us
        window, decision = take(rule, window, now_us, cost)
        if decision.allowed:
            assert window is not None
            granted[window.start_us] = granted.get(window.start_us, 0) + cost

    assert all(spent <= rule.capacity for spent in granted.values())


@given(rules, steps, st.integers(1, 20), st.integers(0, 3_000_000), st.booleans())
def test_waiting_as_told_is_enough_and_not_too_long(
    rule: LimitRule, trace: list[tuple[int, int]], cost: int, late_us: int, whole_seconds: bool
) -> None:
    window, now_us = None, START_US
    for gap_us, step_cost in trace:
        now_us += gap_us
        window, _ = take(rule, window, now_us, step_cost)
    refused = judge(rule, window, now_us, cost)
    if refused.allowed:
        return
    if refused.retry_after_us == NEVER:
        assert cost > rule.capacity
        return
    wait_us = refused.retry_after_us
    early = judge(rule, window, now_us + wait_us - 1, cost)
    if whole_seconds:
        wait_us = seconds_rounded_up(wait_us) * SECOND

    assert not early.allowed
    assert judge(rule, window, now_us + wait_us + late_us, cost).allowed
