"""The part of a limit that one instance may give out alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.limits import Algorithm, LimitRule, WhenDown
from silence_gateway.core.local_share import over_admission, share_of
from silence_gateway.core.rates import Rate


def bucket(count: int, burst: int | None) -> LimitRule:
    return LimitRule(name="b", algorithm=Algorithm.TOKEN_BUCKET, rate=Rate(count, 1_000_000), burst=burst)


@pytest.mark.parametrize(
    ("instances", "count", "burst"), [(0, 100, 30), (1, 100, 30), (3, 33, 10), (50, 2, 1), (1000, 1, 1)]
)
def test_a_share_is_the_nth_part_and_at_least_one(instances: int, count: int, burst: int) -> None:
    share = share_of(bucket(100, 30), instances)

    assert (share.rate, share.burst) == (Rate(count, 1_000_000), burst)
    assert share.name == "b"


@given(st.integers(1, 10_000), st.integers(1, 500))
def test_all_shares_together_are_no_more_than_the_limit_or_one_each(count: int, instances: int) -> None:
    assert share_of(bucket(count, None), instances).capacity * instances <= max(count, instances)


def test_a_share_of_places_is_a_part_of_them() -> None:
    rule = LimitRule(name="c", algorithm=Algorithm.CONCURRENCY, max=20)

    assert share_of(rule, 3).max == 6


def test_a_share_leases_nothing() -> None:
    rule = LimitRule(name="w", algorithm=Algorithm.SLIDING_WINDOW, rate=Rate(100, 1_000_000), lease=80)

    assert share_of(rule, 4).lease == 0


@pytest.mark.parametrize(
    ("when_down", "instances", "most"),
    [
        (WhenDown.LOCAL_SHARE, 1, 100),
        (WhenDown.LOCAL_SHARE, 3, 99),
        (WhenDown.LOCAL_SHARE, 300, 300),
        (WhenDown.LOCAL_FULL, 3, 300),
        (WhenDown.DENY, 3, 0),
        (WhenDown.ALLOW, 3, None),
    ],
)
def test_what_an_outage_may_let_through_beyond_the_limit(
    when_down: WhenDown, instances: int, most: int | None
) -> None:
    rule = LimitRule(
        name="w", algorithm=Algorithm.SLIDING_WINDOW, rate=Rate(100, 1_000_000), when_down=when_down
    )

    assert over_admission(rule, instances) == most


def test_what_is_leased_may_come_on_top() -> None:
    rule = LimitRule(name="w", algorithm=Algorithm.SLIDING_WINDOW, rate=Rate(100, 1_000_000), lease=20)

    assert over_admission(rule, 4) == 100 + 4 * 20
    assert over_admission(rule, 0) == 100 + 20
