"""The later word of an operator counts, in whatever order an instance hears what was said."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.operator_words import (
    DrainFact,
    MarkFact,
    Matter,
    read_drain,
    read_mark,
    written_drain,
    written_mark,
)

names = st.text(max_size=8)
numbers = st.integers(0, 2**53)


def word(said_us: int, by: str = "a") -> DrainFact:
    return DrainFact(said_us=said_us, by=by)


def mark(said_us: int, by: str = "a") -> MarkFact:
    return MarkFact(said_us=said_us, by=by)


@given(
    said=st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from("abc"), st.booleans()), unique_by=lambda s: s[:2]
    ),
    seed=st.integers(),
)
def test_the_later_word_counts_whatever_is_heard_when_and_how_often(
    said: list[tuple[int, str, bool]], seed: int
) -> None:
    facts: list[DrainFact | MarkFact] = [MarkFact(said_us=at, by=by) for at, by, _ in said]
    facts += [DrainFact(said_us=at, by=by) for at, by, drained in said if drained]
    heard = facts * 2
    Random(seed).shuffle(heard)
    matter: Matter[DrainFact] = Matter()
    for fact in heard:
        if isinstance(fact, MarkFact):
            matter.hear_mark(fact)
        else:
            matter.hear(fact)

    found = matter.in_force

    last = max(said, default=None)
    assert (found and (found.said_us, found.by)) == (last[:2] if last is not None and last[2] else None)


def test_a_word_that_is_over_leaves_nothing_older_in_force() -> None:
    matter: Matter[DrainFact] = Matter()
    matter.hear(word(1, "cut off"))
    for fact in (word(5), word(5, "b")):
        matter.hear(fact)
    matter.hear_mark(mark(5, "b"))

    del matter.words["b"]

    assert matter.in_force is None


@pytest.mark.parametrize(
    ("heard", "now_us", "expected"),
    [
        pytest.param([], 7, 7, id="nothing-was-said"),
        pytest.param([mark(3)], 7, 7, id="long-ago"),
        pytest.param([mark(30)], 7, 31, id="by-a-clock-that-is-ahead"),
    ],
)
def test_what_is_said_is_later_than_what_was_heard(heard: list[MarkFact], now_us: int, expected: int) -> None:
    matter: Matter[DrainFact] = Matter()
    for fact in heard:
        matter.hear_mark(fact)

    assert matter.next_us(now_us) == expected


@given(st.builds(DrainFact, said_us=numbers, by=names, who=names, reason=names))
def test_a_drain_survives_the_trip(fact: DrainFact) -> None:
    assert read_drain(written_drain(fact)) == fact


@given(st.builds(MarkFact, said_us=numbers, by=names, who=names, reason=names))
def test_a_mark_survives_the_trip(fact: MarkFact) -> None:
    assert read_mark(written_mark(fact)) == fact


@given(st.binary(max_size=80))
def test_anything_else_is_refused(value: bytes) -> None:
    for read in (read_drain, read_mark):
        with pytest.raises(ValueError, match=r"."):
            read(value)
