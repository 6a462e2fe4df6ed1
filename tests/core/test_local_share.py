"""The part of a limit that one instance may give out alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.limits import Algorithm, LimitRule
from silence_gateway.core.local_share import share_of
from silence_gateway.core.rates import Rate


def bucket(count: int, burst: int | None) -> LimitRule:
    return LimitRule(name="b", algorithm=Algorithm.TOKEN_BUCKET, rate=Rate(count, 1_000_000), burst=burst)


@pytest.mark.parametrize(
    ("instances", "count", "burst"), [(0, 100, 30), (1, 100, 30), (3, 33, 10), (50, 2, 1), (1000, 1, 1)]
)
def test_a_share_is_the_nth_part_and_at_least_one(instances: int, count: int, burst: int) -> None:
    share = share_of(bucket(100, 30), instances)

    assert (share.rate.count, share.burst) == (count, burst)
    assert share.name == "b"


@given(st.integers(1, 10_000), st.integers(1, 500))
def test_all_shares_together_are_no_more_than_the_limit_or_one_each(count: int, instances: int) -> None:
    assert share_of(bucket(count, None), instances).rate.count * instances <= max(count, instances)
