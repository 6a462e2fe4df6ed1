"""What a caller over its limit is told."""

from __future__ import annotations

import pytest

from silence_gateway.core.refusal import MAX_CLOSE_REASON, close_reason, refusal_lines, refusal_problem
from silence_gateway.errors import RateLimited


def test_the_problem_names_every_limit_and_says_when_to_come_back() -> None:
    assert refusal_problem(RateLimited(("login", "all"), 2.0004)) == {
        "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "title": "Too Many Requests",
        "status": 429,
        "detail": "over the limit login, all; retry in 2.000 s",
        "code": "RESOURCE_EXHAUSTED",
        "violated-policies": ["login", "all"],
        "retry_after_s": 2.0,
    }


def test_what_can_never_succeed_names_no_time() -> None:
    never = RateLimited(("login",), None)

    assert "retry_after_s" not in refusal_problem(never)
    assert refusal_lines(never) == []


@pytest.mark.parametrize(("wait_s", "line"), [(0.001, b"1"), (1.0, b"1"), (1.000001, b"2"), (59.5, b"60")])
def test_seconds_to_wait_are_rounded_up(wait_s: float, line: bytes) -> None:
    assert refusal_lines(RateLimited(("login",), wait_s)) == [(b"retry-after", line)]


def test_a_line_that_is_there_already_is_not_written_again() -> None:
    refused = RateLimited(("login",), 1.5, [(b"RateLimit", b"x"), (b"Retry-After", b"2")])

    assert refusal_lines(refused) == [(b"RateLimit", b"x"), (b"Retry-After", b"2")]


def test_a_websocket_is_closed_with_a_reason_that_fits_into_its_frame() -> None:
    short = RateLimited(("login",), 1.5)
    long = RateLimited(["x" + "ä" * 100], 1.5)

    assert close_reason(short) == "over the limit login; retry in 1.500 s"
    assert len(close_reason(long).encode()) == MAX_CLOSE_REASON - 1, "no half of a character is left"
    assert str(long).startswith(close_reason(long))
