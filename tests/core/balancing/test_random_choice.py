"""Random choices stay within the candidates, and every pair can be drawn."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.balancing.random_choice import pick_at_random, two_of

draws = st.floats(0, 1, exclude_max=True)


@given(st.integers(1, 20), draws)
def test_random_stays_within_the_candidates(count: int, draw: float) -> None:
    assert pick_at_random(range(count), draw) in range(count)


@given(st.integers(2, 20), draws)
def test_two_that_are_drawn_are_two_different_places(count: int, draw: float) -> None:
    one, two = two_of(range(count), draw)

    assert one != two
    assert {one, two} <= set(range(count))


def test_every_ordered_pair_is_as_likely() -> None:
    assert set(Counter(two_of("abc", draw / 600) for draw in range(600)).values()) == {100}


def test_too_few_to_draw_from_is_an_error() -> None:
    with pytest.raises(ValueError, match="nobody"):
        pick_at_random("", 0.5)
    with pytest.raises(ValueError, match="drawn from two"):
        two_of("a", 0.5)
