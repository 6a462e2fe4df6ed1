"""One endpoint that fails is not a service that fails."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.common_failures import Tallies

WINDOW_US = 10_000_000
Call = tuple[str, int, bool]


def counted(*calls: Call) -> Tallies:
    tallies = Tallies(WINDOW_US)
    for endpoint, at_us, failed in calls:
        tallies.count(endpoint, at_us, failed=failed)
    return tallies


def test_the_endpoint_with_the_most_failures_is_left_out() -> None:
    tallies = counted(("a", 0, True), ("a", 1, True), ("b", 2, True), ("b", 3, False), ("c", 4, False))

    assert tallies.without_the_worst(5) == (3, 1)


def test_one_endpoint_alone_says_nothing_about_the_whole() -> None:
    assert counted(("a", 0, True), ("a", 1, True)).without_the_worst(2) == (0, 0)


def test_nothing_counted_is_nothing() -> None:
    assert counted().without_the_worst(0) == (0, 0)


def test_what_left_the_window_is_forgotten() -> None:
    tallies = counted(("a", 0, True), ("b", 0, True), ("b", WINDOW_US // 2, True))

    assert tallies.without_the_worst(WINDOW_US // 2) == (1, 1)
    assert tallies.without_the_worst(WINDOW_US) == (0, 0)
    assert tallies.without_the_worst(100 * WINDOW_US) == (0, 0)


def test_a_new_state_begins_with_nothing() -> None:
    tallies = counted(("a", 0, True), ("b", 0, True))

    tallies.forget()

    assert tallies.without_the_worst(0) == (0, 0)


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 3_000_000), st.booleans()),
        max_size=60,
    )
)
def test_the_sum_is_that_of_the_calls_in_the_window_without_one_endpoint(steps: list[Call]) -> None:
    now_us = 0
    calls: list[Call] = []
    for endpoint, gap_us, failed in steps:
        now_us += gap_us
        calls.append((endpoint, now_us, failed))
    part_us = WINDOW_US // 10
    alive = [call for call in calls if call[1] // part_us > now_us // part_us - 10]
    most = max((sum(f for e, _, f in alive if e == name) for name in "abc"), default=0)

    total, failures = counted(*calls).without_the_worst(now_us)

    assert failures == sum(failed for _, _, failed in alive) - most
    assert total in {sum(e != name for e, _, _ in alive) for name in "abc"}
