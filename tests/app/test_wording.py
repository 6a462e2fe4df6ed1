"""Numbers are short and say no more than they know."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.app import wording


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (9_999, "9999"), (12_345, "12.3k"), (999_700, "1.00M"), (4_560_000, "4.56M"),
        (123_000_000_000, "123G"), (2.6, "3"), (None, "-"), (True, "-"),
    ],
)  # fmt: skip
def test_counts_have_at_most_five_characters(value: Any, text: str) -> None:
    assert wording.count(value) == text


@given(st.integers(0, 10**14))
def test_no_count_is_wider_than_its_column(value: int) -> None:
    assert len(wording.count(value)) <= 5


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.000085, "85us"), (0.0012, "1.2ms"), (0.45, "450ms"), (0.9999, "1.0s"), (2.5, "2.5s"), (30, "30s"),
        (600, "10m"), (None, "-"),
    ],
)  # fmt: skip
def test_durations_have_their_unit(seconds: Any, text: str) -> None:
    assert wording.duration(seconds) == text


@given(st.floats(0, 3600))
def test_no_duration_is_wider_than_its_column(seconds: float) -> None:
    assert len(wording.duration(seconds)) <= 5


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 10, "0%"), (1, 10_000, "<0.1%"), (34, 1000, "3.4%"), (1, 3, "33%"), (5, 5, "100%"), (0, 0, "-"),
        (None, 5, "-"),
    ],
)  # fmt: skip
def test_a_share_is_never_nothing_unless_it_is(part: Any, whole: Any, text: str) -> None:
    assert wording.share(part, whole) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (512, "512 B"), (1_268_777, "1.21 MiB"), (None, "-"), (10**15, "909 TiB")]
)
def test_bytes_are_in_powers_of_1024(value: Any, text: str) -> None:
    assert wording.size(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(-3, "0s"), (119, "119s"), (120, "2m"), (7200, "2h"), (172_800, "2d")]
)
def test_a_time_that_goes_by_is_in_its_largest_unit(seconds: float, text: str) -> None:
    assert wording.span(seconds) == text


def test_one_is_not_many() -> None:
    assert (wording.counted(1, "stream"), wording.counted(2, "stream")) == ("1 stream", "2 streams")
