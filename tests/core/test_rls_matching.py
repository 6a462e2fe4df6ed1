"""Which rule a descriptor meets, how it is counted for people, and in which counter."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.rls_matching import Entry, counter_key, match, override_statistic
from silence_gateway.core.rls_rules import Branch, Level, Limit, Rule, Unit

LIMIT = Limit(10, Unit.MINUTE)
RULE = Rule(limit=LIMIT)
DETAILED = Rule(limit=LIMIT, detailed_metric=True)


def leaf(key: str, value: str = "", rule: Rule = RULE, **more: Any) -> Branch:
    return Branch(key=key, value=value, rule=rule, **more)


def path(key: str, value: str, *inner: Branch, **more: Any) -> Branch:
    return Branch(key=key, value=value, inner=Level(inner), **more)


TREE = Level(
    [
        leaf("addr"),
        leaf("addr", "50.0.0.5"),
        leaf("file", "top*"),
        leaf("file", "to*"),
        leaf("file", "topmost"),
        leaf("mid", "/api/*/x"),
        leaf("shared", "s/*", share_threshold=True),
        leaf("shown", value_to_metric=True),
        leaf("shown", "w*", value_to_metric=True),
        leaf("both", "b/*", share_threshold=True, value_to_metric=True),
        leaf("detail", rule=DETAILED),
        leaf("wild*"),
        leaf("a_b"),
        leaf("c", "d_e"),
        path("tenant", "acme", leaf("user"), leaf("user", "bob"), path("deep", "", leaf("deeper"))),
        Branch(key="both ways", rule=RULE, inner=Level([leaf("more")])),
        Branch(key="nothing"),
        path("group", "g*", leaf("path", rule=DETAILED), share_threshold=True),
        path("route", "", path("method", "", leaf("id"), value_to_metric=True), value_to_metric=True),
        path("outer", "o*", path("inner", "i*", leaf("last")), share_threshold=True),
    ]
)


@pytest.mark.parametrize(
    ("entries", "statistic"),
    [
        pytest.param([("addr", "1.2.3.4")], "d.addr", id="key alone"),
        pytest.param([("addr", "")], "d.addr", id="key alone without a value"),
        pytest.param([("addr", "50.0.0.5")], "d.addr_50.0.0.5", id="key and value before key alone"),
        pytest.param([("file", "topmost")], "d.file_topmost", id="key and value before wildcards"),
        pytest.param([("file", "top")], "d.file_top*", id="a star for nothing"),
        pytest.param([("file", "topper")], "d.file_top*", id="the first wildcard in the file"),
        pytest.param([("file", "tower")], "d.file_to*", id="the next wildcard"),
        pytest.param([("file", "to*")], "d.file_to*", id="a star itself is the wildcard's own value"),
        pytest.param([("file", "x")], None, id="no wildcard, no key alone"),
        pytest.param([("mid", "/api/1/x")], "d.mid_/api/*/x", id="star in the middle"),
        pytest.param([("shared", "s/1")], "d.shared_s/*", id="shared"),
        pytest.param([("shown", "v")], "d.shown_v", id="value_to_metric for a key alone"),
        pytest.param([("shown", "")], "d.shown", id="value_to_metric without a value"),
        pytest.param([("shown", "wv")], "d.shown_wv", id="value_to_metric for a wildcard"),
        pytest.param([("both", "b/1")], "d.both_b/*", id="share_threshold before value_to_metric"),
        pytest.param([("detail", "v")], "d.detail_v", id="detailed_metric"),
        pytest.param([("detail", "")], "d.detail_", id="detailed_metric without a value"),
        pytest.param([("wildest", "v")], "d.wildest", id="star in a key"),
        pytest.param([("a", "b")], None, id="a key with _ is not a key and a value"),
        pytest.param([("c_d", "e")], None, id="a value with _ is not part of a key"),
        pytest.param([("unknown", "v")], None, id="unknown key"),
        pytest.param([("Addr", "v")], None, id="capitals count"),
        pytest.param([("tenant", "acme")], None, id="a branch without a rule"),
        pytest.param([("tenant", "acme"), ("user", "al")], "d.tenant_acme.user", id="nested"),
        pytest.param([("tenant", "acme"), ("user", "bob")], "d.tenant_acme.user_bob", id="nested value"),
        pytest.param([("tenant", "evil"), ("user", "al")], None, id="the outer value differs"),
        pytest.param(
            [("tenant", "acme"), ("deep", "1"), ("deeper", "2")], "d.tenant_acme.deep.deeper", id="three"
        ),
        pytest.param([("addr", "1.2.3.4"), ("user", "al")], None, id="deeper than the rule"),
        pytest.param([("tenant", "acme"), ("deep", "1")], None, id="less deep than the rule"),
        pytest.param([("both ways", "1")], "d.both ways", id="a rule with branches below"),
        pytest.param([("both ways", "1"), ("more", "2")], "d.both ways.more", id="and the one below"),
        pytest.param([("nothing", "1")], None, id="neither rule nor branches"),
        pytest.param([("group", "g1"), ("path", "/x")], "d.group_g*.path_/x", id="detailed with shared"),
        pytest.param([("group", "g1"), ("path", "")], "d.group_g*.path", id="detailed, shared, no value"),
        pytest.param(
            [("route", "api"), ("method", "GET"), ("id", "7")],
            "d.route_api.method_GET.id",
            id="values on the way",
        ),
        pytest.param(
            [("outer", "o1"), ("inner", "i1"), ("last", "x")], "d.outer_o*.inner_i*.last", id="mixed"
        ),
        pytest.param([], None, id="no entries"),
    ],
)
def test_a_descriptor_meets_the_most_specific_rule(entries: list[Entry], statistic: str | None) -> None:
    found = match("d", TREE, entries)

    assert (found.statistic if found else None) == statistic


@pytest.mark.parametrize(
    ("entries", "counted"),
    [
        ([("addr", "1.2.3.4")], [("addr", "1.2.3.4")]),
        pytest.param([("file", "topper")], [("file", "topper")], id="values of a wildcard count apart"),
        pytest.param([("shared", "s/1")], [("shared", "s/*")], id="unless they share a threshold"),
        pytest.param([("shared", "s/*")], [("shared", "s/*")], id="the pattern itself shares it too"),
        pytest.param([("group", "g1"), ("path", "/x")], [("group", "g*"), ("path", "/x")], id="on the way"),
        pytest.param(
            [("outer", "o1"), ("inner", "i1"), ("last", "x")],
            [("outer", "o*"), ("inner", "i1"), ("last", "x")],
            id="only where it is set",
        ),
    ],
)
def test_values_count_apart_unless_they_share_a_threshold(entries: list[Entry], counted: list[Entry]) -> None:
    found = match("d", TREE, entries)

    assert found is not None
    assert list(found.counted) == counted


def test_a_limit_that_the_caller_brings_is_counted_under_its_values() -> None:
    assert override_statistic("d", [("a", "1"), ("b", "")]) == "d.a_1.b"
    assert override_statistic("d", []) == "d."


# A simple oracle: every branch that could be meant, ranked.

KEYS = st.sampled_from(["k", "kk", "k_v"])
VALUES = st.sampled_from(["", "v", "vv", "w", "v*", "*v", "v*w", "*"])


def levels(depth: int) -> st.SearchStrategy[Level]:
    inner = levels(depth - 1) if depth else st.just(Level(()))
    branch = st.builds(
        Branch,
        key=KEYS,
        value=VALUES,
        rule=st.sampled_from([None, RULE, DETAILED]),
        value_to_metric=st.booleans(),
        inner=inner,
    )
    unique = st.lists(branch, max_size=4, unique_by=lambda one: (one.key, one.value))
    return unique.map(Level)


def taken_by_oracle(level: Level, key: str, value: str) -> Branch | None:
    def rank(numbered: tuple[int, Branch]) -> tuple[int, int]:
        place, branch = numbered
        if branch.value == value and value:
            return 0, place
        return (1 if branch.value else 2), place

    fitting = [
        (place, branch)
        for place, branch in enumerate(level.branches)
        if branch.key == key
        and (
            not branch.value
            or branch.value == value
            or ("*" in branch.value and re.fullmatch(branch.value.replace("*", ".*"), value))
        )
    ]
    return min(fitting, key=rank)[1] if fitting else None


def rule_by_oracle(level: Level, entries: Sequence[Entry]) -> Rule | None:
    branch = None
    for key, value in entries:
        branch = taken_by_oracle(level, key, value)
        if branch is None:
            return None
        level = branch.inner
    return branch.rule if branch is not None else None


@given(
    levels(2), st.lists(st.tuples(KEYS, st.sampled_from(["", "v", "vv", "vw", "xv", "z", "v*"])), max_size=4)
)
def test_matching_agrees_with_a_simple_search(level: Level, entries: list[Entry]) -> None:
    found = match("d", level, entries)

    assert (found.rule if found else None) is rule_by_oracle(level, entries)


ANY_ENTRIES = st.lists(
    st.tuples(st.text("ab_=,.~%é:", max_size=4), st.text("ab_=,.~%é:", max_size=4)), max_size=3
)


@given(ANY_ENTRIES, ANY_ENTRIES)
def test_different_entries_have_different_counters(one: list[Entry], other: list[Entry]) -> None:
    assert (counter_key(one) == counter_key(other)) is (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param([("a", "b_c")], [("a_b", "c")], id="envoyproxy/ratelimit counts these together"),
        ([("a", "b=c")], [("a=b", "c")]),
        ([("a", "b,c=d")], [("a", "b"), ("c", "d")]),
        ([("a", "")], [("a=", "")]),
        ([("a", "~2C")], [("a", ",")]),
        ([("a", "x" * 500)], [("a", "x" * 499), ("", "x")]),
        pytest.param([("a", "x" * 500)], [(counter_key([("a", "x" * 500)]), "")], id="a hash as a key"),
        ([("a", "\ud800")], [("a", "?")]),
    ],
)
def test_nobody_can_forge_the_counter_of_another(one: list[Entry], other: list[Entry]) -> None:
    assert counter_key(one) != counter_key(other)


@given(st.lists(st.tuples(st.text(), st.text()), max_size=6))
def test_keys_are_short_and_plain(entries: list[Entry]) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_.@/+=,~-]{0,120}", counter_key(entries))


def test_a_plain_key_can_be_read() -> None:
    assert counter_key([("tenant", "acme"), ("path", "/v1/orders")]) == "tenant=acme,path=/v1/orders"
    assert counter_key([("ip", "2001:db8::1")]) == "ip=2001~3Adb8~3A~3A1"
