"""Turns are in proportion to weights, well spread, and never so many that preparing them takes long."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.balancing.shares import MAX_TURNS, repeated, smooth_order, turns_of

weights = st.lists(st.integers(1, 100), max_size=12)


@given(weights)
def test_every_endpoint_gets_turns_in_proportion_to_its_weight(given_weights: list[int]) -> None:
    turns = Counter(smooth_order(given_weights))
    total = sum(turns.values())

    for index, weight in enumerate(given_weights):
        assert turns[index] * sum(given_weights) == weight * total


@pytest.mark.parametrize(
    ("shares", "order"),
    [
        pytest.param([], "", id="nobody"),
        pytest.param([7, 7, 7], "abc", id="equal-weights-alternate"),
        pytest.param([3, 1], "aaba", id="three-to-one"),
        pytest.param([4, 3, 2], "abcabacba", id="nginx-has-the-same-order"),
        pytest.param([5, 1, 1], "abaaaca", id="equal-weights-take-turns-inside-the-smooth-order"),
    ],
)
def test_turns_are_spread_over_the_round(shares: list[int], order: str) -> None:
    assert "".join("abc"[index] for index in smooth_order(shares)) == order


@given(st.integers(2, 50), st.integers(1, 10))
def test_a_light_endpoint_never_has_two_turns_in_a_row(heavy: int, light: int) -> None:
    order = smooth_order([max(heavy, light), light, max(heavy, light)])

    assert all(pair != (1, 1) for pair in pairwise(order))


@given(st.lists(st.integers(1, 30), min_size=2, max_size=6, unique=True))
def test_at_no_time_has_anybody_had_much_more_or_less_than_its_part(shares: list[int]) -> None:
    """Smooth means at every moment, not only at the end of the round."""
    order, total = smooth_order(shares), sum(smooth_order(shares).count(0) * share for share in shares)
    turns = turns_of(shares)
    had = [0] * len(shares)

    for turn, index in enumerate(order, start=1):
        had[index] += 1
        for mine, its in zip(turns, had, strict=True):
            assert abs(its - turn * mine / len(order)) < len(shares)
    assert total


@given(st.lists(st.integers(1, 1600), min_size=1, max_size=1000))
def test_a_round_is_never_long_and_leaves_nobody_out(shares: list[int]) -> None:
    turns = turns_of(shares)

    assert min(turns) >= 1
    assert sum(turns) <= MAX_TURNS + len(shares)


def test_big_fleets_of_odd_weights_keep_their_proportions_nearly() -> None:
    turns = turns_of([97, 89] * 250)

    assert sum(turns) <= MAX_TURNS
    assert turns[0] / turns[1] == pytest.approx(97 / 89, rel=0.15)


def test_who_draws_by_chance_finds_everybody_as_often_as_its_share() -> None:
    assert repeated("ab", [4, 2]) == ("a", "a", "b")


@pytest.mark.parametrize("wrong", [[0], [1, -3]])
def test_a_share_of_nothing_is_refused(wrong: list[int]) -> None:
    with pytest.raises(ValueError, match="shares must be 1 or more"):
        smooth_order(wrong)
