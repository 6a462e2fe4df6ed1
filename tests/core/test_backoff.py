"""Back-off is bounded, jittered over its whole range, and cannot overflow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.backoff import Backoff, wait_us

SHAPE = Backoff(first_us=100_000, cap_us=5_000_000, floor_us=20_000)


@given(attempt=st.integers(0, 10_000), draw=st.floats(0, 1, exclude_max=True))
def test_every_wait_is_between_floor_and_cap(attempt: int, draw: float) -> None:
    assert SHAPE.floor_us <= wait_us(SHAPE, attempt, draw) <= SHAPE.cap_us


@given(attempt=st.integers(0, 30), draw=st.floats(0, 1, exclude_max=True))
def test_a_later_attempt_never_waits_less_for_the_same_draw(attempt: int, draw: float) -> None:
    assert wait_us(SHAPE, attempt + 1, draw) >= wait_us(SHAPE, attempt, draw)


def test_the_upper_end_doubles_until_the_cap() -> None:
    highest = [wait_us(SHAPE, attempt, 0.999999) for attempt in range(8)]

    assert [round(wait / 100_000) for wait in highest] == [1, 2, 4, 8, 16, 32, 50, 50]


def test_a_factor_of_one_never_grows() -> None:
    assert wait_us(Backoff(first_us=10, cap_us=1000, factor=1), 10**9, 0.5) == 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"first_us": 10, "cap_us": 5},
        {"first_us": 10, "cap_us": 20, "floor_us": 11},
        {"first_us": 10, "cap_us": 20, "floor_us": -1},
        {"first_us": 10, "cap_us": 20, "factor": 0.5},
        {"first_us": 0, "cap_us": 0},
    ],
)
def test_a_shape_that_makes_no_sense_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="back-off needs"):
        Backoff(**wrong)


@pytest.mark.parametrize(("attempt", "draw"), [(-1, 0.5), (0, 1.0), (0, -0.1)])
def test_a_draw_or_attempt_out_of_range_is_refused(attempt: int, draw: float) -> None:
    with pytest.raises(ValueError, match="must be at least 0"):
        wait_us(SHAPE, attempt, draw)
