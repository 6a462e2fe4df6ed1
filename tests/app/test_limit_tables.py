"""What a person sees of what the admin API says about single limits and keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.app import limit_tables

NOW_US = 1_800_000_000_000_000

VIEWS: dict[str, Callable[[Any], str]] = {
    "key": limit_tables.one_key,
    "limit": lambda body: limit_tables.one_limit(body, NOW_US),
    "top": limit_tables.top_keys,
    "reset": limit_tables.begun_anew,
    "about": lambda body: limit_tables.about_key(body, "done"),
    "explain": limit_tables.explained,
}


def test_a_limit_says_since_when_it_counts_and_in_whose_name() -> None:
    body = {
        "name": "orders", "rate": "10/m", "key": ["client_ip"], "match": {"rpc": "a.B/C", "methods": []},
        "counted_by": "this instance", "since_us": NOW_US - 7200_000_000, "allowed": 9, "denied": 1,
        "shadow_denied": 0, "near": 0,
        "windows": {"1m": {"allowed": 1, "unique_clients": 1}, "1h": {"allowed": 5, "unique_clients": 2}},
    }  # fmt: skip

    assert VIEWS["limit"](body).splitlines() == [
        "orders: 10/m by client_ip, a.B/C; counted by this instance alone: the store is away, or not shared",
        "",
        "                    ALLOWED  DENIED  IN SHADOW  NEAR  CLIENTS, ABOUT",
        "in the last minute  1        -       -          -     1",
        "in the last hour    5        -       -          -     2",
        "since 2h ago        9        1       0          0     -",
        "",
        "busiest in the last hour:",
        "(none)",
        "",
        "refused most in the last hour:",
        "(none)",
    ]


@pytest.mark.parametrize(
    ("held", "text"),
    [
        (
            {"rate": "9/m", "reason": "test", "by": "bob", "added_us": 1, "until_us": NOW_US},
            "rate 9/m, until 2027-01-15 08:00:00 UTC, reason test, by bob",
        ),
        ({"blocked": True, "until_us": 0}, "blocked"),
        ({"until_us": 10**30}, '{"until_us": 1000000000000000000000000000000}'),
        ("x", "x"),
    ],
)
def test_an_exception_of_a_key_says_what_until_when_and_why(held: Any, text: str) -> None:
    body = {"name": "a", "override": held}
    assert VIEWS["key"](body).splitlines()[-1] == f"a has an exception for this key: {text}"
    told = VIEWS["key"]({**body, "own_rate": "3/m", "rate": "9/m"}).splitlines()
    assert told[-1].endswith(f"{text}; all other keys have 3/m")
    assert "9/m (exception)" in told[1]


@pytest.mark.parametrize(
    ("reset_s", "text"),
    [
        (0, "0s"),
        (0.1, "1s"),
        (59.01, "1m"),
        (61, "1m 1s"),
        (193_278, "2d 5h"),
        (86_405, "1d"),
        (7200, "2h"),
        (None, ""),
        (-1, ""),
        (float("nan"), ""),
        ("x", ""),
    ],
)
def test_a_wait_is_in_whole_seconds_and_never_too_short(reset_s: Any, text: str) -> None:
    assert limit_tables.in_seconds(reset_s) == text


def test_what_is_never_free_again_says_never() -> None:
    body = {"name": "a", "key": "k", "remaining": 0, "limit": 2}
    assert "never" in VIEWS["key"]({**body, "reset_s": None}).splitlines()[1]
    assert "never" not in VIEWS["key"](body), "another version says nothing"


def test_the_verdict_comes_first_and_why_a_limit_refuses_last() -> None:
    body = {
        "verdict": "refused by a; retry after 9 s, at 2027-01-15 08:00:00 UTC",
        "steps": [{"what": "client", "decided": "::1", "why": "the peer", "status": None}],
        "limits": [
            {
                "name": "a", "rate": "20/m", "burst": 15, "by": ["client_ip"], "key": "::1", "limit": 15,
                "remaining": 0, "reset_s": 45, "allowed": False, "outcome": "refuses: costs 1, 0 left",
                "why": "any request", "counted_by": "this instance",
            },
            {"name": "b", "outcome": "passes", "allowed": True, "counted_by": "fleet"},
        ],
    }  # fmt: skip

    assert VIEWS["explain"](body).splitlines() == [
        "refused by a; retry after 9 s, at 2027-01-15 08:00:00 UTC",
        "",
        "STEP    DECIDED  WHY",
        "client  ::1      the peer",
        "",
        "LIMIT  RATE                BY         KEY  LEFT  OF  FULL AGAIN IN  PASSES  COUNTS",
        "a      20/m, bucket of 15  client_ip  ::1  0     15  45s            no      any request",
        "b      -                   -          -    -     -   -              yes     -",
        "",
        "a refuses: costs 1, 0 left",
        "told by this instance alone: the store is away, or not shared",
    ]


def test_a_request_that_no_limit_counts_says_so() -> None:
    assert VIEWS["explain"]({"steps": [], "limits": []}) == "(none)\n\nno limit counts it"


NAMES = [
    "name", "limit", "key", "remaining", "reset_s", "override", "top", "requests", "denied", "by", "window",
    "windows", "1m", "1h", "unique_clients", "steps", "limits", "what", "decided", "why", "rate", "match",
    "counted_by", "since_us", "top_denied", "allowed", "reset", "until_us", "reason", "outcome", "cost",
    "verdict", "own_rate", "burst",
]  # fmt: skip
plain = st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=5)
anything = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5),
    max_leaves=12,
)


@pytest.mark.parametrize("what", list(VIEWS))
@given(body=anything)
def test_an_answer_of_any_shape_is_shown_and_acts_on_no_terminal(what: str, body: Any) -> None:
    """The other side may be of another version, or no gateway at all."""
    assert all(line.isprintable() for line in VIEWS[what](body).split("\n"))


@given(st.dictionaries(st.text(max_size=6), st.text(max_size=6), max_size=4))
def test_names_that_are_not_known_act_on_no_terminal_either(body: dict[str, str]) -> None:
    assert all(line.isprintable() for line in VIEWS["key"](body).split("\n"))
