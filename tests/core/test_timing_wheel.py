"""The timing wheel hands everything out once, never early, at most a slot late."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.timing_wheel import TimingWheel


def test_a_slot_must_have_a_length() -> None:
    with pytest.raises(ValueError, match="positive"):
        TimingWheel[str](0)


@given(st.lists(st.integers(0, 5000)), st.lists(st.integers(1, 700), max_size=20))
def test_items_come_out_once_never_early_and_at_most_a_slot_late(times: list[int], steps: list[int]) -> None:
    wheel: TimingWheel[int] = TimingWheel(100)
    for at_us in times:
        wheel.put(at_us, at_us)
    seen: list[int] = []
    now_us = 0

    for step in [*steps, 6000]:
        before_us, now_us = now_us, now_us + step
        out = wheel.due(now_us)
        assert all(at_us <= now_us for at_us in out)
        assert all(at_us > before_us - 100 for at_us in out)
        seen += out

    assert sorted(seen) == sorted(times)
    assert len(wheel) == 0
