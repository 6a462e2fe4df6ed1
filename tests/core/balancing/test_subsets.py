"""Subsets are deterministic, even, and change little."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.balancing.subsets import subset

FLEET = [f"10.0.{number // 250}.{number % 250}:9000" for number in range(500)]
addresses = st.lists(st.integers(0, 99).map(str), unique=True, max_size=30)


@given(addresses, st.text(max_size=5), st.integers(1, 20))
def test_a_subset_depends_on_the_set_and_the_instance_alone(
    some: list[str], instance: str, size: int
) -> None:
    chosen = subset(some, instance, size)

    assert chosen == subset(reversed(some), instance, size)
    assert len(chosen) == min(size, len(some))
    assert chosen <= set(some)


@given(addresses, st.text(max_size=5), st.integers(1, 20))
def test_one_that_comes_or_goes_changes_one_place_at_most(some: list[str], instance: str, size: int) -> None:
    before, after = subset(some, instance, size), subset([*some, "new"], instance, size)

    assert len(after - before) <= 1
    assert after - before <= {"new"}


def test_connections_are_bounded_and_endpoints_are_used_evenly() -> None:
    """100 instances, 500 endpoints, 25 each: 2,500 connections instead of 50,000."""
    used = Counter(address for number in range(100) for address in subset(FLEET, f"gw-{number}", 25))

    assert sum(used.values()) == 2500
    # Five instances each on average; by chance (a binomial) between none and sixteen is normal for 500.
    assert len(used) >= 490
    assert max(used.values()) <= 16
