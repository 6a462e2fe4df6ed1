"""Quantiles of recent durations: exact to a bucket, and unknown where there is too little to go by."""

from __future__ import annotations

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.hedging import FEWEST, quantile_s
from silence_gateway.core.histogram import BOUNDS_S

BUCKETS = len(BOUNDS_S) + 1


def counts_of(*durations_s: float) -> list[int]:
    counts = [0] * BUCKETS
    for duration_s in durations_s:
        counts[bisect_left(BOUNDS_S, duration_s)] += 1
    return counts


def test_a_few_calls_say_nothing() -> None:
    assert quantile_s(counts_of(*[0.01] * (FEWEST - 1)), 0.5) is None
    assert quantile_s(counts_of(*[0.01] * FEWEST), 0.5) is not None


def test_what_is_beyond_the_last_bound_is_unknown() -> None:
    assert quantile_s(counts_of(*[60.0] * FEWEST), 0.5) is None


def test_a_bucket_is_taken_for_evenly_spread() -> None:
    assert quantile_s(counts_of(*[0.2] * 100), 0.5) == pytest.approx(0.175)


@given(st.lists(st.floats(0.0001, 9.9), min_size=FEWEST, max_size=200), st.floats(0.5, 0.999))
def test_it_lies_in_the_bucket_of_the_true_quantile(durations_s: list[float], share: float) -> None:
    durations_s.sort()
    index = 0
    while (index + 1) < share * len(durations_s):
        index += 1
    bucket = bisect_left(BOUNDS_S, durations_s[index])

    found = quantile_s(counts_of(*durations_s), share)

    assert found is not None
    assert (BOUNDS_S[bucket - 1] if bucket else 0.0) - 1e-9 <= found <= BOUNDS_S[bucket] + 1e-9
