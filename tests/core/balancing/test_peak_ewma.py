"""Slow answers count at once and are forgotten slowly."""

from __future__ import annotations

from collections import Counter
from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.balancing.candidate import Busy

from silence_gateway.core.balancing.peak_ewma import UNKNOWN_RTT_S, cost, forgotten, observed, pick_cheaper
from silence_gateway.core.balancing.shares import repeated

times = st.floats(0, 100)
decays = st.floats(0.1, 100)


@pytest.mark.parametrize(
    ("rtt_s", "sample_s", "gap_s", "after_s"),
    [
        pytest.param(0.0, 0.1, 0.0, 0.1, id="the-first-sample-is-believed"),
        pytest.param(0.1, 2.0, 0.0, 2.0, id="a-peak-counts-at-once"),
        pytest.param(2.0, 0.1, 0.0, 2.0, id="an-answer-of-the-same-moment-says-nothing"),
        pytest.param(2.0, 0.1, 10.0, 2.0 * exp(-1) + 0.1 * (1 - exp(-1)), id="after-one-decay"),
        pytest.param(2.0, 0.1, 1e6, 0.1, id="in-the-end-the-past-is-gone"),
        pytest.param(2.0, 0.1, -5.0, 2.0, id="a-clock-that-went-back-changes-nothing"),
    ],
)
def test_an_estimate_jumps_up_and_glides_down(
    rtt_s: float, sample_s: float, gap_s: float, after_s: float
) -> None:
    assert observed(rtt_s, sample_s, gap_s, 10.0) == pytest.approx(after_s)


@given(times, times, times, decays)
def test_an_estimate_stays_between_what_it_was_and_what_was_seen(
    rtt_s: float, sample_s: float, gap_s: float, decay_s: float
) -> None:
    after_s = observed(rtt_s, sample_s, gap_s, decay_s)

    assert sample_s - 1e-9 <= after_s <= max(rtt_s, sample_s) + 1e-9


@given(times, times, decays)
def test_who_gets_no_calls_is_given_another_chance(rtt_s: float, silence_s: float, decay_s: float) -> None:
    assert 0 <= forgotten(rtt_s, silence_s, decay_s) <= rtt_s


def test_a_newcomer_gets_its_first_call_and_no_second_before_it_has_answered() -> None:
    known = Busy("known", rtt_s=0.05, in_flight=3)

    assert cost(Busy("new"), 1) < cost(known, 1)
    assert cost(Busy("new", in_flight=1), 1) == UNKNOWN_RTT_S * 2 > cost(known, 1)


@pytest.mark.parametrize(
    ("one", "two", "winner"),
    [
        pytest.param(Busy("a", 4, rtt_s=0.01), Busy("b", 0, rtt_s=0.1), "a", id="fast-and-busy-beats-slow"),
        pytest.param(Busy("a", 0, 9, rtt_s=0.01), Busy("b", 0, rtt_s=0.05), "b", id="failures-count"),
        pytest.param(Busy("a", 3, 0, 4, rtt_s=0.01), Busy("b", 1, rtt_s=0.01), "a", id="weight-bears-calls"),
    ],
)
def test_the_cheaper_of_two_wins(one: Busy, two: Busy, winner: str) -> None:
    assert {pick_cheaper([one, two], draw).name for draw in (0.1, 0.9)} == {winner}


def test_endpoints_that_are_as_fast_get_their_part_however_light_they_are() -> None:
    weights = (1, 2, 5)
    ring = repeated([Busy(str(each), share=each, rtt_s=0.01) for each in weights], weights)

    picked = Counter(pick_cheaper(ring, draw / 8_000).name for draw in range(8_000))

    for each in weights:
        assert picked[str(each)] == pytest.approx(1_000 * each, rel=0.05)


def test_one_is_picked_whatever_it_costs_and_nobody_is_an_error() -> None:
    only = Busy("only", rtt_s=9.0, in_flight=9)
    nobody: list[Busy] = []

    assert pick_cheaper([only], 0.9) is only
    with pytest.raises(ValueError, match="nobody"):
        pick_cheaper(nobody, 0.5)
