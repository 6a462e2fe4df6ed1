"""Places that are held at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.concurrency import Places, is_over, judge, release, spend, used_of
from silence_gateway.core.limits import Algorithm, Decision, LimitRule

SECOND = 1_000_000
START_US = 1_764_000_000 * SECOND
TWO = LimitRule(name="c", algorithm=Algorithm.CONCURRENCY, max=2, ttl_us=30 * SECOND)


def held_by(*holders: str, at_us: int = START_US) -> Places:
    places = Places()
    for holder in holders:
        places = spend(TWO, places, at_us, holder)
    return places


def test_places_are_given_until_there_are_none() -> None:
    places = held_by("a")

    assert judge(TWO, places, START_US, 1, "b")[:4] == (True, 2, 0, 0)
    places = spend(TWO, places, START_US, "b")
    assert judge(TWO, places, START_US, 1, "c") == Decision(False, 2, 0, SECOND, 0, START_US)
    assert judge(TWO, places, START_US, 0)[:3] == (True, 2, 0)


def test_a_holder_keeps_the_place_it_has() -> None:
    places = held_by("a", "b")

    assert judge(TWO, places, START_US, 1, "a").allowed
    assert used_of(TWO, spend(TWO, places, START_US, "a"), START_US) == (2, 0)


def test_a_released_place_is_free_at_once() -> None:
    places, freed = release(TWO, held_by("a", "b"), START_US, "a")

    assert freed == 1
    assert judge(TWO, places, START_US, 1, "c").allowed
    assert release(TWO, places, START_US, "a")[1] == 0


def test_a_place_that_nobody_renews_is_free_after_its_time() -> None:
    places = held_by("a", "b")

    assert not judge(TWO, places, START_US + 30 * SECOND - 1, 1, "c").allowed
    assert judge(TWO, places, START_US + 30 * SECOND, 1, "c").allowed
    assert is_over(TWO, places, START_US + 30 * SECOND)


def test_a_renewed_place_lasts_from_then() -> None:
    places = spend(TWO, held_by("a", "b"), START_US + 20 * SECOND, "a")

    assert used_of(TWO, places, START_US + 40 * SECOND) == (1, 0)


def test_the_wait_is_short_when_the_next_place_runs_out_soon() -> None:
    places = held_by("a", "b")

    decision = judge(TWO, places, START_US + 30 * SECOND - 200_000, 1, "c")

    assert decision.retry_after_us == 200_000


@pytest.mark.parametrize("back_us", [1, 3600 * SECOND])
def test_a_clock_that_steps_back_holds_no_place_for_ever(back_us: int) -> None:
    """However far it steps, a place lasts one time to live from when somebody looks."""
    places = held_by("a", "b")
    now_us = START_US - back_us

    assert not judge(TWO, places, now_us, 1, "c").allowed
    assert judge(TWO, places, now_us + 30 * SECOND, 1, "c").allowed


@given(st.lists(st.tuples(st.integers(0, 12 * SECOND), st.sampled_from("abcde"), st.booleans()), max_size=80))
def test_never_more_hold_a_place_than_there_are(trace: list[tuple[int, str, bool]]) -> None:
    places, now_us = Places(), START_US
    since = dict[str, int]()
    for gap_us, holder, leaves in trace:
        now_us += gap_us
        if leaves:
            places, _ = release(TWO, places, now_us, holder)
            since.pop(holder, None)
        elif judge(TWO, places, now_us, 1, holder).allowed:
            places = spend(TWO, places, now_us, holder)
            since[holder] = now_us
        alive = [one for one, at_us in since.items() if now_us - at_us < TWO.ttl_us]
        assert len(alive) <= 2
        assert used_of(TWO, places, now_us)[0] == len(alive)
