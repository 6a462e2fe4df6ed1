"""What a caller is told about its limits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.limit_headers import LimitHeaders
from silence_gateway.core.limits import NEVER, Algorithm, Decision, LimitRule, Mode
from silence_gateway.core.rates import Rate


def rule(name: str, window_us: int = 60_000_000, mode: Mode = Mode.ENFORCE) -> LimitRule:
    return LimitRule(name=name, algorithm=Algorithm.SLIDING_WINDOW, rate=Rate(100, window_us), mode=mode)


def test_an_allowed_answer_tells_policy_and_what_is_left() -> None:
    lines = LimitHeaders([rule("login")]).allowed([Decision(True, 100, 99, 0, 59_000_001)])

    assert lines == [(b"RateLimit-Policy", b'"login";q=100;w=60'), (b"RateLimit", b'"login";r=99;t=60')]


def test_several_limits_are_one_list() -> None:
    headers = LimitHeaders([rule("a"), rule("b", 500_000)])
    lines = headers.allowed([Decision(True, 100, 99, 0, 1_000_000), Decision(True, 100, 4, 0, 1)])

    assert lines == [
        (b"RateLimit-Policy", b'"a";q=100;w=60, "b";q=100'),
        (b"RateLimit", b'"a";r=99;t=1, "b";r=4;t=1'),
    ]


def test_a_refusal_lists_who_refused_and_rounds_the_wait_up() -> None:
    headers = LimitHeaders([rule("a"), rule("b")])
    lines = headers.refused(
        [Decision(False, 100, 0, 1_000_001, 60_000_000), Decision(True, 100, 4, 0, 9)], 1_000_001
    )

    assert lines[1:] == [(b"RateLimit", b'"a";r=0;t=2'), (b"Retry-After", b"2")]


def test_what_can_never_pass_has_no_retry_after() -> None:
    lines = LimitHeaders([rule("a")]).refused([Decision(False, 100, 7, NEVER, 0)], NEVER)

    assert lines[1:] == [(b"RateLimit", b'"a";r=7')]


def test_a_shadow_limit_is_not_shown() -> None:
    shadow = rule("s", mode=Mode.SHADOW)
    allowed = Decision(True, 100, 99, 0, 1)

    assert LimitHeaders([shadow]).allowed([allowed]) == []
    assert LimitHeaders([shadow, rule("a")]).allowed([Decision(False, 100, 0, 5, 5), allowed]) == [
        (b"RateLimit-Policy", b'"a";q=100;w=60'),
        (b"RateLimit", b'"a";r=99;t=1'),
    ]


@given(st.lists(st.integers(1, 10**13), min_size=1, max_size=4))
def test_retry_after_never_points_earlier_than_a_t(waits_us: list[int]) -> None:
    rules = [rule(f"l{index}") for index in range(len(waits_us))]
    decisions = [Decision(False, 100, 0, wait_us, wait_us) for wait_us in waits_us]

    lines = dict(LimitHeaders(rules).refused(decisions, max(waits_us)))

    shown = [int(item.rpartition(b"t=")[2]) for item in lines[b"RateLimit"].split(b", ")]
    assert int(lines[b"Retry-After"]) == max(shown)
    assert int(lines[b"Retry-After"]) * 1_000_000 >= max(waits_us)
