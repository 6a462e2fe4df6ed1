"""What a rule is: windows, wildcards, and levels of the tree."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.rls_rules import MAX_REQUESTS, Branch, Level, Limit, Rule, RuleSet, Unit, Wildcard


@pytest.mark.parametrize(
    ("unit", "seconds"),
    [
        (Unit.SECOND, 1),
        (Unit.MINUTE, 60),
        (Unit.HOUR, 3_600),
        (Unit.DAY, 86_400),
        (Unit.WEEK, 604_800),
        pytest.param(Unit.MONTH, 2_592_000, id="a month has 30 days"),
        pytest.param(Unit.YEAR, 31_536_000, id="a year has 365 days"),
    ],
)
def test_a_window_is_as_long_as_its_unit_says(unit: Unit, seconds: int) -> None:
    assert Limit(1, unit).window_us == seconds * 1_000_000
    assert Limit(1, unit, 10).window_us == seconds * 10_000_000


@pytest.mark.parametrize(
    ("requests", "unit", "multiplier"),
    [
        pytest.param(-1, Unit.SECOND, 1, id="negative"),
        pytest.param(MAX_REQUESTS + 1, Unit.SECOND, 1, id="too-many"),
        pytest.param(1, Unit.SECOND, 0, id="no-window"),
        pytest.param(1, Unit.YEAR, 101, id="too-long"),
    ],
)
def test_a_limit_that_cannot_be_counted_is_refused(requests: int, unit: Unit, multiplier: int) -> None:
    with pytest.raises(ValueError, match=r"a limit|a window"):
        Limit(requests, unit, multiplier)


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("foo*", ["foo", "foobar", "foo*"], ["fo", "xfoo", ""]),
        ("*", ["", "anything"], []),
        ("*bar", ["bar", "foobar"], ["barx", "ba"]),
        (
            "/api/*/action",
            ["/api/1/action", "/api//action", "/api/a/b/action"],
            ["/api/action", "/api/1/other"],
        ),
        ("a*b*c", ["abc", "a1b2c", "abbc", "abcbc"], ["acb", "ab", "a1c"]),
        pytest.param("ab*ba", ["abba", "abxba"], ["aba"], id="the ends do not share a character"),
        ("**", ["", "x"], []),
    ],
)
def test_a_star_stands_for_any_characters(pattern: str, matching: list[str], others: list[str]) -> None:
    wildcard = Wildcard(pattern)

    assert [value for value in matching if not wildcard.matches(value)] == []
    assert [value for value in others if wildcard.matches(value)] == []


@given(st.text("ab*", max_size=8).filter(lambda text: "*" in text), st.text("ab*\n", max_size=12))
def test_a_wildcard_agrees_with_a_regular_expression(pattern: str, value: str) -> None:
    expression = ".*".join(re.escape(part) for part in pattern.split("*"))

    assert Wildcard(pattern).matches(value) is bool(re.fullmatch(expression, value, re.DOTALL))


def test_two_branches_with_one_key_and_value_are_refused() -> None:
    Level([Branch(key="a"), Branch(key="a", value="b"), Branch(key="a", value="c")])

    for twice in ("", "b"):
        with pytest.raises(ValueError, match="two descriptors"):
            Level([Branch(key="a", value=twice), Branch(key="a", value=twice)])


def test_rules_are_listed_by_their_full_names() -> None:
    rule = Rule(limit=None)
    inner = Level([Branch(key="user", rule=rule), Branch(key="path", value="/x", rule=rule)])
    rules = RuleSet({"shop": Level([Branch(key="tenant", value="acme", rule=rule, inner=inner)])})

    assert [name for name, _ in rules.rules()] == [
        "shop.tenant_acme",
        "shop.tenant_acme.user",
        "shop.tenant_acme.path_/x",
    ]
