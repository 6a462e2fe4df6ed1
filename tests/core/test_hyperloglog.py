"""About how many different things there were."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.hyperloglog import (
    MOST_ZEROS,
    REGISTERS,
    STANDARD_ERROR,
    Sketch,
    add,
    empty,
    estimate,
    merged,
)

hashes = st.integers(0, 2**64 - 1)


def sketch_of(some: list[int]) -> Sketch:
    sketch = empty()
    for hashed in some:
        add(sketch, hashed)
    return sketch


@pytest.mark.parametrize("number", [1, 10, 100, 1000, 10_000, 100_000])
def test_the_estimate_is_within_the_stated_error(number: int) -> None:
    """Standard error 1.6 %: the root of the mean square over 20 fixed draws; a small number may lack one."""
    errors = []
    for seed in range(20 if number < 100_000 else 3):
        draw = random.Random(seed)
        found = estimate(sketch_of([draw.getrandbits(64) for _ in range(number)]))
        errors.append(found / number - 1)

    assert math.sqrt(sum(error**2 for error in errors) / len(errors)) < max(
        1.3 * STANDARD_ERROR, 0.5 / number
    )
    assert max(map(abs, errors)) < max(3 * STANDARD_ERROR, 1.01 / number)


@given(st.lists(hashes, max_size=30), st.lists(hashes, max_size=30))
def test_order_and_repetition_make_no_difference(one: list[int], other: list[int]) -> None:
    assert sketch_of([*one, *other]) == sketch_of([*other, *one, *one])


@given(st.lists(st.lists(hashes, max_size=20), max_size=5))
def test_a_merge_has_seen_what_any_of_them_has_seen(parts: list[list[int]]) -> None:
    together = [hashed for part in parts for hashed in part]

    assert merged(map(sketch_of, parts)) == sketch_of(together)


@given(st.lists(st.binary(min_size=8, max_size=8), min_size=1, max_size=4))
def test_a_merge_keeps_the_larger_of_every_register(corners: list[bytes]) -> None:
    """Registers of any value, more than real hashes ever make, in places where a carry would show."""
    sketches = [bytearray(bytes(b & 0x7F for b in corner) * (REGISTERS // 8)) for corner in corners]

    assert merged(sketches) == bytearray(map(max, zip(*sketches, strict=True)))


def test_nothing_seen_is_nothing() -> None:
    assert estimate(empty()) == 0
    assert estimate(merged([])) == 0


def test_small_numbers_are_nearly_exact() -> None:
    draw = random.Random(1)
    assert [estimate(sketch_of([draw.getrandbits(64) for _ in range(n)])) for n in range(6)] == list(range(6))


def test_a_hash_of_zeros_is_counted_like_any_other() -> None:
    sketch = sketch_of([0])

    assert sketch[0] == MOST_ZEROS + 1
    assert estimate(sketch) == 1
