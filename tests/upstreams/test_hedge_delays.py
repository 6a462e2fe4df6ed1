"""What is late: learned by method where there are enough calls, else from all of the upstream's."""

from __future__ import annotations

import pytest

from silence_gateway.core.histogram import BOUNDS_S
from silence_gateway.upstreams.hedge_delays import LEAST_HEDGE_S, MAX_METHODS, HedgeDelays

SLOW, QUICK, RARE = b"/a.B/Slow", b"/a.B/Quick", b"/a.B/Rare"
KEPT = 3


def counts(**calls: int) -> list[int]:
    """Return a histogram with *calls* between 5 and 10 ms (`quick`) and between 0.5 and 0.75 s (`slow`)."""
    found = [0] * (len(BOUNDS_S) + 1)
    found[BOUNDS_S.index(0.01)] = calls.get("quick", 0)
    found[BOUNDS_S.index(0.75)] = calls.get("slow", 0)
    return found


def test_a_method_with_enough_calls_has_its_own_and_the_others_have_the_upstreams() -> None:
    delays = HedgeDelays(0.95)
    for _ in range(100):
        delays.took(QUICK, 0.008)
    for _ in range(30):
        delays.took(SLOW, 0.6)
    for _ in range(19):
        delays.took(RARE, 2.0)
    assert delays.after_s(QUICK) is None

    delays.tick(KEPT, counts(quick=100, slow=900))
    quick, slow = delays.after_s(QUICK), delays.after_s(SLOW)
    assert quick is not None
    assert quick <= 0.01
    assert slow is not None
    assert 0.5 < slow <= 0.75
    assert delays.after_s(RARE) == delays.after_s(b"/never/Seen") == pytest.approx(0.736, abs=0.01)


def test_what_was_long_ago_says_nothing() -> None:
    delays = HedgeDelays(0.5)
    for _ in range(50):
        delays.took(SLOW, 0.6)
    delays.tick(KEPT, counts(slow=50))
    assert delays.after_s(SLOW) is not None
    for _ in range(KEPT + 1):
        delays.tick(KEPT, counts(slow=50))

    assert delays.after_s(SLOW) is None
    for _ in range(50):
        delays.took(SLOW, 0.008)
    delays.tick(KEPT, counts(slow=50, quick=50))
    assert delays.after_s(SLOW) == pytest.approx(0.0075, abs=0.001)


def test_methods_are_forgotten_and_never_more_than_so_many_are_known() -> None:
    delays = HedgeDelays(0.95)
    names = [f"/a.B/M{number}".encode() for number in range(MAX_METHODS + 1)]
    for name in names:
        for _ in range(20):
            delays.took(name, 0.008)
    delays.tick(KEPT, counts())
    assert delays.after_s(names[-2]) is not None
    assert delays.after_s(names[-1]) is None

    for _ in range(KEPT + 1):
        delays.tick(KEPT, counts())
    for _ in range(20):
        delays.took(names[-1], 0.008)
    delays.tick(KEPT, counts())
    assert delays.after_s(names[-1]) is not None


def test_calls_that_take_no_time_are_not_all_made_twice() -> None:
    delays = HedgeDelays(0.95)
    for _ in range(20):
        delays.took(QUICK, 0.00001)
    delays.tick(KEPT, counts())

    assert delays.after_s(QUICK) == LEAST_HEDGE_S
