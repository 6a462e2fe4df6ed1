"""Durations are counted so that quantiles are within 5 %, and counts add up without a loss."""

from __future__ import annotations

import math
from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.durations import (
    BUCKETS,
    ERROR,
    FINE_S,
    LABELS,
    SHORTEST_S,
    published,
    quantiles_s,
    read,
    total_s,
    written,
)
from silence_gateway.core.histogram import BOUNDS_S

SPANS_S = st.floats(SHORTEST_S, FINE_S[-1])
SHARES = st.floats(0.01, 1)


def counted(durations_s: list[float]) -> list[int]:
    counts = [0] * BUCKETS
    for seconds in durations_s:
        counts[bisect_left(FINE_S, seconds)] += 1
    return counts


def true_quantile_s(durations_s: list[float], share: float) -> float:
    return sorted(durations_s)[math.ceil(len(durations_s) * share) - 1]


def test_the_stated_accuracy_is_five_percent() -> None:
    assert ERROR < 0.05


@given(st.lists(SPANS_S, min_size=1), SHARES)
def test_a_quantile_is_as_near_to_the_true_one_as_stated(durations_s: list[float], share: float) -> None:
    """Whatever was counted, and whichever quantile is asked for."""
    (told,) = quantiles_s(counted(durations_s), [share])

    assert told == pytest.approx(true_quantile_s(durations_s, share), rel=ERROR + 1e-9)


@given(st.lists(SPANS_S), st.lists(SPANS_S), SHARES)
def test_counts_of_several_places_add_up_to_those_of_one(
    one: list[float], two: list[float], share: float
) -> None:
    together = [a + b for a, b in zip(counted(one), counted(two), strict=True)]

    assert together == counted(one + two)
    assert quantiles_s(together, [share]) == quantiles_s(counted(one + two), [share])


@given(st.lists(st.floats(0, 1e9)))
def test_what_is_published_is_what_coarse_buckets_would_have_counted(durations_s: list[float]) -> None:
    coarse = [0] * (len(BOUNDS_S) + 1)
    for seconds in durations_s:
        coarse[bisect_left(BOUNDS_S, seconds)] += 1

    assert published(counted(durations_s)) == coarse


@given(st.lists(st.floats(0, 1e9)))
def test_what_is_written_reads_back_the_same(durations_s: list[float]) -> None:
    counts = counted(durations_s)

    assert read(written(counts)) == counts
    assert len(set(LABELS)) == BUCKETS


@given(st.lists(SPANS_S))
def test_the_total_is_as_near_to_the_true_one_as_stated(durations_s: list[float]) -> None:
    assert total_s(counted(durations_s)) == pytest.approx(math.fsum(durations_s), rel=ERROR + 1e-9)


def test_what_is_beyond_the_bounds_is_told_as_the_bound() -> None:
    assert quantiles_s(counted([0.0]), [0.5]) == [SHORTEST_S]
    assert quantiles_s(counted([1e9]), [0.5, 1]) == [FINE_S[-1]] * 2


def test_of_nothing_there_is_no_quantile() -> None:
    assert quantiles_s([0] * BUCKETS, [0.5, 0.9]) == [None, None]


def test_a_bound_that_is_none_of_ours_is_refused() -> None:
    with pytest.raises(ValueError, match="no bucket up to 7"):
        read({"7": 1})
