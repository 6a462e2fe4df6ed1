"""How many checks change our mind, and what another instance's word is worth."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.health import Check, Health, Streak, after_check, after_word, on_hearsay

GOOD, NO, NOTHING = Check.SERVING, Check.REFUSING, Check.SILENT


@pytest.mark.parametrize(
    ("checks", "health"),
    [
        pytest.param([], Health.UNKNOWN, id="nothing-known"),
        pytest.param([GOOD], Health.HEALTHY, id="one-good-check-is-enough-at-first"),
        pytest.param([NO, NO], Health.UNKNOWN, id="two-bad-ones-are-not"),
        pytest.param([NO, NOTHING, NO], Health.UNHEALTHY, id="three-bad-ones-of-any-kind-are"),
        pytest.param([NO, NO, GOOD], Health.HEALTHY, id="a-good-one-decides-while-unknown"),
        pytest.param([GOOD, NO, NO, GOOD, NO, NO], Health.HEALTHY, id="only-in-a-row"),
        pytest.param([GOOD, NO, NO, NO], Health.UNHEALTHY, id="taken-out"),
        pytest.param([NO, NO, NO, GOOD], Health.UNHEALTHY, id="one-good-one-does-not-bring-it-back"),
        pytest.param([NO, NO, NO, GOOD, NO, GOOD], Health.UNHEALTHY, id="good-ones-count-in-a-row-too"),
        pytest.param([NO, NO, NO, GOOD, GOOD], Health.HEALTHY, id="two-do"),
    ],
)
def test_checks_in_a_row_change_the_verdict(checks: list[Check], health: Health) -> None:
    streak = Streak()

    for check in checks:
        streak = after_check(streak, check, unhealthy_after=3, healthy_after=2)

    assert streak.health is health


@given(st.lists(st.sampled_from(Check)), st.integers(1, 5), st.integers(1, 5))
def test_enough_of_the_same_always_decides(before: list[Check], bad: int, good: int) -> None:
    streak = Streak()
    for check in before:
        streak = after_check(streak, check, bad, good)

    down = streak
    for _ in range(bad):
        down = after_check(down, NO, bad, good)
    up = streak
    for _ in range(good):
        up = after_check(up, GOOD, bad, good)

    assert (down.health, up.health) == (Health.UNHEALTHY, Health.HEALTHY)


def test_silence_heard_of_is_a_doubt_and_a_refusal_is_believed() -> None:
    assert on_hearsay(Health.UNHEALTHY, NOTHING) is Health.DOUBTED
    assert on_hearsay(Health.UNHEALTHY, NO) is Health.UNHEALTHY
    assert on_hearsay(Health.HEALTHY, NO) is Health.HEALTHY


@pytest.mark.parametrize(
    ("word", "health"), [(Check.SERVING, Health.HEALTHY), (Check.REFUSING, Health.UNHEALTHY)]
)
def test_what_a_watched_endpoint_says_of_itself_counts_at_once(word: Check, health: Health) -> None:
    assert after_word(word) == Streak(health, 0, word)
