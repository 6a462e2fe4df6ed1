"""Who may take a call, whatever is known."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.breaker import State
from silence_gateway.core.endpoints import Link, Standing, Verdict, eligible, verdict, why_out
from silence_gateway.core.health import Health

READY = Standing(health=Health.HEALTHY)
SICK = Standing(health=Health.UNHEALTHY)
DOUBTED = Standing(health=Health.DOUBTED)
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
)


LETTING = {State.CLOSED, State.HELD_CLOSED}


@given(st.lists(standings, max_size=8))
def test_only_connected_active_closed_endpoints_of_one_priority_are_ready(
    all_of_them: list[Standing],
) -> None:
    answer = eligible(all_of_them)

    ready = [all_of_them[index] for index in answer.ready]
    assert all(one.active and one.link is Link.CONNECTED and one.breaker in LETTING for one in ready)
    assert all(one.health is not Health.UNHEALTHY for one in ready)
    assert len({one.priority for one in ready}) <= 1
    assert not (answer.hopeful and answer.ready)


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
    assert eligible([DOUBTED, SICK, DOUBTED]).ready == (0, 2)


def test_a_lower_priority_number_comes_first_while_any_of_it_is_ready() -> None:
    reserve = Standing(priority=1)

    assert eligible([reserve, READY, Standing(priority=2)]).ready == (1,)
    assert eligible([reserve, SICK, Standing(priority=2)]).ready == (0,)


def test_a_half_open_endpoint_is_a_probe_until_somebody_probes() -> None:
    assert eligible([PROBE, READY]).probes == (0,)
    assert eligible([Standing(breaker=State.HALF_OPEN, probing=True)]).probes == ()


def test_reasons_name_what_went_wrong() -> None:
    assert why_out(BROKEN, "connection refused") == "not connected (connection refused)"
    assert why_out(COMING, "reset") == "connecting (lost: reset)"
    assert why_out(TRIPPED, "UNAVAILABLE") == "circuit breaker open (UNAVAILABLE)"
    assert why_out(SICK, "NOT_SERVING") == "unhealthy (NOT_SERVING)"
    assert why_out(DRAINING) == "draining"


def test_a_breaker_that_an_operator_holds_open_says_so() -> None:
    assert verdict(Standing(breaker=State.HELD_OPEN)) is Verdict.OUT
    assert "operator" in why_out(Standing(breaker=State.HELD_OPEN))
    assert verdict(Standing(breaker=State.HELD_CLOSED)) is Verdict.READY
