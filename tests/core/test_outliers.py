"""Outliers: who does worse than the rest, how many may be left alone, and for how long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.outliers import MAX_MULTIPLE, Tally, below_the_mean, ejection_us, may_eject


def fleet(*failed_of_a_thousand: int) -> list[Tally]:
    return [Tally(1000, failures) for failures in failed_of_a_thousand]


@pytest.mark.parametrize(
    ("tallies", "worse"),
    [
        pytest.param(fleet(0, 0, 0, 0, 0, 0, 500), (6,), id="one-of-seven"),
        pytest.param(fleet(0, 0, 0, 0, 0, 0), (), id="all-well"),
        pytest.param(fleet(500, 500, 500, 500, 500), (), id="all-equally-bad"),
        pytest.param(fleet(0, 0, 500), (2,), id="one-of-three"),
        pytest.param(fleet(0, 400), (1,), id="one-of-two"),
        pytest.param(fleet(0, 299), (), id="two-not-far-apart"),
        pytest.param(fleet(500, 500, 500), (), id="three-equally-bad"),
        pytest.param(fleet(900), (), id="alone"),
        pytest.param([Tally(99, 99), Tally(1000, 0)], (), id="too-few-calls"),
        pytest.param([], (), id="nobody"),
    ],
)
def test_who_does_worse_than_the_rest(tallies: list[Tally], worse: tuple[int, ...]) -> None:
    assert below_the_mean(tallies) == worse


def test_the_worst_comes_first() -> None:
    tallies = fleet(*[0] * 18, 600, 900)

    assert below_the_mean(tallies) == (19, 18)


def test_an_endpoint_without_calls_is_not_bad() -> None:
    assert Tally(0, 0).success == 1


@given(st.integers(0, 100), st.integers(0, 100), st.floats(0, 1))
def test_one_always_stays(endpoints: int, ejected: int, share: float) -> None:
    if may_eject(endpoints, ejected, share):
        assert ejected + 1 < endpoints
        assert share > 0


@pytest.mark.parametrize(
    ("endpoints", "ejected", "share", "may"),
    [
        pytest.param(2, 0, 0.1, True, id="one-may-whatever-the-share"),
        pytest.param(1, 0, 1.0, False, id="never-the-only-one"),
        pytest.param(4, 1, 0.5, True, id="up-to-the-share"),
        pytest.param(4, 2, 0.5, False, id="not-beyond"),
        pytest.param(4, 0, 0.0, False, id="turned-off"),
    ],
)
def test_how_many_may_be_ejected(endpoints: int, ejected: int, share: float, may: bool) -> None:
    assert may_eject(endpoints, ejected, share) is may


def test_each_ejection_lasts_longer_up_to_a_cap() -> None:
    assert [ejection_us(30, times) for times in (1, 2, 3)] == [30, 60, 90]
    assert ejection_us(30, 99) == 30 * MAX_MULTIPLE
