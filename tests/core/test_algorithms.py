"""Every algorithm looks alike, so that a store can keep any of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.algorithms import ARITHMETIC
from silence_gateway.core.limits import NEVER, Algorithm, Alignment, LimitRule
from silence_gateway.core.rates import Rate

START_US = 1_764_000_000_000_000
RULES: list[LimitRule] = [
    LimitRule(name="l", rate=Rate(5, 1_000_000), **values)
    for values in (
        dict[str, Any](algorithm=Algorithm.SLIDING_WINDOW),
        dict[str, Any](algorithm=Algorithm.SLIDING_COUNTER),
        dict[str, Any](algorithm=Algorithm.TOKEN_BUCKET),
        dict[str, Any](algorithm=Algorithm.FIXED_WINDOW),
        dict[str, Any](algorithm=Algorithm.FIXED_WINDOW, align=Alignment.FIRST_HIT),
    )
]
ids = [f"{rule.algorithm.value}-{rule.align.value}" for rule in RULES]


def test_every_kind_of_rule_with_a_rate_has_its_arithmetic() -> None:
    assert {rule.kind for rule in RULES} == ARITHMETIC.keys()


@pytest.mark.parametrize("rule", RULES, ids=ids)
def test_a_key_that_has_spent_nothing_has_everything(rule: LimitRule) -> None:
    arithmetic = ARITHMETIC[rule.kind]
    looked = arithmetic.judge(rule, None, START_US, 0)

    assert (looked.allowed, looked.limit, looked.remaining) == (True, 5, 5)
    assert arithmetic.used_of(rule, None, START_US) == (0, 0)
    assert arithmetic.judge(rule, None, START_US, 6).retry_after_us == NEVER


@pytest.mark.parametrize("rule", RULES, ids=ids)
@given(costs=st.lists(st.tuples(st.integers(0, 400_000), st.integers(0, 6)), max_size=30))
def test_what_is_spent_counts_is_given_back_and_is_over_in_the_end(
    rule: LimitRule, costs: list[tuple[int, int]]
) -> None:
    arithmetic = ARITHMETIC[rule.kind]
    state, now_us = None, START_US
    for gap_us, cost in costs:
        now_us += gap_us
        decision = arithmetic.judge(rule, state, now_us, cost)
        if not decision.allowed or not cost:
            assert decision.allowed == (not cost or decision.retry_after_us == 0)
            continue
        used, _ = arithmetic.used_of(rule, state, now_us)
        state = arithmetic.spend(rule, state, now_us, cost)
        after, _ = arithmetic.used_of(rule, state, now_us)
        assert used < after <= 5
        assert 5 - after <= decision.remaining <= 5 - after + 1
    if state is not None:
        used, reset_us = arithmetic.used_of(rule, state, now_us)
        _, undone = arithmetic.give_back(rule, state, now_us, now_us, 1)
        assert undone <= used
        assert arithmetic.is_over(rule, state, now_us + 2_000_000)
        assert reset_us <= 2_000_000
