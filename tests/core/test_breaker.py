"""The breaker: its table, its window, its one probe, and what late results may not do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from silence_gateway.core.breaker import TRANSITIONS, Breaker, BreakerPolicy, Event, State, next_state

SECOND = 1_000_000
POLICY = BreakerPolicy(
    failure_ratio=0.5,
    min_calls=10,
    window_us=10 * SECOND,
    consecutive=5,
    cool_down_us=5 * SECOND,
    patience_us=SECOND,
)


def tripped(now_us: int = 0) -> Breaker:
    breaker = Breaker(POLICY, now_us)
    for _ in range(POLICY.consecutive):
        breaker.on_failure(0, now_us)
    assert breaker.state is State.OPEN
    return breaker


def half_open() -> Breaker:
    breaker = tripped()
    assert breaker.on_cool_down_over(5 * SECOND) is Event.COOL_DOWN_OVER
    return breaker


@given(st.sampled_from(State), st.sampled_from(Event))
def test_an_event_without_a_row_changes_nothing(state: State, event: Event) -> None:
    after = next_state(state, event)

    assert after is state or TRANSITIONS[state, event] is after
    assert after is not state or (state, event) not in TRANSITIONS


def test_no_row_leads_from_open_to_closed_without_somebodys_probe() -> None:
    ways = {
        event
        for (state, event), after in TRANSITIONS.items()
        if state is State.OPEN and after is State.CLOSED
    }

    assert ways == {Event.FLEET_CLOSED}


def test_failures_in_a_row_open_it() -> None:
    breaker = Breaker(POLICY, 0)

    moves = [breaker.on_failure(0, 0) for _ in range(5)]

    assert moves == [None] * 4 + [Event.TOO_MANY_FAILURES]
    assert (breaker.state, breaker.generation, breaker.term) == (State.OPEN, 1, 1)


def test_a_success_in_between_starts_the_row_anew() -> None:
    breaker = Breaker(POLICY, 0)

    for _ in range(4):
        breaker.on_failure(0, 0)
    breaker.on_success(0, 0)
    for _ in range(4):
        breaker.on_failure(0, 0)

    assert breaker.state is State.CLOSED


def test_half_of_enough_calls_failing_opens_it() -> None:
    breaker = Breaker(POLICY, 0)

    for _ in range(5):
        breaker.on_success(0, 0)
        moved = breaker.on_failure(0, 0)

    assert moved is Event.TOO_MANY_FAILURES


def test_too_few_calls_say_nothing() -> None:
    breaker = Breaker(POLICY, 0)

    for _ in range(4):
        breaker.on_success(0, 0)
        breaker.on_failure(0, 0)

    assert breaker.state is State.CLOSED


@pytest.mark.parametrize(
    ("later_us", "state"),
    [
        pytest.param(8 * SECOND, State.OPEN, id="still-in-the-window"),
        pytest.param(10 * SECOND, State.CLOSED, id="slid-out"),
        pytest.param(10_000 * SECOND, State.CLOSED, id="long-ago"),
    ],
)
def test_failures_count_for_as_long_as_the_window(later_us: int, state: State) -> None:
    breaker = Breaker(POLICY, 0)
    for _ in range(4):
        breaker.on_failure(0, 0)
    for _ in range(5):
        breaker.on_success(0, later_us)

    breaker.on_failure(0, later_us)

    assert breaker.state is state


def test_a_late_result_of_an_old_state_changes_nothing() -> None:
    breaker = half_open()
    late = 0

    assert breaker.on_success(late, 6 * SECOND) is None
    assert breaker.on_failure(late, 6 * SECOND) is None
    assert breaker.on_timeout(late, 0, 6 * SECOND) is None
    breaker.on_nothing(late)

    assert breaker.state is State.HALF_OPEN


def test_half_open_lets_exactly_one_probe_through() -> None:
    breaker = half_open()

    assert [breaker.claim_probe() for _ in range(3)] == [True, False, False]


def test_a_probe_whose_caller_left_is_free_again() -> None:
    breaker = half_open()
    breaker.claim_probe()

    breaker.on_nothing(breaker.generation)

    assert breaker.claim_probe()


def test_a_good_probe_closes_and_a_bad_one_opens_for_another_cool_down() -> None:
    good, bad = half_open(), half_open()
    good.claim_probe()
    bad.claim_probe()

    assert good.on_success(good.generation, 6 * SECOND) is Event.PROBE_SUCCEEDED
    assert bad.on_failure(bad.generation, 6 * SECOND) is Event.PROBE_FAILED
    assert (good.state, bad.state) == (State.CLOSED, State.OPEN)
    assert bad.reopens_us == 11 * SECOND


def test_a_probe_that_times_out_has_failed_however_short_its_deadline() -> None:
    breaker = half_open()
    breaker.claim_probe()

    assert breaker.on_timeout(breaker.generation, 6 * SECOND, 6 * SECOND + 1) is Event.PROBE_FAILED


def test_nothing_is_let_through_before_the_cool_down_is_over() -> None:
    breaker = tripped()

    assert breaker.on_cool_down_over(5 * SECOND - 1) is None
    assert not breaker.claim_probe()


def test_no_probe_in_time_opens_again_unless_one_is_under_way() -> None:
    idle, probing = half_open(), half_open()
    probing.claim_probe()

    assert idle.on_probe_given_up(6 * SECOND) is Event.PROBE_GIVEN_UP
    assert probing.on_probe_given_up(6 * SECOND) is None
    assert (idle.state, probing.state) == (State.OPEN, State.HALF_OPEN)


def test_tiny_deadlines_do_not_speak_against_an_endpoint_that_answers_others() -> None:
    breaker = Breaker(POLICY, 0)

    for at_us in range(0, 20 * SECOND, SECOND // 4):
        breaker.on_timeout(0, at_us, at_us + 5_000)
        breaker.on_success(0, at_us + 10_000)

    assert breaker.state is State.CLOSED


def test_tiny_deadlines_add_up_when_nobody_is_answered() -> None:
    breaker = Breaker(POLICY, 0)

    opened_us = next(
        at_us
        for at_us in range(0, 20 * SECOND, SECOND // 4)
        if breaker.on_timeout(0, at_us, at_us + 5_000) is not None
    )

    assert SECOND <= opened_us <= 3 * SECOND


def test_one_short_timeout_after_a_long_idle_time_says_nothing() -> None:
    breaker = Breaker(POLICY, 0)
    breaker.on_success(0, 0)

    for at_us in range(3600 * SECOND, 3600 * SECOND + 20_000, 1_000):
        assert breaker.on_timeout(0, at_us, at_us + 1_000) is None


def test_a_trip_elsewhere_is_followed_with_its_age() -> None:
    breaker = Breaker(POLICY, 0)

    assert breaker.adopt(State.OPEN, 4, 2 * SECOND, 100 * SECOND) is Event.FLEET_OPENED
    assert (breaker.term, breaker.reopens_us) == (4, 103 * SECOND)


@given(st.integers(-(2**60), 2**60))
def test_no_clock_of_another_instance_can_hold_it_open_for_longer(age_us: int) -> None:
    breaker = Breaker(POLICY, 0)

    breaker.adopt(State.OPEN, 1, age_us, 100 * SECOND)

    assert 100 * SECOND <= breaker.reopens_us <= 105 * SECOND


def test_who_is_told_to_open_while_it_probes_probes_again_when_that_probe_has_ended() -> None:
    """What was decided elsewhere is old news by then; the call that probes is still on its way."""
    breaker = tripped()
    breaker.on_cool_down_over(5 * SECOND, probe_until_us=14 * SECOND)
    assert breaker.claim_probe()

    assert breaker.adopt(State.OPEN, 9, 2 * SECOND, 6 * SECOND) is Event.FLEET_OPENED

    assert breaker.reopens_us == 14 * SECOND
    assert breaker.on_cool_down_over(13 * SECOND) is None
    assert breaker.on_cool_down_over(14 * SECOND) is Event.COOL_DOWN_OVER


def test_an_old_or_half_open_word_is_not_followed() -> None:
    breaker = tripped()

    assert breaker.adopt(State.CLOSED, 1, 0, SECOND) is None
    assert breaker.adopt(State.HALF_OPEN, 9, 0, SECOND) is None
    assert breaker.adopt(State.CLOSED, 2, 0, SECOND) is Event.FLEET_CLOSED


def test_a_term_is_forgotten_with_the_age_of_its_judgement_whoever_made_it() -> None:
    own, heard = tripped(), Breaker(POLICY, 30 * SECOND)
    heard.adopt(State.OPEN, own.term, 30 * SECOND, 30 * SECOND)

    for breaker in (own, heard):
        breaker.forget_term(60 * SECOND, 60 * SECOND)
        assert breaker.term == 1
        breaker.forget_term(60 * SECOND, 60 * SECOND + 1)
        assert (breaker.term, breaker.state) == (0, State.OPEN)


def test_an_agreeing_word_raises_the_term_and_begins_the_cool_down_when_it_was_said() -> None:
    breaker = tripped()

    assert breaker.adopt(State.OPEN, 7, 2 * SECOND, 4 * SECOND) is None
    assert (breaker.state, breaker.term, breaker.since_us) == (State.OPEN, 7, 2 * SECOND)


@pytest.mark.parametrize(
    "wrong",
    [
        {"failure_ratio": 0},
        {"failure_ratio": 1.5},
        {"min_calls": 0},
        {"consecutive": 0},
        {"cool_down_us": 0},
        {"patience_us": -1},
        {"window_us": 9},
        {"slow_call_us": -1},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        BreakerPolicy(**wrong)


def test_slow_answers_open_it_by_the_ratio_and_never_by_a_row() -> None:
    breaker = Breaker(POLICY, 0)

    moves = [breaker.on_slow(0, 0) for _ in range(POLICY.min_calls)]

    assert moves == [None] * 9 + [Event.TOO_MANY_FAILURES]


def test_a_slow_probe_has_failed_and_an_old_slow_answer_says_nothing() -> None:
    breaker = half_open()

    assert breaker.on_slow(0, 6 * SECOND) is None
    assert breaker.on_slow(breaker.generation, 6 * SECOND) is Event.PROBE_FAILED


def test_what_others_count_opens_it_only_if_we_saw_a_failure_too() -> None:
    seeing, blind = Breaker(POLICY, 0), Breaker(POLICY, 0)
    seeing.on_failure(0, 0)
    blind.on_success(0, 0)

    assert seeing.on_fleet_counts(8, 8, SECOND) is None  # one call below min_calls
    assert seeing.on_fleet_counts(90, 20, SECOND) is None
    assert blind.on_fleet_counts(90, 90, SECOND) is None
    assert seeing.on_fleet_counts(9, 9, SECOND) is Event.TOO_MANY_FAILURES
    assert seeing.on_fleet_counts(9, 9, SECOND) is None


def test_counts_leave_the_window_also_when_nobody_calls() -> None:
    breaker = Breaker(POLICY, 0)
    breaker.on_failure(0, 0)

    assert breaker.counted(SECOND) == (1, 1)
    assert breaker.counted(11 * SECOND) == (0, 0)


def test_an_operator_holds_it_whatever_happens_and_lets_go_of_it() -> None:
    held = Breaker(POLICY, 0)
    assert held.hold(State.HELD_CLOSED, 0) is Event.HELD_CLOSED
    for _ in range(100):
        assert held.on_failure(held.generation, 0) is None
        assert held.on_success(held.generation, 0) is None
    assert held.adopt(State.OPEN, 9, 0, 0) is None
    assert held.hold(State.HELD_OPEN, 0) is Event.HELD_OPEN
    assert held.on_cool_down_over(99 * SECOND) is None
    assert held.hold(State.CLOSED, 0) is Event.RELEASED
    assert (held.state, held.term) == (State.CLOSED, 9)


def test_nobody_can_hold_it_half_open() -> None:
    with pytest.raises(ValueError, match="half_open"):
        Breaker(POLICY, 0).hold(State.HALF_OPEN, 0)


class AnyTrace(RuleBasedStateMachine):
    """Whatever happens in whatever order, the promises hold."""

    @initialize()
    def begin(self) -> None:
        self.now_us = 0
        self.breaker = Breaker(POLICY, 0)
        self.calls: list[tuple[int, int, bool]] = []
        self.generations = [0]
        self.terms = [0]

    @rule(gap_us=st.integers(0, 4 * SECOND))
    def time_passes(self, gap_us: int) -> None:
        self.now_us += gap_us

    @rule()
    def a_call_begins(self) -> None:
        breaker = self.breaker
        probe = breaker.claim_probe()
        if probe or breaker.state is State.CLOSED:
            self.calls.append((breaker.generation, self.now_us, probe))

    @rule(which=st.integers(0, 1_000), how=st.sampled_from(["well", "badly", "silent", "left"]))
    def a_call_ends(self, which: int, how: str) -> None:
        if not self.calls:
            return
        generation, started_us, _ = self.calls.pop(which % len(self.calls))
        if how == "well":
            self.breaker.on_success(generation, self.now_us)
        elif how == "badly":
            self.breaker.on_failure(generation, self.now_us)
        elif how == "silent":
            self.breaker.on_timeout(generation, started_us, self.now_us)
        else:
            self.breaker.on_nothing(generation)

    @rule()
    def the_cool_down_may_be_over(self) -> None:
        self.breaker.on_cool_down_over(self.now_us)

    @rule(state=st.sampled_from(State), ahead=st.integers(-2, 2), age_us=st.integers(-SECOND, 9 * SECOND))
    def another_instance_says(self, state: State, ahead: int, age_us: int) -> None:
        self.breaker.adopt(state, self.breaker.term + ahead, age_us, self.now_us)

    @invariant()
    def at_most_one_probe_is_under_way(self) -> None:
        probes = [call for call in self.calls if call[2] and call[0] == self.breaker.generation]
        assert len(probes) <= 1
        assert bool(probes) is self.breaker.probing

    @invariant()
    def generations_and_terms_never_go_back(self) -> None:
        self.generations.append(self.breaker.generation)
        self.terms.append(self.breaker.term)
        assert self.generations == sorted(self.generations)
        assert self.terms == sorted(self.terms)


TestAnyTrace = AnyTrace.TestCase
TestAnyTrace.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_who_counts_elsewhere_is_judged_by_that() -> None:
    breaker = Breaker(BreakerPolicy(min_calls=10, failure_ratio=0.5), 0)

    assert breaker.on_fleet_counts(0, 0, 1, own=(9, 9)) is None
    assert breaker.on_fleet_counts(20, 20, 1, own=(5, 0)) is None
    assert breaker.on_fleet_counts(1, 0, 1, own=(9, 5)) is Event.TOO_MANY_FAILURES
