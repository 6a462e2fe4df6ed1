"""A burst may wait; a line that does not go away may not, and the unimportant least of all."""

from __future__ import annotations

import heapq
from collections import deque
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.shedding import Importance, LineWatch, SheddingRules

RULES = SheddingRules(target_us=5_000, interval_us=100_000)
LOW, NORMAL, HIGH = Importance


@pytest.mark.parametrize(
    ("target_us", "interval_us"),
    [
        pytest.param(0, 10, id="no-time"),
        pytest.param(10, 10, id="equal"),
        pytest.param(20, 10, id="upside-down"),
    ],
)
def test_the_interval_is_the_longer_one(target_us: int, interval_us: int) -> None:
    with pytest.raises(ValueError, match="target_us < interval_us"):
        SheddingRules(target_us=target_us, interval_us=interval_us)


def test_a_call_may_wait_an_interval_while_the_line_was_empty_lately() -> None:
    watch = LineWatch(RULES, 0)

    assert watch.patience_us(NORMAL, 100_000) == 100_000
    assert watch.patience_us(NORMAL, 100_001) == 5_000


def test_a_line_that_empties_gives_everybody_patience_again() -> None:
    watch = LineWatch(RULES, 0)
    watch.saw([0, 3, 0], 150_000)
    assert watch.patience_us(NORMAL, 150_000) == 5_000

    watch.saw([0, 0, 0], 160_000)

    assert watch.patience_us(NORMAL, 160_000) == 100_000


def test_a_line_of_the_important_stands_before_the_unimportant_but_not_the_other_way_round() -> None:
    watch = LineWatch(RULES, 0)

    watch.saw([0, 1, 0], 200_000)

    assert [watch.standing(one, 200_000) for one in Importance] == [True, True, False]


@given(
    st.lists(
        st.tuples(st.integers(0, 50_000), st.lists(st.integers(0, 2), min_size=3, max_size=3)), max_size=30
    )
)
def test_whoever_matters_more_never_has_less_patience(steps: list[tuple[int, list[int]]]) -> None:
    watch, now_us = LineWatch(RULES, 0), 0
    for gap_us, waiting in steps:
        now_us += gap_us
        watch.saw(waiting, now_us)

        patience = [watch.patience_us(one, now_us) for one in Importance]
        assert patience == sorted(patience)


class Outcome:
    """How calls of each importance fared."""

    def __init__(self) -> None:
        self.served = [0, 0, 0]
        self.shed = [0, 0, 0]
        self.waited_us: list[list[int]] = [[], [], []]


def overloaded(*, load: float, shedding: bool, seconds: int = 4) -> Outcome:
    """Let calls of all importances stand in line for ten places, 10 ms each; callers leave after a second."""
    rng, outcome, watch = Random(7), Outcome(), LineWatch(RULES, 0)
    lines: list[deque[tuple[int, int]]] = [deque(), deque(), deque()]
    events: list[tuple[int, int, str]] = [(0, 0, "comes")]
    busy, count = 0, 0
    while events:
        now_us, _, what = heapq.heappop(events)
        if what == "comes":
            importance = rng.choice(tuple(Importance))
            until_us = now_us + 1_000_000
            if shedding:
                watch.saw([len(line) for line in lines], now_us)
                until_us = now_us + watch.patience_us(importance, now_us)
            lines[importance].append((now_us, until_us))
            count += 1
            if now_us < seconds * 1_000_000:
                heapq.heappush(events, (now_us + int(rng.expovariate(load * 1e-3)), count, "comes"))
        else:
            busy -= 1
        for importance in reversed(Importance):
            line = lines[importance]
            while line and busy < 10:
                came_us, until_us = line.popleft()
                if now_us > until_us:
                    outcome.shed[importance] += 1
                    continue
                outcome.served[importance] += 1
                outcome.waited_us[importance].append(now_us - came_us)
                busy += 1
                count += 1
                heapq.heappush(events, (now_us + int(rng.expovariate(1e-4)), count, "ends"))
        watch.saw([len(line) for line in lines], now_us)
    return outcome


def test_overloaded_what_is_served_is_served_soon_and_the_unimportant_pay() -> None:
    outcome = overloaded(load=1.3, shedding=True)

    offered = [served + shed for served, shed in zip(outcome.served, outcome.shed, strict=True)]
    assert outcome.served[HIGH] == offered[HIGH]
    assert outcome.served[NORMAL] > 0.7 * offered[NORMAL]
    assert outcome.served[LOW] < 0.4 * offered[LOW]
    assert max(max(waited) for waited in outcome.waited_us) <= 100_000
    normal_us = sorted(outcome.waited_us[NORMAL])
    assert normal_us[int(0.9 * len(normal_us))] <= 50_000


def test_when_even_the_important_are_too_many_they_have_all_places_and_no_long_wait() -> None:
    """Four times too much, a third of it important; ten places of 10 ms serve 4,000 calls in the time."""
    outcome = overloaded(load=4.0, shedding=True)

    assert sum(outcome.served) > 3_800
    assert outcome.served[HIGH] > 0.95 * sum(outcome.served)
    high_us = sorted(outcome.waited_us[HIGH])
    assert high_us[len(high_us) // 2] <= 20_000
    assert high_us[-1] <= RULES.interval_us


def test_without_shedding_the_unimportant_only_wait_until_they_leave() -> None:
    outcome = overloaded(load=1.5, shedding=False)

    low_us = sorted(outcome.waited_us[LOW])
    assert low_us[len(low_us) // 2] > 500_000


def test_with_enough_room_nothing_is_shed() -> None:
    outcome = overloaded(load=0.7, shedding=True)

    assert outcome.shed == [0, 0, 0]
