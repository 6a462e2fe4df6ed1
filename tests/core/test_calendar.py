"""Months and years, against Python's own calendar."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.calendar import DAY_US, first_day, month_of, month_window

EPOCH = dt.date(1970, 1, 1)
UTC = dt.UTC


def day_of(date: dt.date) -> int:
    return (date - EPOCH).days


def us_of(moment: dt.datetime) -> int:
    return (moment - dt.datetime(1970, 1, 1, tzinfo=UTC)) // dt.timedelta(microseconds=1)


@given(st.dates(dt.date(1, 1, 1), dt.date(9999, 12, 31)))
def test_every_day_is_in_its_month(date: dt.date) -> None:
    assert month_of(day_of(date)) == date.year * 12 + date.month - 1


@given(st.dates(dt.date(1, 1, 1), dt.date(9999, 12, 31)))
def test_every_month_begins_with_its_first_day(date: dt.date) -> None:
    assert first_day(date.year * 12 + date.month - 1) == day_of(date.replace(day=1))


@pytest.mark.parametrize(
    ("months", "begin", "end"),
    [
        pytest.param(1, (2024, 2, 1), (2024, 3, 1), id="a-leap-february"),
        pytest.param(2, (2024, 1, 1), (2024, 3, 1), id="two-months"),
        pytest.param(3, (2024, 1, 1), (2024, 4, 1), id="a-quarter"),
        pytest.param(6, (2024, 1, 1), (2024, 7, 1), id="half-a-year"),
        pytest.param(12, (2024, 1, 1), (2025, 1, 1), id="a-year"),
    ],
)
def test_spans_begin_in_january(months: int, begin: tuple[int, int, int], end: tuple[int, int, int]) -> None:
    now_us = us_of(dt.datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=UTC))

    assert month_window(now_us, months) == (
        us_of(dt.datetime(*begin, tzinfo=UTC)),
        us_of(dt.datetime(*end, tzinfo=UTC)),
    )


@given(st.integers(0, 200 * 366 * DAY_US), st.sampled_from((1, 2, 3, 4, 6, 12)))
def test_every_moment_is_in_its_span(now_us: int, months: int) -> None:
    begin_us, end_us = month_window(now_us, months)

    assert begin_us <= now_us < end_us
    assert month_window(end_us, months)[0] == end_us
