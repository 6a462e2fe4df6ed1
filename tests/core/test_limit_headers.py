"""What a caller is told about its limits."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.limit_headers import (
    CONCURRENT,
    HeaderForm,
    LimitHeaders,
    LimitPolicy,
    policy_of,
)
from silence_gateway.core.limits import NEVER, Algorithm, Decision, LimitRule, Mode
from silence_gateway.core.rates import Rate, parse_rate


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


def test_a_bucket_is_described_by_what_it_holds_and_how_long_it_takes_to_fill() -> None:
    bucket = LimitRule(name="b", algorithm=Algorithm.TOKEN_BUCKET, rate=Rate(20, 60_000_000), burst=15)
    lines = LimitHeaders([bucket]).allowed([Decision(True, 15, 14, 0, 3_000_000)])

    assert lines == [(b"RateLimit-Policy", b'"b";q=15;w=45'), (b"RateLimit", b'"b";r=14;t=3')]


@given(st.integers(1, 10**6), st.integers(1_000, 10**12), st.none() | st.integers(1, 10**6))
def test_no_more_is_ever_left_than_the_quota_of_the_policy(
    count: int, window_us: int, burst: int | None
) -> None:
    rate = Rate(count, window_us)
    try:
        rules = [
            LimitRule(name="l", algorithm=Algorithm.SLIDING_WINDOW, rate=rate),
            LimitRule(name="l", algorithm=Algorithm.TOKEN_BUCKET, rate=rate, burst=burst),
        ]
    except ValueError:
        return
    for each in rules:
        policy = policy_of(each)
        assert policy.quota == each.capacity
        assert policy.window_us is not None
        # The same rate, in the unit of time that fits the quota: not faster, and slower by no microsecond.
        assert 0 <= policy.window_us * count - policy.quota * window_us < count


@pytest.mark.parametrize(
    ("window_us", "shown"),
    [(None, b""), (1_000, b""), (999_999, b""), (1_000_000, b";w=1"), (1_500_000, b";w=2")],
)
def test_a_window_is_told_in_whole_seconds_or_not_at_all(window_us: int | None, shown: bytes) -> None:
    policy = LimitPolicy(name="l", quota=5, window_us=window_us)

    assert LimitHeaders([policy]).policy_line == (b"RateLimit-Policy", b'"l";q=5' + shown)


def test_a_quota_without_a_window_has_a_unit_and_no_time() -> None:
    policy = LimitPolicy(name="open", quota=20, window_us=None, timed=False, unit=CONCURRENT)
    headers = LimitHeaders([policy])

    assert headers.allowed([Decision(True, 20, 19, 0, 30_000_000)]) == [
        (b"RateLimit-Policy", b'"open";q=20;qu="concurrent-requests"'),
        (b"RateLimit", b'"open";r=19'),
    ]
    assert headers.refused([Decision(False, 20, 0, 1_000_000, 30_000_000)], 1_000_000)[1:] == [
        (b"RateLimit", b'"open";r=0'),
        (b"Retry-After", b"1"),
    ]
    assert LimitHeaders([policy], HeaderForm.LEGACY).allowed([Decision(True, 20, 19, 0, 30_000_000)]) == [
        (b"X-RateLimit-Limit", b"20"),
        (b"X-RateLimit-Remaining", b"19"),
    ]


def test_limits_of_every_kind_are_described() -> None:
    month = LimitRule(name="l", algorithm=Algorithm.FIXED_WINDOW, rate=parse_rate("9/month"))
    open_now = LimitRule(name="l", algorithm=Algorithm.CONCURRENCY, max=3)

    assert policy_of(month) == LimitPolicy(name="l", quota=9, window_us=None)
    assert policy_of(open_now) == LimitPolicy(name="l", quota=3, window_us=None, timed=False, unit=CONCURRENT)
    assert LimitHeaders([policy_of(month)]).allowed([Decision(True, 9, 8, 0, 5_000_000)]) == [
        (b"RateLimit-Policy", b'"l";q=9'),
        (b"RateLimit", b'"l";r=8;t=5'),
    ]


TWO = [rule("a"), rule("b")]


def test_the_old_lines_are_about_the_limit_that_is_closest_to_refusing() -> None:
    headers = LimitHeaders(TWO, HeaderForm.LEGACY)

    assert headers.allowed([Decision(True, 100, 9, 0, 1), Decision(True, 100, 4, 0, 5_000_001)]) == [
        (b"X-RateLimit-Limit", b"100"),
        (b"X-RateLimit-Remaining", b"4"),
        (b"X-RateLimit-Reset", b"6"),
    ]
    assert headers.allowed([Decision(True, 100, 4, 0, 1), Decision(True, 100, 4, 0, 2_000_000)])[2] == (
        b"X-RateLimit-Reset",
        b"2",
    )


def test_the_old_lines_of_a_refusal_are_about_the_longest_wait() -> None:
    headers = LimitHeaders([*TWO, rule("c")], HeaderForm.LEGACY)
    allowed = Decision(True, 100, 0, 0, 90_000_000)
    short, long = Decision(False, 100, 0, 1_000_000, 9), Decision(False, 100, 1, 2_000_001, 9)

    assert headers.refused([short, allowed, long], 2_000_001) == [
        (b"X-RateLimit-Limit", b"100"),
        (b"X-RateLimit-Remaining", b"1"),
        (b"X-RateLimit-Reset", b"3"),
        (b"Retry-After", b"3"),
    ]
    assert headers.refused([short, Decision(False, 100, 7, NEVER, 0), long], NEVER) == [
        (b"X-RateLimit-Limit", b"100"),
        (b"X-RateLimit-Remaining", b"7"),
    ]


@pytest.mark.parametrize(
    ("form", "names"),
    [
        (HeaderForm.IETF, ["RateLimit-Policy", "RateLimit"]),
        (HeaderForm.LEGACY, ["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"]),
        (
            HeaderForm.BOTH,
            [
                "RateLimit-Policy",
                "RateLimit",
                "X-RateLimit-Limit",
                "X-RateLimit-Remaining",
                "X-RateLimit-Reset",
            ],
        ),
        (HeaderForm.NONE, []),
    ],
)
def test_each_form_has_its_lines_and_every_refusal_a_retry_after(form: HeaderForm, names: list[str]) -> None:
    headers = LimitHeaders([rule("a")], form)
    refusal = headers.refused([Decision(False, 100, 0, 1, 1)], 1)

    assert [name.decode() for name, _ in headers.allowed([Decision(True, 100, 9, 0, 1)])] == names
    assert [name.decode() for name, _ in refusal] == [*names, "Retry-After"]
    assert LimitHeaders([rule("s", mode=Mode.SHADOW)], form).allowed([Decision(False, 100, 0, 1, 1)]) == []


# RFC 9651: a list of strings with parameters; integers have at most 15 digits.
ITEM = r'"[\x20\x21\x23-\x5b\x5d-\x7e]{1,64}"(?:;[a-z]+=(?:[0-9]{1,15}|"[a-z-]+"))*'
policies = st.builds(
    LimitPolicy,
    name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", fullmatch=True),
    quota=st.integers(1, 10**9),
    window_us=st.none() | st.integers(1_000, 366 * 86_400 * 10**6),
    unit=st.sampled_from(["requests", CONCURRENT, "content-bytes"]),
)


@given(st.lists(policies, min_size=1, max_size=4), st.booleans(), st.integers(0, 2**53 - 1))
def test_every_field_is_a_structured_list(each: list[LimitPolicy], passes: bool, time_us: int) -> None:
    decisions = [
        Decision(passes, one.quota, one.quota - 1, 0 if passes else time_us, time_us) for one in each
    ]
    headers = LimitHeaders(each, HeaderForm.BOTH)
    lines = headers.allowed(decisions) if passes else headers.refused(decisions, time_us)

    fields = dict(lines)
    for name in (b"RateLimit-Policy", b"RateLimit"):
        assert re.fullmatch(rf"{ITEM}(?:, {ITEM})*", fields[name].decode())
    for name, value in lines:
        if name not in {b"RateLimit-Policy", b"RateLimit"}:
            assert re.fullmatch(rb"[0-9]{1,15}", value)
