"""Balancing shares calls by weight and load, and is not fooled by endpoints that never answer."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.balancing import (
    MAX_PENALTY,
    faded,
    pick_at_random,
    pick_in_turn,
    pick_less_busy,
    raised,
    weighted_order,
)


@dataclass
class Busy:
    name: str = ""
    in_flight: int = 0
    penalty: int = 0
    weight: int = 1


weights = st.lists(st.integers(1, 100), max_size=12)
draws = st.floats(0, 1, exclude_max=True)


@given(weights)
def test_every_endpoint_gets_turns_in_proportion_to_its_weight(given_weights: list[int]) -> None:
    turns = Counter(weighted_order(given_weights))
    total = sum(turns.values())

    for index, weight in enumerate(given_weights):
        assert turns[index] * sum(given_weights) == weight * total


def test_turns_of_equal_weights_alternate_and_unequal_ones_spread() -> None:
    assert weighted_order([7, 7, 7]) == (0, 1, 2)
    assert weighted_order([3, 1]) == (0, 0, 1, 0)
    assert weighted_order([]) == ()


@given(st.integers(2, 50), st.integers(1, 10))
def test_a_light_endpoint_never_has_two_turns_in_a_row(heavy: int, light: int) -> None:
    order = weighted_order([max(heavy, light), light, max(heavy, light)])

    assert all(pair != (1, 1) for pair in pairwise(order))


@pytest.mark.parametrize("wrong", [[0], [1, 101], [-3]])
def test_a_weight_out_of_range_is_refused(wrong: list[int]) -> None:
    with pytest.raises(ValueError, match="weights must be from 1 to 100"):
        weighted_order(wrong)


def test_round_robin_comes_round() -> None:
    assert [pick_in_turn("abc", turn) for turn in range(5)] == ["a", "b", "c", "a", "b"]


@given(st.integers(1, 20), draws)
def test_random_stays_within_the_candidates(count: int, draw: float) -> None:
    assert pick_at_random(range(count), draw) in range(count)


@given(st.lists(st.integers(0, 50), min_size=2, max_size=10), draws)
def test_of_two_choices_the_busier_never_wins(loads: list[int], draw: float) -> None:
    ring = [Busy(str(index), load) for index, load in enumerate(loads)]

    picked = pick_less_busy(ring, draw)

    assert picked.in_flight < max(loads) or loads.count(max(loads)) > 1


def test_every_pair_can_be_drawn_and_the_first_wins_a_tie() -> None:
    ring = [Busy("a"), Busy("b"), Busy("c")]

    picked = Counter(pick_less_busy(ring, draw / 600).name for draw in range(600))

    assert picked == {"a": 200, "b": 200, "c": 200}


def test_an_endpoint_whose_calls_never_complete_is_not_preferred() -> None:
    """A black hole looks idle only to those who do not count what they wait for."""
    rng = Random(1)
    ring = [Busy("hole"), Busy("one"), Busy("two")]

    for _ in range(300):
        picked = pick_less_busy(ring, rng.random())
        if picked.name == "hole":
            picked.in_flight += 1

    # With nothing else in flight the hole is picked once or twice, and never again.
    assert ring[0].in_flight <= 2


def test_an_endpoint_that_fails_fast_looks_busy() -> None:
    failing, working = Busy("failing", penalty=3), Busy("working", in_flight=2)

    assert {pick_less_busy([failing, working], draw).name for draw in (0.1, 0.9)} == {"working"}


def test_weight_makes_an_endpoint_less_busy_with_the_same_calls() -> None:
    heavy, light = Busy("heavy", in_flight=3, weight=4), Busy("light", in_flight=1, weight=1)

    assert {pick_less_busy([heavy, light], draw).name for draw in (0.1, 0.9)} == {"heavy"}


def test_a_penalty_is_bounded_and_fades_by_itself() -> None:
    penalty = 0
    for _ in range(1000):
        penalty = raised(penalty)
    assert penalty == MAX_PENALTY

    for _ in range(7):
        penalty = faded(penalty)
    assert penalty == 0


def test_nobody_to_pick_from_is_an_error() -> None:
    nobody: list[Busy] = []
    with pytest.raises(ValueError, match="nobody"):
        pick_less_busy(nobody, 0.5)
    with pytest.raises(ValueError, match="nobody"):
        pick_in_turn(nobody, 0)
    with pytest.raises(ValueError, match="nobody"):
        pick_at_random(nobody, 0.5)


def test_a_single_candidate_is_picked_whatever_its_load() -> None:
    only = Busy("only", in_flight=99, penalty=64)

    assert pick_less_busy([only], 0.99) is only
