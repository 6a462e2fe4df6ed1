"""Calls stay in our zone while it can take them, and the rest spills over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.balancing.zones import ZoneState, zone_parts


@pytest.mark.parametrize(
    ("zones", "here", "parts"),
    [
        pytest.param({"a": (2, 2), "b": (2, 2)}, "a", {"a": 1.0}, id="our-own-first"),
        pytest.param({"a": (5, 10), "b": (10, 10)}, "a", {"a": 0.7, "b": 0.3}, id="half-gone-spills-over"),
        pytest.param({"a": (0, 2), "b": (1, 1), "c": (3, 3)}, "a", {"b": 0.25, "c": 0.75}, id="ours-is-gone"),
        pytest.param({"a": (1, 10), "b": (0, 5)}, "a", {"a": 1.0}, id="nobody-to-spill-to"),
        pytest.param({"b": (1, 1), "c": (1, 1)}, "a", {"b": 0.5, "c": 0.5}, id="we-are-where-nobody-is"),
        pytest.param({"a": (1, 1), "b": (3, 3)}, "", {"a": 0.25, "b": 0.75}, id="we-do-not-know-where"),
        pytest.param({"a": (0, 1)}, "a", {}, id="nobody"),
        pytest.param({}, "a", {}, id="nothing"),
    ],
)
def test_calls_go(zones: dict[str, tuple[int, int]], here: str, parts: dict[str, float]) -> None:
    states = {name: ZoneState(*state) for name, state in zones.items()}

    assert zone_parts(states, here) == pytest.approx(parts)


states = st.integers(0, 9).flatmap(
    lambda every: st.integers(0, every).map(lambda ready: ZoneState(ready, every))
)


@given(st.dictionaries(st.sampled_from("abcd"), states), st.sampled_from(["", "a", "z"]), st.floats(1, 3))
def test_parts_add_up_and_lead_to_somebody(zones: dict[str, ZoneState], here: str, factor: float) -> None:
    parts = zone_parts(zones, here, factor)

    assert all(zones[name].ready for name in parts)
    assert all(0 < part <= 1 for part in parts.values())
    if any(zone.ready for zone in zones.values()):
        assert sum(parts.values()) == pytest.approx(1.0)
