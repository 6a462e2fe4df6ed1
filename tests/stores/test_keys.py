"""Key names: safe, bounded, and different for different things."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.stores import keys


def test_names_are_what_the_reference_says() -> None:
    assert keys.board_room("edge", "health/auth") == b"edge:v2:board:health/auth"
    assert keys.board_lease("edge", "health", "auth") == b"edge:v2:lease:health:auth"
    assert keys.instances("edge") == b"edge:v2:instances"
    assert keys.bus_channel("edge", "news {a}:b") == b"edge:v2:bus:news%20%7Ba%7D%3Ab"


@settings(max_examples=200)
@given(st.text(max_size=300), st.text(max_size=300))
def test_parts_are_safe_bounded_and_never_the_same_for_two_texts(one: str, two: str) -> None:
    first, second = keys.part(one), keys.part(two)

    assert re.fullmatch(r"[A-Za-z0-9_.@~/=,+%-]{1,128}", first)
    assert (first == second) is (one == two)


def test_a_name_that_looks_like_a_hash_is_not_that_hash() -> None:
    hashed = keys.part("x" * 500)

    assert hashed.startswith("%%")
    assert keys.part(hashed) != hashed
