"""When a name is looked up again, and what SRV records come to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.dns_refresh import SOONEST_S, ServiceRecord, next_look_s, ranks, shares


@pytest.mark.parametrize(
    ("refresh_s", "ttl_s", "failures", "expected_s"),
    [
        pytest.param(10, None, 0, 10, id="nobody-said-how-long"),
        pytest.param(10, 5, 0, 5, id="the-ttl-is-shorter"),
        pytest.param(10, 300, 0, 10, id="the-ttl-is-longer"),
        pytest.param(10, 0, 0, 1, id="never-more-than-once-a-second"),
        pytest.param(10, None, 1, 1, id="soon-after-a-failure"),
        pytest.param(10, None, 3, 4, id="less-soon-after-three"),
        pytest.param(10, 300, 99, 10, id="never-later-than-usual"),
        pytest.param(3600, 5, 99, 5, id="nor-than-the-ttl-of-what-was-answered"),
    ],
)
def test_the_middle_of_each_wait(
    refresh_s: float, ttl_s: float | None, failures: int, expected_s: float
) -> None:
    assert next_look_s(refresh_s, ttl_s, failures, 0.5) == pytest.approx(expected_s)


@given(
    st.floats(1, 86400),
    st.none() | st.floats(0, 1e9),
    st.integers(0, 10**6),
    st.floats(0, 1, exclude_max=True),
)
def test_a_wait_is_never_a_busy_loop_and_never_much_above_refresh(
    refresh_s: float, ttl_s: float | None, failures: int, draw: float
) -> None:
    wait_s = next_look_s(refresh_s, ttl_s, failures, draw)

    assert 0.9 * SOONEST_S <= wait_s <= 1.1 * refresh_s + 1e-9


records = st.lists(
    st.builds(
        ServiceRecord, st.just("h"), st.integers(1, 65535), st.integers(0, 65535), st.integers(0, 65535)
    ),
    max_size=20,
)


@given(records)
def test_weights_and_priorities_keep_their_order(found: list[ServiceRecord]) -> None:
    weights, rank = shares(found, 100), ranks(found)

    assert all(1 <= weight <= 100 for weight in weights)
    assert sorted(rank.values()) == list(range(len(rank)))
    for one, weight in zip(found, weights, strict=True):
        for other, its in zip(found, weights, strict=True):
            assert not (one.priority == other.priority and one.weight < other.weight) or weight <= its
            assert (one.priority < other.priority) == (rank[one.priority] < rank[other.priority])


def test_small_weights_stay_and_zero_is_hardly_any() -> None:
    found = [ServiceRecord("h", 1, 0, weight) for weight in (0, 5, 100)]

    assert shares(found, 100) == [1, 5, 100]
    assert shares([ServiceRecord("h", 1, 0, weight) for weight in (0, 500, 1000)], 100) == [1, 50, 100]


def test_weights_are_compared_with_those_of_their_priority_only() -> None:
    found = [ServiceRecord("h", 1, rank, weight) for rank, weight in ((0, 60_000), (10, 10), (10, 100))]

    assert shares(found, 100) == [100, 10, 100]
