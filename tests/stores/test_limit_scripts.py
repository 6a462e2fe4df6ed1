"""The scripts about limits: what is in them, and how a rule is told to them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from silence_gateway.core.limits import Algorithm, Alignment, LimitRule, Mode
from silence_gateway.core.rates import parse_rate
from silence_gateway.stores.limit_scripts import (
    FILE_OF_KIND,
    MARGIN_MS,
    SHORT_US,
    declaration,
    part,
    script_for,
)


def rule_of(rate: str | None = "100/minute", **values: Any) -> LimitRule:
    algorithm = Algorithm(values.pop("algorithm", "sliding_window"))
    return LimitRule(name="l", algorithm=algorithm, rate=None if rate is None else parse_rate(rate), **values)


RULES = [
    rule_of(),
    rule_of(algorithm="sliding_counter"),
    rule_of(algorithm="token_bucket"),
    rule_of(algorithm="fixed_window"),
    rule_of(algorithm="fixed_window", align=Alignment.FIRST_HIT),
    rule_of(None, algorithm="concurrency", max=3),
]


def test_a_script_has_the_algorithms_of_its_rules_and_no_others() -> None:
    script = script_for("decide", ["b", "w", "b"])

    assert script.name == "limits_decide (sliding_window, token_bucket)"
    assert [name for name in set(FILE_OF_KIND.values()) if part(name) in script.text] != []
    for name in set(FILE_OF_KIND.values()):
        assert (part(name) in script.text) is (name in {"sliding_window", "token_bucket"})
    assert script.text.startswith(part("prologue"))
    assert script.text.endswith(part("decide"))


def test_the_same_rules_are_the_same_script_in_whatever_order() -> None:
    """A store loads each once."""
    assert script_for("decide", "wb") is script_for("decide", ["b", "w"])
    assert script_for("decide", "f") is script_for("decide", "h")
    assert script_for("decide", "w") is not script_for("adjust", "w")


def test_every_kind_of_rule_has_its_file_and_every_file_its_row() -> None:
    assert {rule.kind for rule in RULES} == FILE_OF_KIND.keys()
    for kind, name in FILE_OF_KIND.items():
        assert re.search(rf"kinds\.{kind}\b", part(name))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.algorithm.value}-{rule.align.value}")
def test_a_rule_is_told_in_eight_arguments_that_a_server_reads_as_they_are(rule: LimitRule) -> None:
    told = declaration(rule)

    assert len(told) == 8
    assert told[0] == rule.kind.encode()
    assert told[1] == rule.capacity
    assert all(isinstance(value, bytes) or type(value) is int for value in told)
    assert all(value < 2**53 for value in told if isinstance(value, int))
    assert int(told[5]) >= MARGIN_MS


@pytest.mark.parametrize(
    ("rule", "ttl_ms"),
    [
        pytest.param(rule_of("1/minute"), b"69500", id="window-and-an-eighth"),
        pytest.param(rule_of("1/s", algorithm="sliding_counter"), b"4000", id="two-windows"),
        pytest.param(rule_of("2/s", algorithm="token_bucket", burst=4), b"5000", id="as-long-as-it-fills"),
        pytest.param(rule_of("1/hour", algorithm="fixed_window"), b"3602000", id="its-window"),
        pytest.param(rule_of("1/day"), b"", id="a-long-one-by-itself"),
        pytest.param(
            rule_of(None, algorithm="concurrency", max=1, ttl_us=30_000_000), b"32000", id="its-time-to-live"
        ),
    ],
)
def test_short_keys_live_as_long_as_the_longest_of_their_rule(rule: LimitRule, ttl_ms: bytes) -> None:
    assert declaration(rule)[5] == ttl_ms
    assert not ttl_ms or int(ttl_ms) <= SHORT_US / 1000 + MARGIN_MS


def test_modes_and_blocks_are_told() -> None:
    assert declaration(rule_of(mode=Mode.SHADOW))[6:] == (1, 0)
    assert declaration(rule_of(block_us=5_000_000))[6:] == (0, 5_000_000)
