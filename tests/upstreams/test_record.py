"""An endpoint's record: the last minute is told from the rest whatever came when, and nothing in it grows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.breaker import State
from silence_gateway.core.durations import BUCKETS
from silence_gateway.core.status import FAULTS, Code
from silence_gateway.upstreams.record import (
    LOOK_S,
    MAX_ERROR_TEXT,
    MAX_MOVES,
    MAX_REASON_TEXT,
    RECENT_S,
    BreakerHistory,
    BreakerMove,
    EndpointRecord,
)

TICKS = st.lists(
    st.lists(st.tuples(st.sampled_from(Code), st.integers(0, BUCKETS - 1)), max_size=3),
    min_size=1,
    max_size=200,
)
"""For each second the calls that end in it: their code, and the bucket of how long they took."""


@given(TICKS)
def test_the_last_minute_is_what_came_in_it(ticks: list[list[tuple[Code, int]]]) -> None:
    record = EndpointRecord(0, 0.0)
    codes, durations = [0] * 17, [0] * BUCKETS
    for second, calls in enumerate(ticks, start=1):
        for code, bucket in calls:
            codes[code] += 1
            durations[bucket] += 1
        if second % LOOK_S == 0:
            record.look(codes, durations, float(second))

    told = record.recent(codes, durations, float(len(ticks)))

    assert min(RECENT_S, len(ticks)) <= told.span_s < RECENT_S + LOOK_S
    within = [call for calls in ticks[len(ticks) - int(told.span_s) :] for call in calls]
    assert told.calls == sum(told.durations) == len(within)
    assert told.faults == sum(code in FAULTS for code, _ in within)


def test_what_was_counted_before_a_new_beginning_is_not_of_late() -> None:
    record = EndpointRecord(0, 0.0)
    codes, durations = [5] * 17, [7] * BUCKETS
    record.look(codes, durations, 15.0)
    record.begin_anew(codes, durations, 20.0)

    told = record.recent(codes, durations, 25.0)

    assert (told.span_s, told.calls, told.faults, sum(told.durations)) == (5.0, 0, 0, 0)


def test_nothing_grows() -> None:
    record, history = EndpointRecord(0, 0.0), BreakerHistory()
    for number in range(100):
        record.look([number] * 17, [number] * BUCKETS, number * 15.0)
        record.went_wrong("x" * 1000, number, "INTERNAL")
        record.ejected(number, "y" * 1000)
        history.add(
            BreakerMove(at_us=number, old="closed", new="open", reason="tired", by="i1", instance="i1")
        )

    assert len(record.looks) == RECENT_S // LOOK_S + 1
    assert record.mishap is not None
    assert (len(record.mishap.text), len(record.ejected_because)) == (MAX_ERROR_TEXT, MAX_REASON_TEXT)
    assert [move.at_us for move in history.moves] == list(range(100 - MAX_MOVES, 100))
    assert history.moved_to == {state.value: 100 if state is State.OPEN else 0 for state in State}


def test_since_when_somebody_checks_counts_from_when_that_was_news() -> None:
    record = EndpointRecord(0, 0.0)

    for instance, since_us in (("i1", 5), ("i1", 9), ("i2", 11), ("i2", 12)):
        record.checked_by(instance, since_us)

    assert (record.prober, record.prober_since_us) == ("i2", 11)
