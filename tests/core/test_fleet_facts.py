"""What instances tell each other survives the trip, and nothing else is taken for it."""

from __future__ import annotations

import inspect
import json
import sys
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from silence_gateway.core.breaker import HELD, State
from silence_gateway.core.fleet_facts import (
    MAX_FACT_BYTES,
    MAX_NUMBER,
    BreakerFact,
    CountsFact,
    HealthFact,
    HoldFact,
    read_breaker,
    read_counts,
    read_health,
    read_hold,
    read_signature,
    written_breaker,
    written_counts,
    written_health,
    written_hold,
)
from silence_gateway.core.health import Check, Health

numbers = st.integers(0, MAX_NUMBER)
names = st.text("0123456789abcdef", max_size=16)


@given(
    st.builds(
        HealthFact,
        health=st.sampled_from([Health.HEALTHY, Health.UNHEALTHY]),
        last=st.sampled_from(Check),
        fence=numbers,
        count=numbers,
        by=names,
        since_us=numbers,
        checked_us=numbers,
    )
)
def test_a_health_fact_survives_the_trip(fact: HealthFact) -> None:
    assert read_health(written_health(fact)) == fact


@given(
    st.builds(
        BreakerFact,
        state=st.sampled_from([State.OPEN, State.CLOSED]),
        term=numbers,
        at_us=numbers,
        by=names,
    )
)
def test_a_breaker_fact_survives_the_trip(fact: BreakerFact) -> None:
    assert read_breaker(written_breaker(fact)) == fact


@given(st.binary(max_size=600))
@example(b"[" * 500)
@example(b'{"a":' * 100)
@example(b"\xff\xfe")
@example(b"1e999")
def test_arbitrary_bytes_are_refused_with_a_value_error(value: bytes) -> None:
    for read in (read_health, read_breaker, read_hold, read_counts, read_signature):
        with pytest.raises(ValueError):
            read(value)


@given(
    st.builds(
        HoldFact,
        state=st.sampled_from(sorted(HELD, key=str)),
        reason=names,
        until_us=numbers,
        by=names,
        lasts_us=numbers,
        said_us=numbers,
        who=names,
    )
)
def test_a_hold_survives_the_trip(fact: HoldFact) -> None:
    assert read_hold(written_hold(fact)) == fact
    assert read_signature(written_hold(fact)) == fact.by


@pytest.mark.parametrize(
    ("now_us", "until_us"),
    [
        pytest.param(0, 60, id="just-said"),
        pytest.param(59, 60, id="nearly-over"),
        pytest.param(60, 120, id="over-by-a-clock-that-is-ahead"),
        pytest.param(10_000, 10_060, id="long-over-by-it"),
        pytest.param(-1, 59, id="longer-than-it-was-said-by-a-clock-that-is-behind"),
    ],
)
def test_a_hold_on_the_board_is_not_over_whatever_clocks_say(now_us: int, until_us: int) -> None:
    fact = HoldFact(state=State.HELD_OPEN, reason="", until_us=60, by="a", lasts_us=60, said_us=0)

    assert fact.by_clock(now_us).until_us == until_us


@given(st.builds(CountsFact, calls=numbers, failures=st.just(0), term=numbers, by=names))
def test_counts_survive_the_trip(fact: CountsFact) -> None:
    assert read_counts(written_counts(fact)) == fact


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="nobody holds"):
        read_hold(
            written_hold(HoldFact(state=State.OPEN, reason="", until_us=1, by="a", lasts_us=1, said_us=0))
        )
    with pytest.raises(ValueError, match="cannot have failed"):
        read_counts(written_counts(CountsFact(calls=1, failures=2, term=0, by="a")))


def test_nesting_beyond_what_python_can_read_is_refused_too() -> None:
    def deeper(levels: int) -> None:
        if levels:
            deeper(levels - 1)
        else:
            read_health(b"[" * MAX_FACT_BYTES)

    depth = len(inspect.stack())
    with pytest.raises(ValueError, match="nested"):
        deeper(sys.getrecursionlimit() - depth - 200)


GOOD_HEALTH: dict[str, Any] = {"health": "healthy", "last": "serving", "fence": 1, "count": 1, "by": "a"}
GOOD_BREAKER: dict[str, Any] = {"state": "open", "term": 1, "at_us": 1, "by": "a"}


def test_a_prober_that_does_not_say_since_when_is_understood() -> None:
    fact = read_health(json.dumps(GOOD_HEALTH).encode())

    assert (fact.since_us, fact.checked_us) == (0, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"health": "doubted"},
        {"since_us": -1},
        {"checked_us": "now"},
        {"health": "unknown"},
        {"health": 1},
        {"last": "maybe"},
        {"fence": -1},
        {"fence": True},
        {"fence": 1.0},
        {"count": "1"},
        {"count": MAX_NUMBER + 1},
        {"by": None},
        {"by": "x" * 65},
        {"more": "x" * MAX_FACT_BYTES},
    ],
)
def test_a_health_fact_with_one_wrong_field_is_refused(change: dict[str, Any]) -> None:
    assert read_health(json.dumps(GOOD_HEALTH).encode()).fence == 1

    with pytest.raises(ValueError):
        read_health(json.dumps(GOOD_HEALTH | change).encode())


@pytest.mark.parametrize(
    "change", [{"state": "half_open"}, {"state": "OPEN"}, {"term": None}, {"at_us": -5}, {"by": 7}]
)
def test_a_breaker_fact_with_one_wrong_field_is_refused(change: dict[str, Any]) -> None:
    assert read_breaker(json.dumps(GOOD_BREAKER).encode()).term == 1

    with pytest.raises(ValueError):
        read_breaker(json.dumps(GOOD_BREAKER | change).encode())
