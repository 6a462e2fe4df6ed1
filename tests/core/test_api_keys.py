"""Which caller a key belongs to."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.api_keys import MAX_KEY_BYTES, ApiKey, KeyRing

KEY = b"a-key-of-enough-letters"
FOREVER = ApiKey(id="forever", digest=sha256(KEY).digest())
ENDS = ApiKey(id="ends", digest=sha256(KEY[::-1]).digest(), user="ann", until_us=1000)
RING = KeyRing([FOREVER, ENDS])


def test_a_key_belongs_to_its_owner_until_it_ends() -> None:
    assert len(RING) == 2
    assert RING.find(KEY, 10**18) is FOREVER
    assert RING.find(KEY[::-1], 999) is ENDS
    assert RING.find(KEY[::-1], 1000) is None


@given(st.binary(max_size=40))
def test_no_other_text_is_a_key(presented: bytes) -> None:
    found = RING.find(presented, 0)

    assert (found is None) is (presented not in (KEY, KEY[::-1]))


@pytest.mark.parametrize("size", [MAX_KEY_BYTES, MAX_KEY_BYTES + 1])
def test_a_key_of_any_length_up_to_the_bound_is_looked_up(size: int) -> None:
    long = b"k" * size
    ring = KeyRing([ApiKey(id="long", digest=sha256(long).digest())])

    assert (ring.find(long, 0) is not None) is (size <= MAX_KEY_BYTES)


def test_what_is_printed_does_not_tell_the_hash() -> None:
    assert "digest" not in repr(FOREVER)
