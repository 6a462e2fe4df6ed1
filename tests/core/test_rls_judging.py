"""What a count means, for callers and for statistics."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.rls_judging import (
    MAX_REMAINING,
    Standing,
    Verdict,
    crosses_back,
    judge,
    near_threshold,
    refunded,
    share_of,
)


@pytest.mark.parametrize(
    ("after", "hits", "verdict"),
    [
        pytest.param(1, 1, Verdict(False, 9, 0, 0), id="far below"),
        pytest.param(8, 1, Verdict(False, 2, 0, 0), id="just at the near threshold"),
        pytest.param(9, 1, Verdict(False, 1, 0, 1), id="near"),
        pytest.param(10, 1, Verdict(False, 0, 0, 1), id="the last one"),
        pytest.param(11, 1, Verdict(True, 0, 1, 0), id="one too many"),
        pytest.param(10, 5, Verdict(False, 0, 0, 2), id="some hits near"),
        pytest.param(12, 3, Verdict(True, 0, 2, 1), id="some hits over, some near"),
        pytest.param(15, 10, Verdict(True, 0, 5, 2), id="below, near and over at once"),
        pytest.param(15, 5, Verdict(True, 0, 5, 0), id="all hits over"),
        pytest.param(10, 0, Verdict(False, 0, 0, 0), id="asking at the limit passes"),
        pytest.param(11, 0, Verdict(True, 0, 0, 0), id="asking beyond it does not"),
    ],
)
def test_hits_are_over_near_or_within_a_limit_of_ten(after: int, hits: int, verdict: Verdict) -> None:
    assert judge(10, 8, after, hits) == verdict


def test_a_limit_of_nothing_refuses_all_but_questions() -> None:
    assert judge(0, 0, 1, 1) == Verdict(True, 0, 1, 0)
    assert judge(0, 0, 0, 0) == Verdict(False, 0, 0, 0)


@given(st.integers(0, 50), st.floats(0.01, 1), st.lists(st.integers(0, 9), max_size=30))
def test_every_hit_over_is_counted_once(limit: int, ratio: float, hits: list[int]) -> None:
    near = near_threshold(limit, ratio)
    count = over = close = 0
    for number in hits:
        count += number
        verdict = judge(limit, near, count, number)
        assert verdict.over is (count > limit)
        assert verdict.remaining == max(0, limit - count)
        over += verdict.over_hits
        close += verdict.near_hits

    assert over == max(0, count - limit)
    assert close == max(0, min(count, limit) - near)


@pytest.mark.parametrize(
    ("limit", "ratio", "near"),
    [
        (10, 0.8, 8),
        (5, 0.8, 4),
        (1, 0.8, 0),
        (0, 0.8, 0),
        pytest.param(100, 0.29, 29, id="in 64 bits it would be 28"),
        pytest.param((1 << 32) - 1, 1.0, (1 << 32) - 1, id="never above the limit"),
    ],
)
def test_the_near_threshold_is_rounded_as_in_32_bits(limit: int, ratio: float, near: int) -> None:
    assert near_threshold(limit, ratio) == near


@pytest.mark.parametrize(
    ("limit", "parts", "share"),
    [(10, 1, 10), (10, 0, 10), (10, 3, 3), (2, 5, 1), (1, 5, 1), pytest.param(0, 5, 0, id="a ban stays one")],
)
def test_an_instance_gives_out_its_part(limit: int, parts: int, share: int) -> None:
    assert share_of(limit, parts) == share


def test_hits_given_back_are_left_again() -> None:
    assert refunded(10, 4) == 6
    assert refunded(10, 40) == 0


@pytest.mark.parametrize(
    ("after", "hits", "crosses"),
    [
        pytest.param(9, 3, True, id="from 12 to 9"),
        pytest.param(17, 3, False, id="still over"),
        pytest.param(8, 2, False, id="was not over"),
        pytest.param(0, 20, True, id="stopped at 0, so it may have been"),
    ],
)
def test_giving_back_may_bring_a_count_under_its_limit(after: int, hits: int, *, crosses: bool) -> None:
    assert crosses_back(10, after, hits) is crosses


def stand(*descriptors: tuple[bool, bool, int]) -> Standing:
    """Return the standing of descriptors, each (over, quota, remaining)."""
    standing = Standing()
    for index, (over, quota, remaining) in enumerate(descriptors):
        standing.count(index, over=over, quota=quota, remaining=remaining)
    return standing


LIMIT_OK, LIMIT_OVER = (False, False, 5), (True, False, 0)
QUOTA_OK, QUOTA_OVER = (False, True, 5), (True, True, 0)


@pytest.mark.parametrize(
    ("descriptors", "over"),
    [
        ((), False),
        ((LIMIT_OK, LIMIT_OK), False),
        pytest.param((LIMIT_OK, LIMIT_OVER), True, id="one limit is enough"),
        pytest.param((QUOTA_OK, QUOTA_OVER), False, id="one quota is not"),
        pytest.param((QUOTA_OVER, QUOTA_OVER), True, id="all quotas are"),
        pytest.param((QUOTA_OVER, LIMIT_OK), True, id="all quotas beside a limit"),
        pytest.param((QUOTA_OK, LIMIT_OVER), True, id="a limit beside a quota"),
    ],
)
def test_a_request_is_over_by_one_limit_or_by_all_quotas(
    descriptors: tuple[tuple[bool, bool, int], ...], *, over: bool
) -> None:
    assert stand(*descriptors).over is over


@pytest.mark.parametrize(
    ("descriptors", "least", "remaining"),
    [
        ((), None, MAX_REMAINING),
        (((False, False, 5), (False, False, 3), (False, False, 4)), 1, 3),
        pytest.param(((False, False, 3), (False, False, 3)), 0, 3, id="the first of equals"),
        pytest.param((LIMIT_OVER, LIMIT_OVER), 1, 0, id="the last that refuses"),
        pytest.param((LIMIT_OVER, LIMIT_OK), 0, 0, id="before what does not"),
        pytest.param(((False, False, 0), LIMIT_OVER), 1, 0, id="also where another has nothing left"),
        pytest.param((QUOTA_OVER, QUOTA_OVER), 0, 0, id="a quota does not refuse by itself"),
    ],
)
def test_headers_are_about_what_is_closest_to_refusing(
    descriptors: tuple[tuple[bool, bool, int], ...], least: int | None, remaining: int
) -> None:
    standing = stand(*descriptors)

    assert (standing.least, standing.least_remaining) == (least, remaining)
