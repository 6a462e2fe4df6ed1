"""Counters that are known to be over their limit."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.rls_over_limit import CounterId, OverLimitCache, digest_of

ONE = ("d", 60_000_000, "k=1")
TWO = ("d", 60_000_000, "k=2")
THREE = ("d", 60_000_000, "k=3")


def test_what_was_over_stays_over_until_its_window_ends() -> None:
    cache = OverLimitCache(10)
    cache.remember(ONE, 11, 5_000, cache.generation)

    assert cache.find(ONE, 10, 1_000) == 4_000
    assert cache.find(ONE, 10, 4_999) == 1
    assert cache.find(ONE, 10, 5_000) == 0
    assert cache.counts == {}
    assert cache.find(TWO, 10, 1_000) == 0


def test_a_limit_that_is_higher_meanwhile_is_not_over() -> None:
    cache = OverLimitCache(10)
    cache.remember(ONE, 11, 5_000, cache.generation)

    assert cache.find(ONE, 11, 0) == 0
    assert cache.find(ONE, 10, 0) == 5_000


def test_what_is_forgotten_is_asked_again() -> None:
    cache = OverLimitCache(10)
    cache.remember(ONE, 11, 5_000, cache.generation)
    cache.forget(ONE)

    assert cache.find(ONE, 10, 0) == 0


def test_an_answer_from_before_hits_were_given_back_is_not_remembered() -> None:
    cache = OverLimitCache(10)
    before = cache.generation
    cache.forget(ONE)
    cache.remember(ONE, 11, 5_000, before)

    assert cache.find(ONE, 10, 0) == 0


def test_the_oldest_makes_room() -> None:
    cache = OverLimitCache(2)
    for counter in (ONE, TWO, ONE, THREE):
        cache.remember(counter, 11, 5_000, cache.generation)

    assert set(cache.counts) == {ONE, THREE}


def test_with_no_room_nothing_is_remembered() -> None:
    cache = OverLimitCache(0)
    cache.remember(ONE, 11, 5_000, cache.generation)

    assert cache.counts == {}


def test_another_instance_names_a_counter_by_its_digest() -> None:
    cache = OverLimitCache(10)
    for counter in (ONE, TWO):
        cache.remember(counter, 11, 5_000, cache.generation)
    before = cache.generation
    cache.forget_digest(digest_of(ONE))
    cache.forget_digest(digest_of(THREE))

    assert set(cache.counts) == {TWO}
    cache.remember(ONE, 11, 5_000, before)
    assert cache.find(ONE, 10, 0) == 0


def test_everything_is_forgotten_at_once() -> None:
    cache = OverLimitCache(10)
    before = cache.generation
    cache.remember(ONE, 11, 5_000, before)
    cache.clear()
    cache.remember(TWO, 11, 5_000, before)

    assert cache.find(ONE, 10, 0) == cache.find(TWO, 10, 0) == 0
    assert cache.by_digest == {}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["find", "remember", "forget", "forget_digest"]),
            st.sampled_from([ONE, TWO, THREE]),
            st.integers(0, 9),
        )
    )
)
def test_digests_are_those_of_what_is_remembered(steps: list[tuple[str, CounterId, int]]) -> None:
    cache = OverLimitCache(2)
    for step, counter, number in steps:
        if step == "find":
            cache.find(counter, 5, number)
        elif step == "remember":
            cache.remember(counter, 9, number, cache.generation)
        elif step == "forget":
            cache.forget(counter)
        else:
            cache.forget_digest(digest_of(counter))

    assert cache.by_digest == {digest_of(counter): counter for counter in cache.counts}
    assert len(cache.counts) <= 2


def test_counters_whose_parts_run_together_have_other_digests() -> None:
    assert digest_of(("a", 1, "b")) != digest_of(("a\x001", 1, "b"))
    assert digest_of(("a", 1, "1\0b")) != digest_of(("a\x001", 1, "b"))
    assert len(digest_of(("\udc80", 1, "\ud800"))) == 16
