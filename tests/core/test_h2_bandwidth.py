"""The window follows what the path holds, within its bound."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.h2_bandwidth import WindowEstimate


def measured(estimate: WindowEstimate, product: int, at: int = 0) -> int:
    estimate.on_ping_sent(at)
    estimate.on_ping_answered(at + product)
    return estimate.window


def test_a_window_that_is_filled_in_a_round_trip_is_doubled() -> None:
    estimate = WindowEstimate(1_000, 10_000)
    assert measured(estimate, 700, at=5_000) == 2_000
    assert measured(estimate, 3_000) == 6_000
    assert measured(estimate, 9_000) == 10_000
    assert not estimate.wants_ping


def test_a_window_that_is_wide_enough_stays() -> None:
    estimate = WindowEstimate(1_000, 10_000)
    assert measured(estimate, 600) == 1_000
    assert estimate.wants_ping


def test_one_ping_at_a_time_and_stray_answers_mean_nothing() -> None:
    estimate = WindowEstimate(1_000, 10_000)
    estimate.on_ping_answered(50_000)
    assert estimate.window == 1_000
    estimate.on_ping_sent(0)
    assert not estimate.wants_ping


@given(st.integers(1, 2**20), st.integers(0, 2**24), st.lists(st.integers(0, 2**26)))
def test_it_never_shrinks_and_never_leaves_its_bound(initial: int, more: int, products: list[int]) -> None:
    estimate = WindowEstimate(initial, initial + more)
    before = initial
    for product in products:
        after = measured(estimate, product)
        assert before <= after <= initial + more
        before = after
