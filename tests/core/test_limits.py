"""Limits as values, and several decisions as one answer."""

from __future__ import annotations

from typing import Any

import pytest

from silence_gateway.core.limits import (
    NEVER,
    Algorithm,
    Alignment,
    Ask,
    Decision,
    LimitRule,
    Mode,
    refusal_of,
)
from silence_gateway.core.rates import Rate, rate_per_months

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


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"algorithm": Algorithm.CONCURRENCY}, "takes max, and no rate"),
        ({"algorithm": Algorithm.CONCURRENCY, "rate": MINUTE, "max": 3}, "takes max, and no rate"),
        ({"algorithm": Algorithm.CONCURRENCY, "max": 0}, "max is 1 to"),
        ({"algorithm": Algorithm.CONCURRENCY, "max": 3, "ttl_us": 5}, "ttl is 1s to 24h"),
        ({"algorithm": Algorithm.CONCURRENCY, "max": 3, "block_us": 5}, "belong to limits with a rate"),
        ({"algorithm": Algorithm.CONCURRENCY, "max": 3, "lease": 5}, "belong to limits with a rate"),
        ({"algorithm": Algorithm.SLIDING_COUNTER}, "takes a rate"),
        ({"algorithm": Algorithm.SLIDING_WINDOW, "rate": MINUTE, "max": 3}, "max belongs to concurrency"),
        ({"algorithm": Algorithm.SLIDING_WINDOW, "rate": rate_per_months(9, 1)}, "no one length"),
        (
            {
                "algorithm": Algorithm.FIXED_WINDOW,
                "rate": rate_per_months(9, 1),
                "align": Alignment.FIRST_HIT,
            },
            "no one length",
        ),
        (
            {"algorithm": Algorithm.TOKEN_BUCKET, "rate": MINUTE, "align": Alignment.FIRST_HIT},
            "align belongs to fixed_window",
        ),
        ({"algorithm": Algorithm.SLIDING_WINDOW, "rate": MINUTE, "block_us": -1}, "block_for is 0s to 366d"),
        (
            {"algorithm": Algorithm.SLIDING_WINDOW, "rate": MINUTE, "block_us": 5, "lease": 5},
            "do not go together",
        ),
        ({"algorithm": Algorithm.SLIDING_WINDOW, "rate": MINUTE, "lease": 101}, "more than the limit"),
    ],
)
def test_what_does_not_go_together_is_refused_with_a_reason(said: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LimitRule(name="a", **said)


def test_rules_share_their_counts_only_where_these_mean_the_same() -> None:
    def counter(algorithm: Algorithm, rate: Rate, **more: Any) -> str:
        return LimitRule(name="a", algorithm=algorithm, rate=rate, **more).counter

    window, fixed = Algorithm.SLIDING_WINDOW, Algorithm.FIXED_WINDOW
    assert counter(window, MINUTE) == counter(window, Rate(5, 1_000_000))
    assert counter(Algorithm.SLIDING_COUNTER, MINUTE) == counter(
        Algorithm.SLIDING_COUNTER, Rate(5, 60_000_000)
    )
    assert counter(Algorithm.SLIDING_COUNTER, MINUTE) != counter(
        Algorithm.SLIDING_COUNTER, Rate(100, 1_000_000)
    )
    assert counter(fixed, MINUTE) != counter(fixed, MINUTE, align=Alignment.FIRST_HIT)
    assert counter(fixed, rate_per_months(5, 1)) != counter(fixed, rate_per_months(5, 2))
    assert counter(Algorithm.TOKEN_BUCKET, MINUTE) != counter(Algorithm.TOKEN_BUCKET, Rate(101, 60_000_000))
