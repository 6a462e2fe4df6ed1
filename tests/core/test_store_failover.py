"""The store's breaker: every transition is in the table, and outages are announced once."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.core.store_failover import (
    CALLS_REFUSED,
    COUNTS,
    OPENS_AT_ONCE,
    TRANSITIONS,
    Failover,
    FailoverPolicy,
    Fault,
    Move,
    Signal,
    State,
    fault_of_reply,
)

POLICY = FailoverPolicy(failures=3, cool_down_us=500_000)


def up() -> Failover:
    failover = Failover(POLICY)
    failover.on_probe_success(0)
    return failover


def opened() -> Failover:
    failover = up()
    for now_us in range(3):
        failover.on_failure(Fault.SLOW, "late", now_us)
    return failover


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("LOADING Valkey is loading the dataset in memory", Fault.NOT_READY),
        ("MASTERDOWN Link with MASTER is down", Fault.NOT_READY),
        ("MOVED 3999 127.0.0.1:6381", Fault.MOVED),
        ("READONLY You can't write against a read only replica.", Fault.WRONG_ROLE),
        ("NOSCRIPT No matching script.", Fault.SCRIPT_MISSING),
        ("BUSY Valkey is busy running a script.", Fault.SCRIPT_STUCK),
        ("OOM command not allowed when used memory > 'maxmemory'.", Fault.CAPACITY),
        ("NOREPLICAS Not enough good replicas to write.", Fault.CAPACITY),
        ("WRONGPASS invalid username-password pair", Fault.CREDENTIALS),
        ("NOAUTH Authentication required.", Fault.CREDENTIALS),
        ("ERR AUTH <password> called without any password configured", Fault.CREDENTIALS),
        ("NOPERM this user has no permissions to run the 'evalsha' command", Fault.PERMISSION),
        ("ERR max number of clients reached", Fault.UNREACHABLE),
        ("ERR unknown command 'NOSUCH'", Fault.REFUSED),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", Fault.REFUSED),
        ("", Fault.REFUSED),
    ],
)
def test_error_replies_are_sorted_by_what_to_do(text: str, fault: Fault) -> None:
    assert fault_of_reply(text) is fault


def test_failures_in_a_row_open_and_a_success_between_them_does_not() -> None:
    failover = up()
    states = []
    for now_us in range(10):
        failover.on_failure(Fault.SLOW, "late", now_us)
        failover.on_failure(Fault.UNREACHABLE, "reset", now_us)
        states.append(failover.state)
        failover.on_success(now_us)

    assert states == [State.SUSPECT] * 10
    assert failover.state is State.UP
    assert opened().state is State.OPEN


def test_an_outage_is_announced_once_and_so_is_its_end() -> None:
    failover = up()
    moves = [failover.on_failure(Fault.SLOW, "late", now_us) for now_us in range(3)]
    for now_us in range(10, 20):
        moves.append(failover.on_cool_down_over(now_us))
        moves.append(failover.on_probe_failure(Fault.UNREACHABLE, "refused", now_us))
    moves.append(failover.on_cool_down_over(30))
    moves.append(failover.on_probe_success(31))

    happened = [move for move in moves if move is not None]
    assert sum(move.lost for move in happened) == 1
    assert sum(move.found for move in happened) == 1
    assert happened[-1] == Move(State.PROBING, State.UP, lost=False, found=True)
    assert failover.down_since_us == 2


def test_a_start_without_a_store_is_announced_and_one_with_a_store_is_not() -> None:
    absent, present = Failover(POLICY), Failover(POLICY)

    lost = absent.on_probe_failure(Fault.UNREACHABLE, "refused", 1)
    fine = present.on_probe_success(1)

    assert lost == Move(State.STARTING, State.OPEN, lost=True, found=False)
    assert fine == Move(State.STARTING, State.UP, lost=False, found=False)


@pytest.mark.parametrize("fault", sorted(OPENS_AT_ONCE, key=str))
def test_a_store_that_says_it_cannot_serve_is_believed_at_once(fault: Fault) -> None:
    failover = up()

    move = failover.on_failure(fault, "said so", 1)

    assert move == Move(State.UP, State.OPEN, lost=True, found=False)


@pytest.mark.parametrize("fault", sorted(set(Fault) - OPENS_AT_ONCE - COUNTS, key=str))
def test_trouble_of_one_command_never_opens(fault: Fault) -> None:
    failover = up()

    for now_us in range(100):
        assert failover.on_failure(fault, "that command", now_us) is None
    assert failover.state is State.UP


def test_answers_from_before_the_trip_change_nothing() -> None:
    failover = opened()

    assert failover.on_success(5) is None
    assert failover.on_failure(Fault.SLOW, "late", 5) is None
    assert failover.state is State.OPEN


@given(draw=st.floats(0, 1, exclude_max=True))
def test_the_cool_down_is_spread_around_its_mean_and_twice_as_long_for_credentials(draw: float) -> None:
    failover = opened()
    assert 250_000 <= failover.cool_down_us(draw) <= 750_000

    failover.note(Fault.CREDENTIALS, "WRONGPASS")
    assert 500_000 <= failover.cool_down_us(draw) <= 1_500_000


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(sorted(Fault, key=str))), max_size=60))
def test_whatever_happens_every_move_is_in_the_table_and_news_alternate(
    steps: list[tuple[int, Fault]],
) -> None:
    failover = Failover(POLICY)
    news: list[str] = []
    for now_us, (what, fault) in enumerate(steps):
        old = failover.state
        move = step(failover, what, fault, now_us)
        if move is None:
            assert failover.state is old
            continue
        assert (move.old, move.new) == (old, failover.state)
        assert any(TRANSITIONS.get((old, signal)) is move.new for signal in Signal)
        news += ["lost"] * move.lost + ["found"] * move.found
        assert failover.down is (failover.state in CALLS_REFUSED)
    assert news == (["lost", "found"] * 60)[: len(news)]


def step(failover: Failover, what: int, fault: Fault, now_us: int) -> Move | None:
    """One of the five things that can be told to the breaker."""
    if what == 0:
        return failover.on_success(now_us)
    if what == 1:
        return failover.on_failure(fault, "x", now_us)
    if what == 2:
        return failover.on_probe_success(now_us)
    if what == 3:
        return failover.on_probe_failure(fault, "x", now_us)
    return failover.on_cool_down_over(now_us)


@pytest.mark.parametrize("bad", [{"failures": 0}, {"cool_down_us": 0}])
def test_a_policy_without_patience_is_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least one"):
        FailoverPolicy(**bad)
