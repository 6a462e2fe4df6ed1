"""The limit finds what an upstream can take, and follows when that changes."""

from __future__ import annotations

import heapq
from collections import deque
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.concurrency_limit import (
    FEW_SAMPLES,
    MIN_SAMPLES,
    PRESSED,
    WINDOW_US,
    ConcurrencyLimit,
    ConcurrencyRules,
    Estimate,
    Phase,
    after_window,
)

RULES = ConcurrencyRules(initial=20, minimum=4, maximum=200)
KNOWN = Estimate(limit=100.0, usual_us=10_000.0, windows=600)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"minimum": 0}, id="nothing"),
        pytest.param({"minimum": 30}, id="minimum-above-initial"),
        pytest.param({"maximum": 10}, id="maximum-below-initial"),
        pytest.param({"tolerance": 0.9}, id="tolerance"),
        pytest.param({"tolerance": float("nan")}, id="no-number"),
    ],
)
def test_rules_that_do_not_go_together_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        ConcurrencyRules(**wrong)  # type: ignore[arg-type] # the numbers are wrong in other ways


@pytest.mark.parametrize(
    ("mean_us", "in_flight", "dropped", "limit"),
    [
        pytest.param(10_000, 100, False, 102.0, id="as-usual-grows-by-a-fifth-of-the-root"),
        pytest.param(10_000, 50, False, 102.0, id="half-used-is-used"),
        pytest.param(10_000, 49, False, 100.0, id="less-than-half-used-says-nothing"),
        pytest.param(14_900, 100, False, 102.0, id="within-tolerance"),
        pytest.param(60_000, 100, False, 92.0, id="six-times-slower-shrinks-by-half-of-it"),
        pytest.param(10_000, 100, True, 90.0, id="turned-away"),
        pytest.param(0, 100, True, 90.0, id="only-turned-away"),
        pytest.param(0, 100, False, 100.0, id="nothing-answered"),
    ],
)
def test_a_window_moves_the_limit(mean_us: float, in_flight: int, dropped: bool, limit: float) -> None:
    after = after_window(RULES, KNOWN, mean_us, in_flight, dropped=dropped)

    assert after.limit == pytest.approx(limit, abs=0.1)


@given(
    st.lists(st.tuples(st.floats(0, 1e7), st.integers(0, 500), st.booleans()), max_size=100),
    st.integers(1, 20),
    st.integers(20, 500),
)
def test_the_limit_stays_within_its_bounds(
    windows: list[tuple[float, int, bool]], minimum: int, maximum: int
) -> None:
    rules = ConcurrencyRules(initial=20, minimum=minimum, maximum=maximum)
    estimate = Estimate(20.0)
    for mean_us, in_flight, dropped in windows:
        estimate = after_window(rules, estimate, mean_us, in_flight, dropped=dropped)

        assert minimum <= estimate.limit <= maximum


def test_a_slow_past_is_forgotten_fast() -> None:
    estimate = Estimate(limit=20.0, usual_us=1_000_000.0, windows=600)
    for _ in range(100):
        estimate = after_window(RULES, estimate, 10_000, 20, dropped=False)

    assert estimate.usual_us < 25_000


@pytest.mark.parametrize(
    ("limit", "in_flight", "learns"),
    [
        pytest.param(100.0, 100, False, id="used-up-the-line-is-our-own"),
        pytest.param(100.0, 99, True, id="not-used-up"),
    ],
)
def test_what_is_usual_is_learned_where_no_line_of_ours_is_in_the_way(
    limit: float, in_flight: int, learns: bool
) -> None:
    before = Estimate(limit=limit, usual_us=10_000.0, windows=600)

    slower = after_window(RULES, before, 12_000, in_flight, dropped=False)
    faster = after_window(RULES, before, 8_000, in_flight, dropped=False)

    assert (slower.usual_us > before.usual_us) is learns
    assert faster.usual_us < before.usual_us


def test_an_upstream_that_became_three_times_slower_gets_its_limit_back() -> None:
    """It answers as fast with a hundred calls as with four, and callers take all that they may have."""
    limit = ConcurrencyLimit(RULES, 0)
    lowest = highest = now_us = 0
    for window in range(1500):
        took_us = 10_000 if window < 200 else 30_000
        now_us += WINDOW_US
        for _ in range(MIN_SAMPLES):
            limit.on_end(now_us, took_us, limit.limit, dropped=False)
        if window == 199:
            highest = limit.limit
        if window == 290:
            lowest = limit.limit

    assert lowest < 20 < highest
    assert limit.limit == highest == RULES.maximum


def pressed_limit(minimum: int = 4) -> ConcurrencyLimit:
    """Return a limit that has been used up for so long that it is about to be measured what is usual."""
    limit = ConcurrencyLimit(ConcurrencyRules(minimum=minimum, maximum=200), 0)
    limit.estimate = Estimate(limit=100.0, usual_us=10_000.0, windows=600, pressed=PRESSED - 1)
    limit.limit = 100
    for _ in range(MIN_SAMPLES):
        limit.on_end(WINDOW_US, 50_000, 100, dropped=False)
    assert (limit.estimate.phase, limit.limit) == (Phase.DRAINING, minimum)
    return limit


def test_what_is_usual_is_measured_once_calls_from_before_have_ended() -> None:
    limit, now_us = pressed_limit(), WINDOW_US
    for in_flight in range(100, 4, -1):
        assert not limit.on_end(now_us + 50_000, 150_000, in_flight, dropped=False)

    now_us += 60_000
    for in_flight in (4, 3, 2, 1):
        assert not limit.on_end(now_us, 160_000, in_flight, dropped=False)
    for _ in range(MIN_SAMPLES - 1):
        assert not limit.on_end(now_us + 30_000, 30_000, 4, dropped=False)
    assert limit.on_end(now_us + 30_000, 30_000, 4, dropped=False)

    assert (limit.limit, limit.estimate.usual_us) == (100, 30_000)
    assert limit.estimate.phase is Phase.FOLLOWING


@pytest.mark.parametrize(("minimum", "rounds"), [(1, 4), (2, 2), (4, 1), (20, 1)])
def test_measuring_slow_calls_takes_no_more_of_them_than_it_must(minimum: int, rounds: int) -> None:
    limit, now_us = pressed_limit(minimum), WINDOW_US
    limit.on_end(now_us, 2_000_000, minimum, dropped=False)
    ends = 0
    while limit.limit == minimum and ends < 100:
        if ends % minimum == 0:
            now_us += 2_000_000
        limit.on_end(now_us, 2_000_000, minimum, dropped=False)
        ends += 1

    assert now_us - WINDOW_US == rounds * 2_000_000
    assert limit.estimate.usual_us == 2_000_000


def test_if_nobody_answers_while_it_is_measured_what_was_usual_stays() -> None:
    limit = pressed_limit()
    limit.on_end(WINDOW_US, 1, 4, dropped=False)
    for _ in range(FEW_SAMPLES):
        limit.on_end(3 * WINDOW_US, WINDOW_US, 4, dropped=True)

    assert (limit.limit, limit.estimate.usual_us) == (100, 10_000)


def test_a_window_needs_both_time_and_calls() -> None:
    limit = ConcurrencyLimit(RULES, 0)

    for _ in range(MIN_SAMPLES + 5):
        assert not limit.on_end(WINDOW_US - 1, 1000, 20, dropped=False)
    assert limit.on_end(WINDOW_US, 1000, 20, dropped=False)
    for _ in range(MIN_SAMPLES - 1):
        assert not limit.on_end(3 * WINDOW_US, 1000, 20, dropped=False)
    assert limit.on_end(3 * WINDOW_US, 1000, 20, dropped=False)
    assert limit.limit > RULES.initial


def test_calls_that_were_turned_away_do_not_count_as_quick() -> None:
    limit = ConcurrencyLimit(RULES, 0)

    for _ in range(MIN_SAMPLES):
        limit.on_end(WINDOW_US, 0, 20, dropped=True)

    assert limit.limit == 18
    assert limit.estimate.usual_us == 0


@pytest.mark.parametrize(
    ("usual_us", "took_us", "silent", "limit"),
    [
        pytest.param(10_000, 60_000, False, 92, id="left-after-six-times-as-long"),
        pytest.param(10_000, 10_000, False, 100, id="no-longer-than-others-take-says-nothing"),
        pytest.param(0, 60_000, False, 90, id="nobody-answered-so-far"),
        pytest.param(10_000, 10_000, True, 100, id="a-caller-in-a-hurry"),
        pytest.param(10_000, 11_000, True, 90, id="no-answer-for-longer-than-that"),
    ],
)
def test_a_call_that_is_not_waited_for_says_how_long_it_is_at_least(
    usual_us: float, took_us: int, limit: int, *, silent: bool
) -> None:
    adaptive = ConcurrencyLimit(RULES, 0)
    adaptive.estimate = Estimate(limit=100.0, usual_us=usual_us, windows=600 if usual_us else 0)
    adaptive.limit = 100

    for _ in range(MIN_SAMPLES):
        adaptive.on_left(WINDOW_US, took_us, 100, silent=silent)

    assert adaptive.limit == limit


@pytest.mark.parametrize("silent", [False, True], ids=["leaves", "is-in-a-hurry"])
def test_a_caller_who_does_not_wait_brings_no_limit_down_from_the_start_on(*, silent: bool) -> None:
    limit = ConcurrencyLimit(RULES, 0)
    before = limit.limit

    for now_us in range(0, 100 * WINDOW_US, WINDOW_US // 20):
        if now_us % WINDOW_US:
            limit.on_end(now_us, 10_000, 2, dropped=False)
        else:
            limit.on_left(now_us, 1_000, 2, silent=silent)

    assert limit.estimate.usual_us == 10_000
    assert limit.limit >= before * 0.9 - 1  # the first one may have met nobody at home


def test_while_it_is_measured_what_is_usual_only_answers_count() -> None:
    limit = pressed_limit()
    limit.on_end(WINDOW_US, 1, 4, dropped=False)

    for number in range(MIN_SAMPLES):
        limit.on_end(WINDOW_US + 20_000, 20_000, 4, dropped=number % 2 == 0)

    assert limit.estimate.phase is Phase.FOLLOWING
    assert limit.estimate.usual_us == 20_000


class Simulated:
    """What came of an overload of one server of ten places, 10 ms a call, whose callers leave after 0.5 s."""

    def __init__(self, *, load: float, limited: bool, seconds: int = 20) -> None:
        self.limits: list[int] = []
        self.took_us: list[int] = []
        self.in_time = self.refused = 0
        rng, limit = Random(3), ConcurrencyLimit(ConcurrencyRules(maximum=500), 0)
        events: list[tuple[int, int, str, int]] = [(0, 0, "comes", 0)]
        line: deque[int] = deque()
        count = in_flight = working = 0
        while events:
            now_us, _, what, since_us = heapq.heappop(events)
            count += 1
            if what == "comes":
                if now_us < seconds * 1_000_000:
                    heapq.heappush(events, (now_us + int(rng.expovariate(load * 1e-3)), count, "comes", 0))
                if limited and in_flight >= limit.limit:
                    self.refused += 1
                    continue
                in_flight += 1
                line.append(now_us)
            else:
                took_us = now_us - since_us
                limit.on_end(now_us, min(took_us, 500_000), in_flight, dropped=took_us > 500_000)
                working -= 1
                in_flight -= 1
                if now_us > seconds * 500_000:
                    self.took_us.append(took_us)
                    self.in_time += took_us <= 500_000
                self.limits.append(limit.limit)
            while line and working < 10:
                working += 1
                count += 1
                heapq.heappush(events, (now_us + int(rng.expovariate(1e-4)), count, "ends", line.popleft()))


def test_under_overload_a_limit_keeps_answers_in_time_and_the_server_at_work() -> None:
    free, limited = Simulated(load=1.5, limited=False), Simulated(load=1.5, limited=True)

    # The second half of the time: without a limit nobody is answered in time any more.
    assert free.in_time < 0.1 * len(free.took_us)
    assert limited.in_time == len(limited.took_us)
    # Ten places of 10 ms answer 1,000 calls a second; ten seconds were looked at.
    assert limited.in_time > 9_000
    assert sorted(limited.took_us)[int(0.99 * len(limited.took_us))] < 200_000


def test_without_overload_the_limit_refuses_next_to_nothing() -> None:
    easy = Simulated(load=0.6, limited=True)

    assert easy.refused < 0.001 * len(easy.limits)
