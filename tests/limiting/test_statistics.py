"""What the request path counts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.limiting.statistics import MAX_KEY_CHARS, MAX_PAGES, PAGE_KEYS, LimitStatistics
from silence_gateway.stores.limit_stats_contract import LimitCounts


def test_requests_are_counted_by_key_and_so_are_refusals() -> None:
    counts = LimitStatistics()
    for key in ("a", "b", "a"):
        counts.hit(key)
    for key in ("a", "c", "c"):
        counts.refuse(key)

    assert counts.take() == [({"a": 3, "b": 1, "c": 2}, {"a": 1, "c": 2})]
    assert counts.take() == []


def test_a_full_page_is_put_aside_and_somebody_is_told() -> None:
    told: list[int] = []
    counts = LimitStatistics()
    counts.on_full = lambda: told.append(len(counts.pages))
    for number in range(PAGE_KEYS + 1):
        counts.hit(str(number))
        counts.hit("0")

    first, second = counts.take()
    assert told == [1]
    assert len(first.requests) == PAGE_KEYS
    assert first.requests["0"] == PAGE_KEYS + 1
    assert second.requests == {str(PAGE_KEYS): 1, "0": 1}


def test_a_flood_of_new_keys_takes_no_more_room_and_what_is_left_out_is_counted() -> None:
    counts = LimitStatistics()
    room = (MAX_PAGES + 1) * PAGE_KEYS
    for number in range(room + 500):
        counts.hit(f"hit-{number}") if number % 2 else counts.refuse(f"refused-{number}")

    assert counts.missed == 500
    assert len(counts.refused) <= len(counts.requests) == PAGE_KEYS
    assert sum(len(page.requests) for page in counts.take()) == room


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b", "x" * 300, "x" * 299 + "y"]), st.booleans()), max_size=40)
)
def test_nothing_is_lost_and_no_key_is_refused_more_than_it_asked(
    asked: list[tuple[str, bool]],
) -> None:
    counts = LimitStatistics()
    for key, passes in asked:
        (counts.hit if passes else counts.refuse)(key)

    pages = counts.take()
    assert sum(sum(page.requests.values()) for page in pages) == len(asked)
    assert sum(sum(page.refused.values()) for page in pages) == sum(not passes for _, passes in asked)
    assert all(count <= page.requests[key] for page in pages for key, count in page.refused.items())


def test_long_keys_take_little_room_and_are_told_apart_by_their_ends() -> None:
    counts = LimitStatistics()
    for tail in ("one", "two", "one"):
        counts.hit("x" * 10_000 + tail)
    counts.refuse("x" * 10_000 + "one")

    [page] = counts.take()
    assert sorted(page.requests.values()) == [1, 3]
    assert list(page.refused.values()) == [1]
    assert all(len(key) <= MAX_KEY_CHARS for key in page.requests)


def test_counts_never_fall() -> None:
    counts = LimitStatistics()
    counts.allowed, counts.denied, counts.shadow_denied, counts.near = 5, 4, 3, 2
    counts.take()

    assert counts.counts() == LimitCounts(5, 4, 3, 2)
    assert counts.counts().since(LimitCounts(1, 1, 1, 1)).plus(LimitCounts(1)) == LimitCounts(5, 3, 2, 1)


def test_keys_are_shown_short_printable_and_secrets_hashed() -> None:
    plain = LimitStatistics()
    secret = LimitStatistics(hides_keys=True)

    assert plain.shown("a\nb") == "a\\nb"
    assert len(plain.shown("x" * 5000)) < 140
    assert "hunter2" not in secret.shown("hunter2")
    assert secret.shown("hunter2") == secret.shown("hunter2") != secret.shown("hunter3")


@pytest.mark.parametrize("hides_keys", [False, True])
def test_a_key_is_shown_alike_whether_it_was_counted_or_typed(hides_keys: bool) -> None:
    counts = LimitStatistics(hides_keys=hides_keys)
    long = "Bearer " + "x" * 500 + "tail"
    counts.hit(long)

    assert [counts.shown(key) for key in counts.requests] == [counts.shown(long)]
