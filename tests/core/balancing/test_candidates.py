"""Penalties are bounded and go away by themselves."""

from __future__ import annotations

from silence_gateway.core.balancing import MAX_PENALTY, faded, raised


def test_a_penalty_is_bounded_and_fades_by_itself() -> None:
    penalty = 0
    for _ in range(1000):
        penalty = raised(penalty)
    assert penalty == MAX_PENALTY

    for _ in range(7):
        penalty = faded(penalty)
    assert penalty == 0
