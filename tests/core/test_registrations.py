"""What services say about themselves: read as written, and refused when it is anything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.registrations import RegistrationFact, read_registration, written_registration


@given(
    st.integers(1, 100),
    st.integers(0, 1000),
    st.sampled_from(["", "a", "eu-1.b_2", "z" * 64]),
    st.text(alphabet="0123456789abcdef", max_size=16),
)
def test_what_was_written_is_read(weight: int, priority: int, zone: str, by: str) -> None:
    fact = RegistrationFact(weight=weight, priority=priority, zone=zone, by=by)

    assert read_registration(written_registration(fact)) == fact


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"[]",
        b"{",
        b'{"weight":0}',
        b'{"weight":true}',
        b'{"weight":1.5}',
        b'{"priority":-1}',
        b'{"by":1}',
        b'{"zone":1}',
        b'{"zone":"-"}',
        b'{"zone":"a\\n"}',
        b"[" * 500,
        b'{"by":"' + b"x" * 600 + b'"}',
        b"\xff",
    ],
)
def test_anything_else_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError):
        read_registration(value)


def test_what_is_not_known_is_left_out() -> None:
    assert read_registration(b'{"weight":3,"colour":"a"}') == RegistrationFact(weight=3)


def test_depth_is_refused_like_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_deep(_value: bytes) -> object:
        raise RecursionError

    monkeypatch.setattr("silence_gateway.core.registrations.json.loads", too_deep)
    with pytest.raises(ValueError, match="deeply"):
        read_registration(b"[]")
