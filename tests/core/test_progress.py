"""Readers: a slow one is waited for, one that only pretends to read is not."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.core.progress import LEAST_BYTES, MOST_BYTES, Progress

PATIENCE_S = 30.0


def test_nothing_is_expected_while_nothing_waits() -> None:
    progress = Progress()

    assert not any(progress.is_stuck(now_s, 0, 0, PATIENCE_S) for now_s in (0.0, 100.0, 1_000.0))


def test_a_reader_that_takes_nothing_is_stuck_after_the_patience() -> None:
    progress = Progress()

    assert not progress.is_stuck(0.0, 0, 500, PATIENCE_S)
    assert not progress.is_stuck(29.9, 0, 500, PATIENCE_S)
    assert progress.is_stuck(30.0, 0, 500, PATIENCE_S)


def test_a_byte_now_and_then_is_not_reading() -> None:
    progress = Progress()
    stuck = [progress.is_stuck(float(second), second, 1_000_000, PATIENCE_S) for second in range(31)]

    assert stuck == [False] * 30 + [True]


def test_patience_begins_anew_with_every_share_that_is_taken() -> None:
    progress = Progress()
    share = 1_000_000 // 8

    assert not any(progress.is_stuck(29.0 * step, share * step, 1_000_000, PATIENCE_S) for step in range(20))


def test_the_end_of_an_answer_is_waited_for_like_its_middle() -> None:
    """What waits may be less than the least share."""
    progress = Progress()
    progress.is_stuck(0.0, 0, 10, PATIENCE_S)

    assert not progress.is_stuck(29.0, 10, 0, PATIENCE_S)
    assert not progress.is_stuck(31.0, 10, 10, PATIENCE_S)


@settings(deadline=None)
@given(
    answer=st.integers(1, 5_000_000),
    readings=st.lists(st.tuples(st.floats(0.1, 40), st.integers(0, 300_000)), max_size=300),
)
def test_no_reader_holds_an_answer_for_ever(answer: int, readings: list[tuple[float, int]]) -> None:
    """Whatever it does, it has the whole answer or is stuck after a time that the size gives."""
    progress = Progress()
    now_s = taken = 0.0
    shares = 8 * 30 + answer / MOST_BYTES + answer / LEAST_BYTES
    for waited_s, size in readings:
        now_s += waited_s
        taken = min(answer, taken + size)
        if taken == answer or progress.is_stuck(now_s, int(taken), answer - int(taken), PATIENCE_S):
            return
        assert now_s <= shares * (PATIENCE_S + 40)
