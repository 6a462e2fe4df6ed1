"""Limits as the author of an app writes them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway import MessageLimit, RateLimiter, RouteLimit
from silence_gateway.asgi.route_limit import MAX_NAME, name_of
from silence_gateway.core.limits import LIMIT_NAME, Algorithm


@pytest.mark.parametrize(
    ("limit", "name"),
    [
        (RouteLimit("100/minute"), "all-100-per-m"),
        (RouteLimit("5/minute", path="/Login", methods=["POST"]), "post-login-5-per-m"),
        (RouteLimit("10/30s", key="user"), "all-10-per-30s-by-user"),
        (RouteLimit("5/minute", path="/items/{id:int}"), "items-id-int-5-per-m"),
        (MessageLimit("10/s", key="connection"), "messages-all-10-per-s-by-connection"),
        (RouteLimit("5/minute", name="login"), "login"),
    ],
)
def test_a_rate_is_named_after_where_it_applies_whom_it_counts_and_how_many(
    limit: RouteLimit | MessageLimit, name: str
) -> None:
    assert limit.rule.name == name
    assert limit.rule.algorithm is Algorithm.SLIDING_WINDOW


@given(st.lists(st.text(max_size=60), max_size=5))
def test_a_name_is_one_whatever_it_is_made_of(words: list[str]) -> None:
    name = name_of([*words, "5"])

    assert LIMIT_NAME.fullmatch(name)
    assert len(name) <= MAX_NAME
    assert name == name_of([*words, "5"])


def test_long_places_have_names_of_their_own() -> None:
    one, other = (RouteLimit("1/s", path="/" + "a" * 80 + end).rule.name for end in ("b", "c"))

    assert one != other


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"methods": "POST"}, TypeError, "methods are a list"),
        ({"path": "items"}, ValueError, "items"),
        ({"cost": 0}, ValueError, "never fits"),
        ({"cost": 6}, ValueError, "never fits"),
        ({"settle_by": "not a header"}, ValueError, "no name of a header"),
        ({"ipv6_prefix": 8}, ValueError, "ipv6_prefix"),
        ({"key": "connection"}, ValueError, "no key for requests"),
        ({"name": "a b"}, ValueError, "name"),
    ],
)
def test_what_is_wrong_is_said_when_the_limit_is_made(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        RouteLimit("5/minute", **options)


def test_what_does_not_go_with_a_declared_limit_is_said_too() -> None:
    limiter = RateLimiter()
    places, rate = limiter.concurrency("places", 3), limiter.limit("rate", "5/s")

    assert RouteLimit(places).rule is places.rule
    assert RouteLimit(rate, name="rate").rule is rate.rule
    with pytest.raises(ValueError, match="declared by that name"):
        RouteLimit(rate, name="other")
    for options in ({"cost": 2}, {"settle_by": "x-cost"}, {"cost": lambda _: 1}):
        with pytest.raises(ValueError, match="no cost"):
            RouteLimit(places, **options)
    with pytest.raises(ValueError, match="5"):
        RouteLimit("many")
