"""What follows a failed attempt: every case of the table, and what holds whatever happens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.backoff import Backoff
from silence_gateway.core.retry import (
    NEVER,
    Again,
    Ended,
    Over,
    RetryPolicy,
    Step,
    Why,
    counting_attempts,
    next_step,
    read_pushback,
)
from silence_gateway.core.status import Code

BACKOFF = Backoff(first_us=100_000, cap_us=1_000_000)
POLICY = RetryPolicy(attempts=3, codes=frozenset({Code.UNAVAILABLE}), backoff=BACKOFF)
SECOND = 1_000_000


@pytest.mark.parametrize(
    ("ended", "begun", "left_us", "affordable", "hedged", "expected"),
    [
        pytest.param(Ended(14), 1, SECOND, True, False, Again(50_000), id="the-middle-of-the-first-wait"),
        pytest.param(Ended(14), 2, SECOND, True, False, Again(100_000), id="twice-as-long-the-next-time"),
        pytest.param(Ended(14), 3, SECOND, True, False, Over(Why.ATTEMPTS), id="three-in-all"),
        pytest.param(Ended(3), 1, SECOND, True, False, Over(Why.FATAL), id="a-code-that-is-an-answer"),
        pytest.param(Ended(4), 1, SECOND, True, False, Over(Why.FATAL), id="the-servers-own-deadline"),
        pytest.param(Ended(4, timed_out=True), 1, SECOND, True, False, Again(50_000), id="our-attempts-time"),
        pytest.param(Ended(14), 1, SECOND, False, False, Over(Why.BUDGET), id="no-budget"),
        pytest.param(Ended(14), 1, 50_000, True, False, Over(Why.DEADLINE), id="no-time-after-the-wait"),
        pytest.param(Ended(14), 1, 50_001, True, False, Again(50_000), id="just-enough-time"),
        pytest.param(Ended(14), 1, 0, False, False, Over(Why.DEADLINE), id="time-is-asked-before-budget"),
        pytest.param(Ended(14, pushback_ms=NEVER), 1, SECOND, True, False, Over(Why.PUSHBACK), id="go-away"),
        pytest.param(Ended(14, pushback_ms=7), 1, SECOND, True, False, Again(7_000), id="come-back-then"),
        pytest.param(Ended(14, pushback_ms=0), 2, SECOND, True, False, Again(0), id="come-back-at-once"),
        pytest.param(Ended(14, pushback_ms=2000), 1, SECOND, True, False, Over(Why.DEADLINE), id="too-late"),
        pytest.param(
            Ended(3, pushback_ms=7), 1, SECOND, True, False, Over(Why.FATAL), id="no-cure-for-fatal"
        ),
        pytest.param(
            Ended(14, pushback_ms=7), 3, SECOND, True, False, Over(Why.ATTEMPTS), id="no-more-either"
        ),
        pytest.param(Ended(14), 1, SECOND, True, True, Again(0), id="a-hedge-does-not-wait"),
        pytest.param(
            Ended(14, pushback_ms=7), 1, SECOND, True, True, Again(7_000), id="unless-it-is-told-to"
        ),
    ],
)
def test_what_follows_an_attempt(
    ended: Ended, begun: int, left_us: int, affordable: bool, hedged: bool, expected: Step
) -> None:
    step = next_step(
        POLICY, ended, begun=begun, left_us=left_us, affordable=affordable, draw=0.5, hedged=hedged
    )

    assert step == expected


@given(
    attempts=st.integers(1, 10),
    endings=st.lists(
        st.builds(Ended, st.integers(1, 16), st.booleans(), st.none() | st.integers(-1, 5000)),
        min_size=10,
        max_size=10,
    ),
    deadline_us=st.integers(0, 10 * SECOND),
    draws=st.lists(st.floats(0, 1, exclude_max=True), min_size=10, max_size=10),
    hedged=st.booleans(),
)
def test_a_call_ends_within_its_attempts_and_its_deadline(
    attempts: int, endings: list[Ended], deadline_us: int, draws: list[float], hedged: bool
) -> None:
    """Whatever goes wrong: never more attempts than allowed, and none begins after the deadline."""
    policy = RetryPolicy(attempts=attempts, codes=frozenset({8, 14}), backoff=BACKOFF)
    now_us = begun = 0
    for ended, draw in zip(endings, draws, strict=True):
        begun += 1
        step = next_step(
            policy,
            ended,
            begun=begun,
            left_us=deadline_us - now_us,
            affordable=True,
            draw=draw,
            hedged=hedged,
        )
        if isinstance(step, Over):
            break
        now_us += step.after_us
        assert ended.timed_out or ended.code in policy.codes
        assert ended.pushback_ms in (None, step.after_us // 1000)

    assert begun <= attempts
    assert begun == 1 or now_us < deadline_us


@given(st.integers(0, 10**9 - 1))
def test_a_number_of_milliseconds_is_read(number: int) -> None:
    assert read_pushback([(b"x", b"1"), (b"grpc-retry-pushback-ms", b"%d" % number)]) == number


@pytest.mark.parametrize("value", [b"-1", b"", b"soon", b"1.5", b"+5", b"\xb2", b"9" * 10, b"0x10"])
def test_what_is_no_number_means_never(value: bytes) -> None:
    assert read_pushback([(b"grpc-retry-pushback-ms", value)]) == NEVER


def test_several_pushbacks_mean_never_and_silence_is_none() -> None:
    name = b"grpc-retry-pushback-ms"

    assert read_pushback([(name, b" 5 ")]) == 5
    assert read_pushback([(name, b"5"), (b"x", b"1"), (name, b"-1")]) == NEVER
    assert read_pushback([(name, b"5"), (name, b"5")]) == NEVER
    assert read_pushback([(b"grpc-retry-pushback", b"5")]) is None


@pytest.mark.parametrize("attempts", [0, 11])
def test_a_policy_has_one_to_ten_attempts(attempts: int) -> None:
    with pytest.raises(ValueError, match="attempts"):
        RetryPolicy(attempts=attempts, codes=frozenset({14}), backoff=BACKOFF)


@pytest.mark.parametrize("code", [0, 17, -1])
def test_a_policy_repeats_after_errors_only(code: int) -> None:
    with pytest.raises(ValueError, match="1 to 16"):
        RetryPolicy(attempts=3, codes=frozenset({code}), backoff=BACKOFF)


PREVIOUS = b"grpc-previous-rpc-attempts"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        pytest.param([], 2, id="nothing"),
        pytest.param([b"3"], 5, id="it-is-at-it-again-itself"),
        pytest.param([b" 3 "], 5, id="blanks-are-nothing"),
        pytest.param([b"999"], 1001, id="as-many-as-are-believed"),
        pytest.param([b"1000"], 2, id="more-than-is-believed"),
        pytest.param([b"-1"], 2, id="less-than-nothing"),
        pytest.param([b"once"], 2, id="no-number"),
        pytest.param([b"\xb2"], 2, id="a-digit-of-another-kind"),
        pytest.param([b""], 2, id="empty"),
        pytest.param([b"3", b"4"], 2, id="two-of-them"),
    ],
)
def test_a_server_is_told_once_how_many_attempts_there_were(said: list[bytes], told: int) -> None:
    metadata = [(b"a", b"1"), *((PREVIOUS, value) for value in said), (b"a", b"2")]

    assert counting_attempts(metadata, 2) == ((b"a", b"1"), (b"a", b"2"), (PREVIOUS, b"%d" % told))


@given(st.lists(st.tuples(st.sampled_from([b"a", PREVIOUS]), st.binary(max_size=6))), st.integers(1, 9))
def test_whatever_a_caller_says_of_its_attempts_the_rest_goes_as_it_is(
    metadata: list[tuple[bytes, bytes]], previous: int
) -> None:
    *others, (name, value) = counting_attempts(metadata, previous)

    assert others == [pair for pair in metadata if pair[0] != PREVIOUS]
    assert name == PREVIOUS
    assert previous <= int(value) <= previous + 999
