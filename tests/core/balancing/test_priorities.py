"""Calls overflow from one priority to the next as in Envoy, and panic only where it was asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.balancing.priorities import Level, Load, loads


def levels(*ready: int, of: int = 100) -> list[Level]:
    return [Level(ready=count, reachable=of, all=of) for count in ready]


@pytest.mark.parametrize(
    ("ready", "parts"),
    [
        # The tables of Envoy's manual, "Priority levels".
        pytest.param((100, 100), (1.0, 0.0), id="all-well"),
        pytest.param((72, 100), (1.0, 0.0), id="72-percent-are-enough"),
        pytest.param((71, 100), (0.994, 0.006), id="71-percent-are-not"),
        pytest.param((50, 100), (0.7, 0.3), id="half"),
        pytest.param((0, 100), (0.0, 1.0), id="all-of-the-first-gone"),
        pytest.param((25, 25), (0.5, 0.5), id="too-little-everywhere-is-shared-by-health"),
        pytest.param((25, 0), (1.0, 0.0), id="a-quarter-alone"),
        pytest.param((50, 25, 100), (0.7, 0.3, 0.0), id="the-second-is-enough-for-the-rest"),
        pytest.param((25, 25, 20), (0.357, 0.357, 0.286), id="three-levels-short"),
        pytest.param((0, 0), (0.0, 0.0), id="nobody"),
    ],
)
def test_what_a_level_cannot_take_goes_to_the_next(ready: tuple[int, ...], parts: tuple[float, ...]) -> None:
    answer = loads(levels(*ready))

    assert [load.part for load in answer] == pytest.approx(parts, abs=0.001)
    assert not any(load.panic for load in answer)


@pytest.mark.parametrize(
    ("ready", "panics"),
    [
        pytest.param((100, 0), (False, False), id="one-level-can-take-it-all"),
        pytest.param((40, 40), (False, False), id="together-they-can"),
        pytest.param((30, 30), (True, True), id="both-short"),
        pytest.param((60, 5), (False, True), id="only-the-one-below-the-threshold"),
        pytest.param((0, 0), (True, True), id="nobody-at-all"),
    ],
)
def test_panic_needs_both_a_bad_level_and_too_little_in_all(
    ready: tuple[int, ...], panics: tuple[bool, ...]
) -> None:
    answer = loads(levels(*ready), panic_threshold=0.5)

    assert tuple(load.panic for load in answer) == panics


def test_in_total_panic_levels_share_by_whom_they_can_reach() -> None:
    answer = loads(
        [
            Level(ready=0, reachable=3, all=5),
            Level(ready=0, reachable=1, all=1),
            Level(ready=0, reachable=0, all=1),
        ],
        panic_threshold=0.5,
    )

    assert answer == [Load(0.75, True), Load(0.25, True), Load(0.0, False)]


def test_a_level_without_endpoints_takes_nothing() -> None:
    empty = Level(ready=0, reachable=0, all=0)

    assert [load.part for load in loads([empty, *levels(1, of=1)])] == [0.0, 1.0]


counts = st.integers(0, 20).flatmap(
    lambda every: st.tuples(st.integers(0, every), st.integers(0, every)).map(
        lambda two: Level(ready=min(two), reachable=max(two), all=every)
    )
)


@given(st.lists(counts, max_size=5), st.floats(1, 3), st.sampled_from([0.0, 0.5, 1.0]))
def test_parts_add_up_and_lead_to_somebody(every: list[Level], factor: float, threshold: float) -> None:
    answer = loads(every, factor, threshold)

    total = sum(load.part for load in answer)
    assert total == pytest.approx(1.0) or total == 0.0
    assert (total > 0) >= any(level.ready for level in every)
    for level, load in zip(every, answer, strict=True):
        assert load.part == 0 or level.ready or (load.panic and level.reachable)
