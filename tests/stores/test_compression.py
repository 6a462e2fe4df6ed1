"""Payloads come back as they were, whatever the threshold of whoever wrote them."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.stores.compression import MAGIC, MAX_BYTES, Compression, unpack

PAYLOADS = st.binary(max_size=3000) | st.binary(max_size=50).map(lambda part: part * 60)


@given(PAYLOADS | PAYLOADS.map(lambda payload: MAGIC + payload), st.integers(0, 2000))
def test_a_payload_comes_back_as_it_was(payload: bytes, over: int) -> None:
    compression = Compression(over)
    stored = compression.pack(payload)

    assert unpack(stored) == payload
    assert len(stored) <= len(payload) + 20
    assert compression.pack(payload) == stored, "and is stored alike every time"


def test_only_what_is_long_and_becomes_shorter_is_compressed() -> None:
    compression = Compression(1024)
    text, noise = b"abc" * 1000, os.urandom(3000)

    assert compression.pack(text[:1024]) == text[:1024]
    assert len(compression.pack(text)) < 100
    assert compression.pack(noise) == noise
    assert compression.packed == 1
    assert compression.saved_bytes > 2900


@given(st.binary(max_size=200))
def test_whatever_is_stored_is_read_or_refused(noise: bytes) -> None:
    for stored in (noise, MAGIC + noise):
        try:
            unpack(stored)
        except ValueError:
            assert stored.startswith(MAGIC)


def test_damaged_and_oversized_payloads_are_refused() -> None:
    compression = Compression(0)
    stored = compression.pack(b"abc" * 1000)

    with pytest.raises(ValueError, match="cut short"):
        unpack(stored[:-1])
    with pytest.raises(ValueError, match="holds more"):
        unpack(stored + b"more")
    with pytest.raises(ValueError, match="damaged"):
        unpack(MAGIC + b"\xff" * 20)
    with pytest.raises(ValueError, match="holds more than"):
        unpack(compression.pack(bytes(MAX_BYTES + 1)))
