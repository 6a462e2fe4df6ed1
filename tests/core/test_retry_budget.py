"""The retry budget: what one instance may repeat, and what a fleet of them does together."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.core.retry_budget import (
    MAX_COUNT,
    BudgetPolicy,
    Recent,
    Totals,
    added,
    affordable,
    read,
    written,
)

NOBODY = Totals(0, 0)
POLICY = BudgetPolicy(share=0.2, free=10)


@pytest.mark.parametrize(
    ("own", "others", "instances", "fits"),
    [
        pytest.param(Totals(0, 9), NOBODY, 1, True, id="the-last-free-one"),
        pytest.param(Totals(0, 10), NOBODY, 1, False, id="none-left"),
        pytest.param(Totals(100, 29), NOBODY, 1, True, id="a-share-of-the-calls-on-top"),
        pytest.param(Totals(100, 30), NOBODY, 1, False, id="and-not-more"),
        pytest.param(Totals(0, 4), Totals(0, 0), 2, True, id="half-of-the-free-ones"),
        pytest.param(Totals(0, 5), Totals(0, 0), 2, False, id="the-other-half-is-not-ours"),
        pytest.param(Totals(0, 0), Totals(0, 10), 2, False, id="the-fleet-has-spent-it"),
        pytest.param(Totals(0, 0), Totals(100, 29), 2, True, id="the-fleet-has-one-left"),
        pytest.param(Totals(0, 0), Totals(0, 5), 50, True, id="everybody-has-one"),
        pytest.param(Totals(0, 1), Totals(0, 5), 50, False, id="but-not-two"),
    ],
)
def test_what_fits(own: Totals, others: Totals, instances: int, fits: bool) -> None:
    assert affordable(POLICY, own, others, instances) is fits


def test_no_budget_is_none_at_all() -> None:
    assert not affordable(BudgetPolicy(share=0, free=0), Totals(1000, 0), NOBODY, 1)


@settings(max_examples=50)
@given(
    instances=st.integers(1, 8),
    ticks=st.lists(st.lists(st.tuples(st.integers(0, 7), st.booleans()), max_size=120), max_size=12),
)
def test_a_fleet_repeats_no_more_than_its_share_and_what_it_did_within_one_tick(
    instances: int, ticks: list[list[tuple[int, bool]]]
) -> None:
    """However calls and failures fall on the instances, told of each other once a tick."""
    window = 4
    recent = [Recent(window) for _ in range(instances)]
    totals = [NOBODY] * instances
    told = [NOBODY] * instances
    history: list[Totals] = [NOBODY]
    for tick in ticks:
        within_tick = 0
        for number, fails in tick:
            one = number % instances
            calls, repeats = totals[one]
            totals[one] = Totals(calls + 1, repeats)
            others = added(told[:one] + told[one + 1 :])
            if fails and affordable(POLICY, recent[one].within(totals[one]), others, instances):
                totals[one] = Totals(calls + 1, repeats + 1)
                within_tick += 1
        fleet = added(totals) - history[max(0, len(history) - window)]
        history.append(added(totals))
        assert fleet.repeats <= POLICY.share * fleet.calls + POLICY.free + within_tick + instances
        for one in range(instances):
            recent[one].tick(totals[one])
            told[one] = recent[one].within(totals[one])


def test_a_window_forgets_what_is_older() -> None:
    recent = Recent(3)
    recent.tick(Totals(10, 5))
    recent.tick(Totals(20, 5))

    assert recent.within(Totals(25, 6)) == Totals(25, 6)
    recent.tick(Totals(25, 6))
    assert recent.within(Totals(25, 6)) == Totals(15, 1)


@given(st.integers(0, MAX_COUNT), st.integers(0, MAX_COUNT))
def test_what_is_told_is_read_as_it_was(calls: int, repeats: int) -> None:
    assert read(written(Totals(calls, repeats))) == Totals(calls, repeats)


@given(st.binary(max_size=40))
def test_anything_else_is_refused_and_never_crashes(fact: bytes) -> None:
    try:
        totals = read(fact)
    except ValueError:
        return
    assert read(written(totals)) == totals


@pytest.mark.parametrize("fact", [b"", b"1", b"1 2 3", b"-1 2", b"1 x", b"1 " + b"9" * 13, b"1" * 40])
def test_what_is_no_count_is_refused(fact: bytes) -> None:
    with pytest.raises(ValueError, match="instance"):
        read(fact)


@pytest.mark.parametrize(("share", "free"), [(-0.1, 0), (1.1, 0), (0.5, -1)])
def test_a_budget_is_a_share(share: float, free: int) -> None:
    with pytest.raises(ValueError, match="budget"):
        BudgetPolicy(share=share, free=free)
