"""What limits have decided."""

from __future__ import annotations

from silence_gateway.limiting.statistics import MAX_TOP, LimitStatistics, merged
from silence_gateway.stores.limit_contract import LimitCounts


def test_a_flood_of_new_keys_takes_no_room_and_hides_no_busy_one() -> None:
    counts = LimitStatistics()
    for number in range(20_000):
        counts.hit(f"flood-{number}")
        if number % 100 == 0:
            counts.hit("busy")

    assert len(counts.top) <= MAX_TOP
    assert next(iter(counts.since_flush(3).top)) == "busy"


def test_a_flush_reports_what_is_new() -> None:
    counts = LimitStatistics()
    counts.allowed, counts.denied = 5, 2
    counts.hit("a")
    assert counts.since_flush(3) == LimitCounts(allowed=5, denied=2, top={"a": 1})

    counts.mark_flushed()
    counts.allowed += 1

    assert counts.since_flush(3) == LimitCounts(allowed=1)


def test_keys_are_shown_short_printable_and_secrets_hashed() -> None:
    plain = LimitStatistics()
    secret = LimitStatistics(hides_keys=True)

    assert plain.shown("a\nb") == "a\\nb"
    assert len(plain.shown("x" * 5000)) < 140
    assert "hunter2" not in secret.shown("hunter2")
    assert secret.shown("hunter2") == secret.shown("hunter2") != secret.shown("hunter3")


def test_counts_of_two_instances_add_up() -> None:
    both = merged(
        LimitCounts(allowed=1, denied=2, shadow_denied=3, top={"a": 2, "b": 5}),
        LimitCounts(allowed=10, top={"a": 9}),
        1,
    )

    assert both == LimitCounts(allowed=11, denied=2, shadow_denied=3, top={"a": 11})
