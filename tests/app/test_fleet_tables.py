"""What a person sees of the admin API's answers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.app.fleet_tables import VIEWS, ago

NOW_US = 1_800_000_000_000_000


def shown(what: str, body: Any) -> list[str]:
    return VIEWS[what](body, NOW_US).splitlines()


def limit(**more: Any) -> dict[str, Any]:
    return {
        "name": "login", "rate": "100/m", "algorithm": "sliding_window", "burst": None, "key": ["client_ip"],
        "match": {"path": "/login", "methods": ["POST"], "rpc": None, "any": False}, "mode": "enforce",
        "counted_by": "fleet", "allowed": 7, "denied": 3, "shadow_denied": 0,
        "top": [{"key": "192.0.2.1", "requests": 9}],
    } | more  # fmt: skip


def test_limits_say_what_they_count_and_who_uses_them_most() -> None:
    every: dict[str, Any] = {"path": None, "methods": [], "rpc": None, "any": True}
    body = [
        limit(),
        limit(
            name="all", algorithm="token_bucket", burst=5, match=every, mode="shadow", shadow_denied=4, top=[]
        ),
    ]

    assert shown("limits", body) == [
        "LIMIT  RATE                BY         COUNTS         ALLOWED  DENIED  BUSIEST",
        "login  100/m               client_ip  POST /login    7        3       192.0.2.1 (9)",
        "all    100/m, bucket of 5  client_ip  every request  7        (4)     -",
        "(in parentheses: what a shadow limit would deny)",
    ]
    assert shown("limits", [limit(counted_by="this instance")])[-1].startswith("counted by this instance")


def test_sessions_say_who_is_where_since_when() -> None:
    session = {
        "id": "s1", "instance": "i1", "user": "ann", "connected_us": NOW_US - 300_000_000, "name": "js",
        "channels": ["a", "b", "c", "d", "e"], "commands": 4,
    }  # fmt: skip
    body = {"sessions": [session, {"id": "s2", "user": ""}], "cursor": "next"}

    assert shown("sessions", body) == [
        "SESSION  USER         CHANNELS            CLIENT  SINCE  COMMANDS  INSTANCE",
        "s1       ann          a, b, c and 2 more  js      5m     4         i1",
        "s2       (anonymous)  -                   -       -      -         -",
        "there are more: --cursor next",
    ]


def test_nodes_say_whether_they_run_the_same_file() -> None:
    node = {"id": "n1", "host": "h", "pid": 5, "listen": "127.0.0.1:80", "version": "1", "config": "c0ffee"}
    body: dict[str, Any] = {"this": "n1", "live": 2, "nodes": [node | {"started_us": NOW_US - 9_000_000}]}

    assert shown("nodes", body) == [
        "NODE  HOST  PID  LISTEN        VERSION  CONFIG  UP",
        "n1    h     5    127.0.0.1:80  1        c0ffee  9s",
        "alive: 2; asked: n1",
    ]
    body["nodes"].append(node | {"config": "decaf"})
    assert "the configurations differ" in shown("nodes", body)[-1]


@pytest.mark.parametrize("what", list(VIEWS))
def test_nothing_to_show_is_said(what: str) -> None:
    assert shown(what, [])[0] == "(none)"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (200_000, "2d")]
)
def test_times_are_in_their_largest_unit(seconds: int, text: str) -> None:
    assert ago(NOW_US - seconds * 1_000_000, NOW_US) == text


plain = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5)
anything = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "name",
                    "endpoints",
                    "failures",
                    "top",
                    "match",
                    "key",
                    "channels",
                    "methods",
                    "calls_by_code",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("what", list(VIEWS))
@given(body=anything)
def test_an_answer_of_any_shape_is_shown_and_acts_on_no_terminal(what: str, body: Any) -> None:
    """The other side may be of another version, or no gateway at all."""
    assert all(line.isprintable() for line in VIEWS[what](body, NOW_US).split("\n"))
    assert all(line.isprintable() for line in VIEWS[what]([body], NOW_US).split("\n"))
