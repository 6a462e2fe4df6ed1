"""Who may take a call, whatever is known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.breaker import State
from silence_gateway.core.endpoints import (
    Group,
    Link,
    Spread,
    Standing,
    Verdict,
    eligible,
    verdict,
    why_out,
)
from silence_gateway.core.health import Health

READY = Standing(health=Health.HEALTHY)
SICK = Standing(health=Health.UNHEALTHY)
DOUBTED = Standing(health=Health.DOUBTED)
SILENT = Standing(health=Health.HEALTHY, silent=True)
TRIPPED = Standing(breaker=State.OPEN)
PROBE = Standing(breaker=State.HALF_OPEN)
COMING = Standing(link=Link.CONNECTING)
BROKEN = Standing(link=Link.BROKEN)
DRAINING = Standing(active=False)

standings = st.builds(
    Standing,
    active=st.booleans(),
    link=st.sampled_from(Link),
    health=st.sampled_from(Health),
    breaker=st.sampled_from(State),
    probing=st.booleans(),
    priority=st.integers(0, 3),
    zone=st.sampled_from(["", "a", "b"]),
    weight=st.integers(1, 3),
)


LETTING = {State.CLOSED, State.HELD_CLOSED}
USED = {Link.CONNECTED, Link.IDLE}


@given(st.lists(standings, max_size=8), st.sampled_from(["", "a", "b"]))
def test_only_connected_active_closed_endpoints_are_ready(all_of_them: list[Standing], here: str) -> None:
    answer = eligible(all_of_them, Spread(zone=here))

    ready = [all_of_them[index] for index in answer.ready]
    assert all(one.active and one.link in USED and one.breaker in LETTING for one in ready)
    assert all(one.health is not Health.UNHEALTHY for one in ready)
    assert not (answer.hopeful and answer.ready)
    assert not answer.panic
    assert len(set(answer.ready)) == len(answer.ready)
    assert sum(group.part for group in answer.groups) == (pytest.approx(1.0) if ready else 0)


@given(st.lists(standings, max_size=8))
def test_in_panic_whoever_can_be_reached_is_used_and_nobody_else(all_of_them: list[Standing]) -> None:
    answer = eligible(all_of_them, Spread(panic_threshold=1.0))

    reachable = [
        one.active and one.link in USED and one.breaker is not State.HELD_OPEN for one in all_of_them
    ]
    assert all(reachable[index] for index in answer.ready)
    assert bool(answer.ready) is any(reachable)


@given(st.lists(standings, max_size=8))
def test_every_probe_is_free_half_open_and_connected(all_of_them: list[Standing]) -> None:
    for index in eligible(all_of_them).probes:
        one = all_of_them[index]
        assert one.breaker is State.HALF_OPEN
        assert not one.probing
        assert one.link is Link.CONNECTED


@given(standings)
def test_whoever_takes_no_calls_has_a_reason_and_whoever_does_has_none(one: Standing) -> None:
    takes_calls = verdict(one) in (Verdict.READY, Verdict.PROBE, Verdict.DOUBTFUL)

    assert takes_calls is (why_out(one) == "")
    assert takes_calls is (why_out(one, "reset") == "")


def test_unknown_health_is_good_enough() -> None:
    assert eligible([Standing(), SICK]).ready == (0,)


def test_nobody_healthy_means_nobody_and_no_hope() -> None:
    answer = eligible([SICK, TRIPPED, BROKEN, DRAINING])

    assert (answer.ready, answer.probes, answer.hopeful) == ((), (), False)


def test_a_connection_on_the_way_is_hope_unless_something_else_speaks_against_it() -> None:
    assert eligible([SICK, COMING]).hopeful
    assert not eligible([Standing(link=Link.CONNECTING, health=Health.UNHEALTHY)]).hopeful


def test_the_doubted_are_used_rather_than_nobody() -> None:
    assert eligible([DOUBTED, READY]).ready == (1,)
    assert eligible([SILENT, READY]).ready == (1,)
    assert eligible([SILENT, SICK]).ready == (0,)
    assert eligible([DOUBTED, SICK, DOUBTED]).ready == (0, 2)


def test_a_lower_priority_number_comes_first_as_far_as_it_can_take_the_calls() -> None:
    reserve, last = Standing(priority=1), Standing(priority=2)

    assert eligible([reserve, READY, last]).groups == (Group(1.0, (1,), 1),)
    assert eligible([reserve, SICK, last]).groups == (Group(1.0, (0,), 1),)
    assert eligible([last, reserve, READY, SICK, DOUBTED]).spare == (0,)
    half = eligible([READY, SICK, reserve, last])
    assert half.spare == (3,)
    assert [group.part for group in half.groups] == pytest.approx([0.7, 0.3])
    assert [group.members for group in half.groups] == [(0,), (2,)]


def test_calls_stay_in_our_zone_and_spill_over_to_the_next_one_when_it_is_short() -> None:
    near, far = Standing(zone="a"), Standing(zone="b", weight=2)
    gone = Standing(zone="a", link=Link.BROKEN)

    assert eligible([near, far], Spread(zone="a")).groups == (Group(1.0, (0,), 1),)
    short = eligible([near, gone, far], Spread(zone="a"))
    assert [group.part for group in short.groups] == pytest.approx([0.7, 0.3])
    assert [group.members for group in short.groups] == [(0,), (2,)]
    assert eligible([near, far], Spread(zone="a")).spare == (1,)
    assert short.spare == ()
    assert eligible([near, far], Spread()).groups == (Group(1.0, (0, 1), 3),)


def test_in_panic_health_and_breakers_are_passed_over_but_not_an_operator() -> None:
    worried = Spread(panic_threshold=0.5)

    assert eligible([READY, SICK, TRIPPED, BROKEN, DRAINING], worried).ready == (0, 1, 2)
    assert eligible([READY, SICK, TRIPPED], worried).panic
    assert eligible([READY, READY, TRIPPED], worried).ready == (0, 1)
    assert eligible([SICK, TRIPPED], worried).ready == (0, 1)


def test_a_half_open_endpoint_is_a_probe_until_somebody_probes() -> None:
    assert eligible([PROBE, READY]).probes == (0,)
    assert eligible([Standing(breaker=State.HALF_OPEN, probing=True)]).probes == ()


def test_reasons_name_what_went_wrong() -> None:
    assert why_out(BROKEN, "connection refused") == "not connected (connection refused)"
    assert why_out(COMING, "reset") == "connecting (lost: reset)"
    assert why_out(TRIPPED, "UNAVAILABLE") == "circuit breaker open (UNAVAILABLE)"
    assert why_out(TRIPPED, "old", "b7") == "circuit breaker open (opened by instance b7)"
    assert why_out(SICK, "NOT_SERVING") == "unhealthy (NOT_SERVING)"
    assert why_out(DRAINING) == "draining"
    assert why_out(SILENT).startswith("silent")


def test_a_breaker_that_an_operator_holds_open_says_so() -> None:
    assert verdict(Standing(breaker=State.HELD_OPEN)) is Verdict.OUT
    assert "operator" in why_out(Standing(breaker=State.HELD_OPEN))
    assert verdict(Standing(breaker=State.HELD_CLOSED)) is Verdict.READY
