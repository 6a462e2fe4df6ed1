"""One key, one endpoint; endpoints that come and go move few keys; nobody is overloaded."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.balancing.candidate import Busy

from silence_gateway.core.balancing.consistent_hash import (
    FREE_LOAD,
    MAX_POINTS,
    POINTS,
    Ring,
    bound_of,
    hash_of,
    pick_by_key,
    points_of,
    points_per_share,
    ring_of,
)

KEYS = [hash_of(f"user-{number}".encode()) for number in range(2000)]
HASH_OF_USER_1 = 0x9AAC5A8621EAE188
names = st.lists(st.integers(0, 999), min_size=2, max_size=8, unique=True)


def ring(endpoints: list[Busy], weights: list[int] | None = None) -> Ring[Busy]:
    return ring_of(
        [one.name for one in endpoints], endpoints, weights or [1] * len(endpoints), points_per_share(8)
    )


def homes(of: Ring[Busy]) -> list[str]:
    return [pick_by_key(of, key, 0, 1.25).name for key in KEYS]


def test_the_hash_is_the_same_in_every_process() -> None:
    assert hash_of(b"user-1") == HASH_OF_USER_1
    assert points_of("10.0.0.1:80", 3) == points_of("10.0.0.1:80", 128)[:3]


@given(names)
@settings(max_examples=15)
def test_when_one_goes_only_its_own_keys_move(numbers: list[int]) -> None:
    endpoints = [Busy(str(number)) for number in numbers]

    before, after = homes(ring(endpoints)), homes(ring(endpoints[1:]))

    gone = endpoints[0].name
    assert all(old == new for old, new in zip(before, after, strict=True) if old != gone)
    assert gone not in after


def test_keys_spread_by_weight() -> None:
    counts = Counter(homes(ring([Busy("a"), Busy("b"), Busy("c")], [1, 1, 2])))

    assert counts["a"] == pytest.approx(500, rel=0.3)
    assert counts["b"] == pytest.approx(500, rel=0.3)
    assert counts["c"] == pytest.approx(1000, rel=0.3)


@pytest.mark.parametrize(
    ("share", "in_flight", "bound"),
    [
        pytest.param(1, 0, FREE_LOAD, id="a-few-calls-are-no-load"),
        pytest.param(1, 99, 32, id="a-quarter-above-the-average-of-25"),
        pytest.param(2, 99, 63, id="twice-for-twice-the-share"),
    ],
)
def test_a_bound_is_a_little_more_than_the_fair_part(share: int, in_flight: int, bound: int) -> None:
    assert bound_of(share, 4, in_flight, 1.25) == bound


@given(st.integers(2, 12), st.integers(0, 400), st.sampled_from([1.1, 1.25, 2.0]))
@settings(max_examples=40)
def test_one_key_alone_can_overload_nobody(count: int, calls: int, max_load: float) -> None:
    """All calls have the same key, and none of them ends."""
    endpoints = [Busy(str(number)) for number in range(count)]
    on = ring(endpoints)

    for number in range(calls):
        pick_by_key(on, KEYS[0], number, max_load).in_flight += 1

    assert max(one.in_flight for one in endpoints) <= bound_of(1, count, calls, max_load)


def test_where_everybody_is_full_the_key_stays_at_home() -> None:
    """It happens where an upstream's count does not have all that its endpoints have."""
    full = [Busy("a", in_flight=FREE_LOAD), Busy("b", in_flight=FREE_LOAD)]

    assert homes(ring(full)) == homes(ring([Busy("a"), Busy("b")]))


def test_a_ring_stays_small_however_many_endpoints_there_are() -> None:
    assert points_per_share(1) == POINTS
    assert points_per_share(1000) * 1000 <= MAX_POINTS
    assert points_per_share(10**9) == 1


def test_nobody_on_the_ring_is_an_error() -> None:
    with pytest.raises(ValueError, match="nobody"):
        pick_by_key(ring([]), KEYS[0], 0, 1.25)
