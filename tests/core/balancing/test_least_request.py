"""The less busy of two wins, and endpoints that never answer or fail fast do not look idle."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.balancing.candidate import Busy

from silence_gateway.core.balancing.least_request import pick_less_busy
from silence_gateway.core.balancing.shares import repeated

draws = st.floats(0, 1, exclude_max=True)


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


@pytest.mark.parametrize(
    ("one", "two", "winner"),
    [
        pytest.param(Busy("a", penalty=3), Busy("b", in_flight=2), "b", id="failing-fast-looks-busy"),
        pytest.param(Busy("a", in_flight=3, share=4), Busy("b", in_flight=1), "a", id="weight-bears-calls"),
        pytest.param(
            Busy("a", in_flight=5, share=4), Busy("b", in_flight=1), "b", id="and-no-more-than-it-can"
        ),
        pytest.param(Busy("a", penalty=1, share=4), Busy("b"), "b", id="weight-excuses-no-failure"),
        pytest.param(Busy("a", in_flight=9, penalty=0), Busy("b", penalty=10), "a", id="busy-beats-broken"),
    ],
)
def test_load_is_calls_times_failures_over_weight(one: Busy, two: Busy, winner: str) -> None:
    assert {pick_less_busy([one, two], draw).name for draw in (0.1, 0.9)} == {winner}


@pytest.mark.parametrize("weights", [(1, 2, 5), (1, 100), (1, 1, 16, 16)], ids=str)
def test_idle_endpoints_get_their_part_however_light_they_are(weights: tuple[int, ...]) -> None:
    """In a quiet hour there is one call at a time, and nobody has any in flight when it is given away."""
    ring = repeated([Busy(str(index), share=share) for index, share in enumerate(weights)], weights)
    rng = Random(7)

    picked = Counter(pick_less_busy(ring, rng.random()).name for _ in range(20_000))

    for index, share in enumerate(weights):
        assert picked[str(index)] / 20_000 == pytest.approx(share / sum(weights), rel=0.2)


@pytest.mark.parametrize("at_once", [2, 5, 20, 200])
@pytest.mark.parametrize("weights", [(99, 1), (3, 1), (50, 49, 1)], ids=str)
def test_a_light_endpoint_gets_no_more_than_its_part_however_few_calls_there_are(
    weights: tuple[int, ...], at_once: int
) -> None:
    """Of two endpoints both are always drawn, and the light one is idle whenever it has answered."""
    ring = repeated([Busy(str(index), share=share) for index, share in enumerate(weights)], weights)
    rng = Random(7)
    picked: Counter[str] = Counter()
    under_way: list[Busy] = []
    for _ in range(10_000):
        if len(under_way) == at_once:
            under_way.pop(rng.randrange(at_once)).in_flight -= 1
        one = pick_less_busy(ring, rng.random())
        one.in_flight += 1
        under_way.append(one)
        picked[one.name] += 1

    light = picked[str(len(weights) - 1)] / 10_000
    assert light == pytest.approx(weights[-1] / sum(weights), rel=0.35, abs=0.005)


def test_a_heavy_endpoint_that_has_stalled_is_always_compared_with_another() -> None:
    members = [Busy("heavy", in_flight=1_000, share=98), Busy("one"), Busy("two")]
    ring = repeated(members, [one.share for one in members])

    picked = Counter(pick_less_busy(ring, draw / 10_000).name for draw in range(10_000))

    assert picked["heavy"] == 0
    assert picked["one"] == pytest.approx(picked["two"], rel=0.1)


def test_a_single_candidate_is_picked_whatever_its_load() -> None:
    only = Busy("only", in_flight=99, penalty=64)

    assert pick_less_busy([only], 0.99) is only


def test_nobody_to_pick_from_is_an_error() -> None:
    nobody: list[Busy] = []
    with pytest.raises(ValueError, match="nobody"):
        pick_less_busy(nobody, 0.5)
