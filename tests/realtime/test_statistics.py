"""Counts stay bounded, whatever peers say."""

from __future__ import annotations

from silence_gateway.realtime.statistics import RealtimeStatistics


def test_closes_are_counted_by_codes_that_mean_something() -> None:
    statistics = RealtimeStatistics()
    for code in (1000, 1006, 3500, 4999, 3999, 70_000, -1):
        statistics.count_close(code)

    assert statistics.closes == {1000: 1, 1006: 1, 3500: 1, 0: 4}


def test_everything_is_told_by_name() -> None:
    statistics = RealtimeStatistics(sockets=3, connected=2)

    assert statistics.by_state == {"connecting": 1, "connected": 2}
    assert statistics.as_dict()["sockets"] == 3
