"""One exception for one key: what is written of it is read as it was, and nothing else is."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.limiting.override_entry import Override, read, written

SHOWN = st.text(max_size=20)


@given(
    st.builds(
        Override,
        limit=st.just("login"),
        shown=SHOWN,
        rate=SHOWN,
        burst=st.none() | st.integers(1),
        max=st.none() | st.integers(1),
        unlimited=st.booleans(),
        blocked=st.booleans(),
        reason=SHOWN,
        by=SHOWN,
        added_us=st.integers(0, 2**53 - 1),
        until_us=st.integers(0, 2**53 - 1),
    )
)
def test_what_is_written_is_read_as_it_was(override: Override) -> None:
    assert read("login", written(override)) == override


@settings(max_examples=200)
@given(st.binary(max_size=60))
def test_any_bytes_are_an_exception_or_none(value: bytes) -> None:
    assert read("login", value) is None or json.loads(value)
