"""How long an endpoint waits before it is dialled again."""

from __future__ import annotations

from random import Random

import pytest

from silence_gateway.upstreams.redials import GOODBYE_STABLE_S, RECONNECT, STABLE_S, Redials


def waits_s(redials: Redials, *, further: bool = False) -> list[float]:
    return [redials.wait_s(further=further) for _ in range(200)]


def test_the_first_dial_waits_for_nothing() -> None:
    redials = Redials(Random(1))

    assert (redials.wait_s(further=False), redials.wait_s(further=True)) == (0.0, 0.0)


def test_waits_grow_up_to_the_cap_and_none_is_without_a_pause() -> None:
    redials = Redials(Random(1))
    longest = []
    for _ in range(12):
        redials.failed(further=False)
        waits = waits_s(redials)
        assert min(waits) >= RECONNECT.floor_us / 1e6
        longest.append(max(waits))

    assert longest[0] <= RECONNECT.first_us / 1e6 < longest[3]
    assert longest[3] < longest[-1] <= RECONNECT.cap_us / 1e6


def test_a_further_connection_that_is_refused_delays_further_ones_only() -> None:
    redials = Redials(Random(1))
    redials.failed(further=True)

    assert redials.wait_s(further=False) == 0.0
    assert redials.wait_s(further=True) > 0.0

    redials.stands()

    assert redials.wait_s(further=True) == 0.0


@pytest.mark.parametrize(("goodbye", "stable_s"), [(False, STABLE_S), (True, GOODBYE_STABLE_S)])
def test_a_connection_that_lasted_clears_what_failed_and_one_that_flaps_does_not(
    goodbye: bool, stable_s: float
) -> None:
    redials = Redials(Random(1))
    redials.lost(stable_s - 0.1, goodbye=goodbye)
    assert redials.soon
    assert redials.wait_s(further=False) > 0.0

    redials.lost(stable_s - 0.1, goodbye=goodbye)
    assert not redials.soon

    redials.lost(stable_s, goodbye=goodbye)
    assert redials.soon
    assert redials.wait_s(further=False) == 0.0


def test_who_wakes_from_rest_does_not_wait_for_what_failed_before() -> None:
    redials = Redials(Random(1))
    for _ in range(5):
        redials.failed(further=False)

    redials.forget()

    assert redials.wait_s(further=False) == 0.0
