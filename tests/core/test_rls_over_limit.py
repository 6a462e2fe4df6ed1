"""Counters that are known to be over their limit."""

from __future__ import annotations

from silence_gateway.core.rls_over_limit import OverLimitCache

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
