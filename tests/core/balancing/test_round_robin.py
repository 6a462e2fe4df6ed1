"""Round robin comes round."""

from __future__ import annotations

import pytest

from silence_gateway.core.balancing.round_robin import pick_in_turn


def test_round_robin_comes_round() -> None:
    assert [pick_in_turn("abc", turn) for turn in range(5)] == ["a", "b", "c", "a", "b"]


def test_nobody_to_pick_from_is_an_error() -> None:
    with pytest.raises(ValueError, match="nobody"):
        pick_in_turn("", 0)
