"""Allowances: floods end, honest clients never notice, whatever the order of things."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.core.h2_flood import ALLOWANCES, Allowance, FloodBudget, Noise


def budget_of(burst: int, per_s: float, per_work: float, now_s: float = 0.0) -> FloodBudget:
    allowance = Allowance(burst=burst, per_s=per_s, per_work=per_work)
    return FloodBudget(now_s, dict.fromkeys(Noise, allowance))


def spent_at_once(budget: FloodBudget, now_s: float, work: int) -> int:
    count = 0
    while budget.spend(Noise.PINGS, now_s, work):
        count += 1
    return count


def test_a_new_client_has_one_burst() -> None:
    assert spent_at_once(budget_of(5, 1, 1), 0.0, 0) == 5


def test_time_and_work_earn_more_but_never_above_a_burst() -> None:
    budget = budget_of(10, 2, 0.5)
    spent_at_once(budget, 0.0, 0)

    assert spent_at_once(budget, 2.0, 0) == 4
    assert spent_at_once(budget, 2.0, 6) == 3
    assert spent_at_once(budget, 1_000.0, 6) == 10


def test_kinds_do_not_share() -> None:
    budget = budget_of(1, 0, 0)

    assert all(budget.spend(noise, 0.0, 0) for noise in Noise)
    assert not any(budget.spend(noise, 0.0, 0) for noise in Noise)


@settings(deadline=None)
@given(
    steps=st.lists(st.tuples(st.floats(0, 3), st.integers(0, 20), st.integers(0, 30)), max_size=40),
    burst=st.integers(1, 20),
    per_s=st.integers(0, 20),
    per_work=st.integers(0, 3),
)
def test_no_flood_gets_more_than_a_burst_and_what_was_earned(
    steps: list[tuple[float, int, int]], burst: int, per_s: int, per_work: int
) -> None:
    budget = budget_of(burst, per_s, per_work)
    now_s, work, spent = 0.0, 0, 0
    for waited_s, done, tries in steps:
        now_s += waited_s
        work += done
        spent += sum(budget.spend(Noise.RESETS, now_s, work) for _ in range(tries))

        assert spent <= burst + now_s * per_s + work * per_work + 1e-6


@settings(deadline=None)
@given(gaps=st.lists(st.floats(0.2, 5), max_size=200))
def test_who_stays_below_half_the_rate_is_never_refused(gaps: list[float]) -> None:
    budget = budget_of(3, 10, 0)
    now_s = 0.0
    for gap_s in gaps:
        now_s += gap_s

        assert budget.spend(Noise.PINGS, now_s, 0)


def test_a_flood_of_each_kind_ends_within_seconds_of_the_standard_allowances() -> None:
    for noise, allowance in ALLOWANCES.items():
        budget = FloodBudget(0.0)
        flood_per_s, second = 10_000, 0
        while all(budget.spend(noise, second + at / flood_per_s, 0) for at in range(flood_per_s)):
            second += 1

        assert second * flood_per_s < 2 * allowance.burst


@pytest.mark.parametrize("broken", [{"burst": 0}, {"per_s": -1.0}, {"per_work": -1.0}])
def test_an_allowance_that_allows_nothing_is_refused(broken: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="allowance"):
        Allowance(**{"burst": 1, "per_s": 0.0, "per_work": 0.0, **broken})  # type: ignore[arg-type]
