"""A newcomer's share grows in a straight line and never starts at nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.balancing.slow_start import FULL, share_of


@pytest.mark.parametrize(
    ("weight", "age_s", "window_s", "share"),
    [
        pytest.param(1, 0.0, 0.0, FULL, id="off"),
        pytest.param(1, 0.0, 16.0, 1, id="the-first-moment"),
        pytest.param(1, 8.0, 16.0, FULL // 2, id="half-way"),
        pytest.param(3, 8.0, 16.0, 3 * FULL // 2, id="half-way-with-weight"),
        pytest.param(1, 16.0, 16.0, FULL, id="done"),
        pytest.param(1, -1.0, 16.0, 1, id="a-clock-that-went-back"),
    ],
)
def test_a_share_follows_the_age(weight: int, age_s: float, window_s: float, share: int) -> None:
    assert share_of(weight, age_s, window_s) == share


@given(st.integers(1, 100), st.floats(0, 100), st.floats(0, 100), st.floats(0.1, 100))
def test_a_share_never_shrinks_with_age(weight: int, age_s: float, later_s: float, window_s: float) -> None:
    young, old = share_of(weight, age_s, window_s), share_of(weight, age_s + later_s, window_s)

    assert weight <= young <= old <= weight * FULL
