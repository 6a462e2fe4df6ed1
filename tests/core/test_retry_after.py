"""Retry-After: seconds, dates, and whatever else servers send."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.retry import NEVER
from silence_gateway.core.retry_after import retry_after_ms

NOW = b"Wed, 21 Oct 2026 07:28:00 GMT"


@pytest.mark.parametrize(
    ("after", "date", "wait_ms"),
    [
        pytest.param(b"0", None, 0, id="at-once"),
        pytest.param(b"2", None, 2000, id="seconds"),
        pytest.param(b"999999", None, 999_999_000, id="the-longest"),
        pytest.param(b"1000000", None, NEVER, id="longer-than-anybody-waits"),
        pytest.param(b"Wed, 21 Oct 2026 07:28:03 GMT", NOW, 3000, id="a-date"),
        pytest.param(b"Wed, 21 Oct 2026 07:27:00 GMT", NOW, 0, id="a-date-that-is-past"),
        pytest.param(b"Thu, 21 Oct 2027 07:28:00 GMT", NOW, NEVER, id="a-date-that-is-far"),
        pytest.param(NOW, None, NEVER, id="a-date-and-nobody-knows-from-when"),
        pytest.param(NOW, b"now", NEVER, id="a-date-from-no-date"),
        pytest.param(b"Wed, 21 Oct 2026 07:28:03", NOW, NEVER, id="a-date-of-no-zone"),
        pytest.param(b"-1", NOW, NEVER, id="negative"),
        pytest.param(b"1.5", NOW, NEVER, id="no-whole-number"),
        pytest.param(b"soon", NOW, NEVER, id="a-word"),
        pytest.param(b"", NOW, NEVER, id="empty"),
        pytest.param(b"\xb2", NOW, NEVER, id="not-ascii"),
    ],
)
def test_what_a_server_says_is_obeyed_and_what_cannot_be_read_is_never(
    after: bytes, date: bytes | None, wait_ms: int
) -> None:
    assert retry_after_ms(after, date) == wait_ms


@given(st.integers(0, 2**32), st.integers(-(10**6) + 1, 10**6 - 1))
def test_a_date_is_as_far_as_it_is_from_the_answers_own(now_s: int, wait_s: int) -> None:
    date = formatdate(now_s, usegmt=True).encode()
    after = formatdate(max(0, now_s + wait_s), usegmt=True).encode()

    assert retry_after_ms(after, date) == max(0, max(0, now_s + wait_s) - now_s) * 1000


DATE_LIKE = st.text("0123456789 :,-+OctGMTZ", max_size=40).map(str.encode)
PARTS = st.tuples(
    st.integers(0, 10**12), st.sampled_from(["Oct", "Feb", "x"]), st.integers(0, 10**12),
    st.integers(0, 10**4), st.integers(0, 10**4), st.sampled_from(["GMT", "-0000", "+9999", "+99999999", ""]),
).map(lambda parts: "Wed, {} {} {} {}:{}:00 {}".format(*parts).encode())  # fmt: skip
ANYTHING = st.binary(max_size=40) | DATE_LIKE | PARTS


@given(ANYTHING, st.none() | st.just(NOW) | ANYTHING)
def test_nothing_that_a_server_sends_is_an_error(after: bytes, date: bytes | None) -> None:
    assert retry_after_ms(after, date) >= NEVER
