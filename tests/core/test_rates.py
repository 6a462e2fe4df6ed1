"""Rates as people write them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.rates import MAX_COUNT, Rate, parse_rate


@pytest.mark.parametrize(
    ("text", "count", "window_us"),
    [
        ("100/minute", 100, 60_000_000),
        ("5000/s", 5000, 1_000_000),
        ("10/30s", 10, 30_000_000),
        ("1/250ms", 1, 250_000),
        ("7 / 2 hours", 7, 7_200_000_000),
        ("3/Day", 3, 86_400_000_000),
        ("3/2weeks", 3, 1_209_600_000_000),
    ],
)
def test_a_rate_reads_as_written(text: str, count: int, window_us: int) -> None:
    assert parse_rate(text) == Rate(count, window_us)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("100", "COUNT/WINDOW"),
        ("/s", "COUNT/WINDOW"),
        ("-1/s", "COUNT/WINDOW"),
        ("1.5/s", "COUNT/WINDOW"),
        ("\u0661/s", "COUNT/WINDOW"),
        ("10/fortnight", "'fortnight' is not one of"),
        ("10/5", "COUNT/WINDOW"),
        ("0/s", "1 to"),
        ("10/0s", "1ms to 366d"),
        ("10/500d", "1ms to 366d"),
        ("10/5months", "months are 1, 2, 3, 4, 6 or 12"),
        ("10/2years", "months are 1, 2, 3, 4, 6 or 12"),
        (f"{MAX_COUNT + 1}/s", "1 to"),
        ("x" * 10_000, "..."),
    ],
)
def test_a_bad_rate_says_what_would_be_right(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint) as caught:
        parse_rate(text)

    assert len(str(caught.value)) < 250


def test_a_rate_that_is_no_text_says_so() -> None:
    wrong: Any = 5
    with pytest.raises(TypeError, match="a rate is a str, as in '100/minute', not int"):
        parse_rate(wrong)


@given(st.integers(1, MAX_COUNT), st.integers(1, 31_622_400_000))
def test_every_rate_reads_back_what_it_wrote(count: int, window_ms: int) -> None:
    rate = Rate(count, window_ms * 1000)

    assert parse_rate(str(rate)) == rate


@given(st.text(max_size=30))
def test_any_text_is_a_rate_or_a_clear_error(text: str) -> None:
    try:
        rate = parse_rate(text)
    except ValueError:
        return

    assert rate.count >= 1


def test_a_window_of_no_whole_milliseconds_is_shown_as_a_fraction() -> None:
    assert str(Rate(1, 1_500)) == "1/1.5ms"


@pytest.mark.parametrize(
    ("text", "months"), [("9/month", 1), ("9/3months", 3), ("9/Year", 12), ("9/12month", 12)]
)
def test_months_and_years_are_of_the_calendar(text: str, months: int) -> None:
    rate = parse_rate(text)

    assert (rate.count, rate.months) == (9, months)
    assert parse_rate(str(rate)) == rate
