"""The last minute and the last hour of one limit in one process."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.hyperloglog import STANDARD_ERROR
from silence_gateway.limiting.limit_flow import hash_of
from silence_gateway.limiting.recent import RecentUse, busiest
from silence_gateway.stores.limit_stats_contract import (
    MAX_TOP,
    SLOT_S,
    SLOTS,
    LimitCounts,
    NewUse,
    Tops,
    WindowName,
    WindowUse,
)

TOPS: Tops = {("1m", "requests"): 5, ("1m", "refused"): 5, ("1h", "requests"): 5, ("1h", "refused"): 5}


def use_of(*keys: str, refused: int = 0) -> NewUse:
    return NewUse(
        counts=LimitCounts(len(keys), refused),
        requests={key: keys.count(key) for key in keys},
        refused=dict.fromkeys(keys, refused) if refused else {},
        clients=[hash_of(key) for key in keys],
    )


def test_both_windows_know_what_was_just_added() -> None:
    recent = RecentUse()
    recent.add(use_of("a", "b", "a", refused=2), 1000.0)
    recent.add(use_of("b", "b"), 1001.0)

    for window in SLOT_S:
        assert recent.use(window, 1001.0, TOPS) == WindowUse(
            counts=LimitCounts(5, 2),
            unique_clients=2,
            requests={"b": 3, "a": 2},
            refused={"a": 2, "b": 2},
        )


@pytest.mark.parametrize(("window", "span_s"), [("1m", 60), ("1h", 3600)])
@pytest.mark.parametrize("at_s", [0.0, 3.3, 9.999, 599.999, 600.0, 12_345.6])
def test_nothing_of_the_window_is_missing_and_what_is_older_goes(
    window: WindowName, span_s: int, at_s: float
) -> None:
    """One slot more than the window may be shown, and no more."""
    recent = RecentUse()
    recent.add(use_of("a"), at_s)

    assert recent.use(window, at_s + span_s, TOPS).counts.allowed == 1
    assert recent.use(window, at_s + span_s + SLOT_S[window], TOPS) == WindowUse()


@given(
    st.lists(st.tuples(st.floats(0, 5000), st.sampled_from("abc")), max_size=30),
    st.sampled_from(sorted(SLOT_S)),
)
def test_a_window_is_what_was_added_in_its_slots(added: list[tuple[float, str]], window: WindowName) -> None:
    """Whatever the pauses, against a list of everything."""
    recent = RecentUse()
    now_s = 0.0
    log: list[tuple[int, str]] = []
    for pause_s, key in added:
        now_s += pause_s
        recent.add(use_of(key), now_s)
        log.append((int(now_s // SLOT_S[window]), key))

    kept = [key for slot, key in log if slot > now_s // SLOT_S[window] - SLOTS]
    use = recent.use(window, now_s, TOPS)

    assert use.counts.allowed == len(kept)
    assert use.requests == {key: kept.count(key) for key in set(kept)}
    assert use.unique_clients == len(set(kept))
    assert all(len(slots) <= SLOTS for slots in recent.slots.values())


def test_unique_clients_of_several_slots_are_within_the_stated_error() -> None:
    recent = RecentUse()
    for slot in range(6):
        new = [hash_of(f"client-{number}") for number in range(slot * 3000, slot * 3000 + 5000)]
        recent.add(NewUse(clients=new), slot * 10.0)

    assert recent.use("1m", 59.0, {}).unique_clients == pytest.approx(20_000, rel=3 * STANDARD_ERROR)


def test_top_lists_are_bounded_and_keep_the_busiest() -> None:
    recent = RecentUse()
    for number in range(100):
        flood = {f"flood-{number}-{key}": 1 for key in range(20)}
        recent.add(NewUse(requests={**flood, "busy": 3}, refused={**flood, "bad": 2}), 5.0)

    [slot] = recent.slots["1m"]
    use = recent.use("1m", 5.0, TOPS)

    assert len(slot.requests) <= 2 * MAX_TOP
    assert len(slot.refused) <= 2 * MAX_TOP
    assert next(iter(use.requests.items())) == ("busy", 300)
    assert next(iter(use.refused.items())) == ("bad", 200)


def test_only_the_tops_asked_for_are_told() -> None:
    recent = RecentUse()
    recent.add(use_of("a", "b", "b", refused=1), 5.0)

    use = recent.use("1h", 5.0, {("1h", "requests"): 1})

    assert (use.requests, use.refused) == ({"b": 2}, {})


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 9)), st.integers(0, 12))
def test_the_busiest_come_first(counted: dict[str, int], at_most: int) -> None:
    found = busiest(counted, at_most)

    assert list(found.values()) == sorted(counted.values(), reverse=True)[:at_most]
    assert found.items() <= counted.items()
