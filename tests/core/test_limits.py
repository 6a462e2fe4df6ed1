"""Limits as values, and several decisions as one answer."""

from __future__ import annotations

import pytest

from silence_gateway.core.limits import NEVER, Algorithm, Ask, Decision, LimitRule, Mode, refusal_of
from silence_gateway.core.rates import Rate

MINUTE = Rate(100, 60_000_000)


def rule(name: str = "login", mode: Mode = Mode.ENFORCE) -> LimitRule:
    return LimitRule(name=name, algorithm=Algorithm.SLIDING_WINDOW, rate=MINUTE, mode=mode)


def passed() -> Decision:
    return Decision(True, 100, 99, 0, 60_000_000)


def refused(retry_after_us: int) -> Decision:
    return Decision(False, 100, 0, retry_after_us, 60_000_000)


@pytest.mark.parametrize("name", ["", "a b", "-a", "a{b}", "x" * 65, "é", "a:b", "a\n"])
def test_a_name_that_could_confuse_a_key_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="1 to 64 letters"):
        rule(name)


def test_a_burst_belongs_to_a_token_bucket() -> None:
    with pytest.raises(ValueError, match="burst belongs to token_bucket"):
        LimitRule(name="a", algorithm=Algorithm.SLIDING_WINDOW, rate=MINUTE, burst=5)
    with pytest.raises(ValueError, match="at least 1"):
        LimitRule(name="a", algorithm=Algorithm.TOKEN_BUCKET, rate=MINUTE, burst=0)


def test_a_bucket_that_lua_could_not_count_exactly_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be counted exactly"):
        LimitRule(
            name="a", algorithm=Algorithm.TOKEN_BUCKET, rate=Rate(1, 31_622_400_000_000), burst=1_000_000
        )


def test_all_must_allow() -> None:
    asks = [Ask(rule("a"), "k"), Ask(rule("b"), "k")]

    assert refusal_of(asks, [passed(), passed()]) is None
    assert refusal_of(asks, [passed(), refused(5)]) == (("b",), 5)


def test_a_refusal_names_everyone_and_waits_for_the_slowest() -> None:
    asks = [Ask(rule("a"), "k"), Ask(rule("b"), "k"), Ask(rule("c"), "k")]

    assert refusal_of(asks, [refused(7), passed(), refused(5)]) == (("a", "c"), 7)


def test_never_outlasts_every_wait() -> None:
    asks = [Ask(rule("a"), "k"), Ask(rule("b"), "k")]

    assert refusal_of(asks, [refused(NEVER), refused(5)]) == (("a", "b"), NEVER)
    assert refusal_of(asks, [refused(5), refused(NEVER)]) == (("a", "b"), NEVER)


def test_a_shadow_limit_refuses_nothing() -> None:
    asks = [Ask(rule("a", Mode.SHADOW), "k"), Ask(rule("b"), "k")]

    assert refusal_of(asks, [refused(5), passed()]) is None
