"""Channel names, and what a name alone decides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core import centrifuge_codes as codes
from silence_gateway.core.channels import NamespaceRules, is_name, look_up, may_enter, namespace_of

RULES = {"": NamespaceRules(), "chat": NamespaceRules(publish=True)}


@pytest.mark.parametrize(
    ("channel", "namespace"),
    [("news", ""), ("chat:a", "chat"), ("chat:a:b", "chat"), ("$chat:a", "chat"), (":a", ""), ("a#b", "")],
)
def test_the_namespace_stands_before_the_first_colon(channel: str, namespace: str) -> None:
    assert namespace_of(channel) == namespace


@pytest.mark.parametrize(
    "channel",
    ["", "x" * 256, "ü" * 128, "a\nb", "a\x00", "\x7f", "\ud800", "a\u2028b"],
)
def test_what_cannot_be_a_name_is_a_bad_request(channel: str) -> None:
    assert look_up(channel, RULES) is codes.BAD_REQUEST


@pytest.mark.parametrize("channel", ["x" * 255, "ü" * 127, "a b", "日本", "👩\u200d💻"])
def test_long_and_foreign_names_are_names(channel: str) -> None:
    assert look_up(channel, RULES) is RULES[""]


def test_a_namespace_that_is_not_configured_is_an_unknown_channel() -> None:
    assert look_up("other:a", RULES) is codes.UNKNOWN_CHANNEL
    assert look_up("a", {"chat": NamespaceRules()}) is codes.UNKNOWN_CHANNEL


@pytest.mark.parametrize(
    ("channel", "user", "allowed"),
    [
        ("news", "", True),
        ("dialog#42,43", "42", True),
        ("dialog#42,43", "4", False),
        ("dialog#42,43", "", False),
        ("dialog#", "", False),
        ("#7", "7", True),
        ("$secret", "7", False),
    ],
)
def test_a_name_may_say_who_may_enter(channel: str, user: str, allowed: bool) -> None:
    assert (may_enter(channel, user) is None) is allowed


@given(st.text())
def test_every_name_can_be_encoded(channel: str) -> None:
    if is_name(channel):
        assert 0 < len(channel.encode()) <= 255
