"""Waits and moments, as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.waits import LAST_US, moment_text, wait_text

SECOND_US = 1_000_000


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (0, "0s"),
        (0.000_001, "1s"),
        (59.01, "1m"),
        (61, "1m 1s"),
        (3600, "1h"),
        (3605, "1h"),
        (86_405, "1d"),
        (193_278, "2d 5h"),
        (8_640_000, "100d"),
    ],
)
def test_a_wait_is_said_in_two_units_of_whole_seconds(seconds: float, text: str) -> None:
    assert wait_text(round(seconds * SECOND_US)) == text


@pytest.mark.parametrize(
    ("at_us", "text"),
    [
        (1_800_000_000_000_000, "2027-01-15 08:00:00 UTC"),
        (1_800_000_000_000_001, "2027-01-15 08:00:01 UTC"),
        (-1, "1970-01-01 00:00:00 UTC"),
        (10**30, "9999-12-31 23:59:59 UTC"),
    ],
)
def test_a_moment_is_told_in_utc_and_never_too_early(at_us: int, text: str) -> None:
    assert moment_text(at_us) == text


@given(st.integers(), st.integers())
def test_any_number_is_a_moment_and_a_wait(at_us: int, wait_us: int) -> None:
    assert moment_text(at_us).endswith(" UTC")
    assert wait_text(wait_us)[-1] in "dhms"
    assert moment_text(LAST_US) >= moment_text(at_us)
