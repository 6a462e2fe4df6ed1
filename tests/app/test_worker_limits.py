"""How limits are used, as several workers tell it."""

from __future__ import annotations

from typing import Any

import pytest

from silence_gateway.app.worker_limits import OWN_COUNTS, limits_together


def window(allowed: int, clients: int, **top: int) -> dict[str, Any]:
    return {
        "allowed": allowed, "denied": 1, "shadow_denied": 0, "near": 0, "unique_clients": clients,
        "top": [{"key": key, "requests": count} for key, count in top.items()],
        "top_denied": [{"key": key, "denied": count} for key, count in top.items()],
    }  # fmt: skip


def limit(name: str, allowed: int, since_us: int = 5, counted_by: str = "this instance", **top: int) -> Any:
    return {
        "name": name, "rate": "10/m", "burst": 7, "counted_by": counted_by, "since_us": since_us,
        "allowed": allowed, "denied": 1, "shadow_denied": 0, "near": 0,
        "unique_clients": {"1m": 1, "1h": 2},
        "top": [{"key": key, "requests": count} for key, count in top.items()],
    }  # fmt: skip


def test_what_each_counted_for_itself_is_added_up() -> None:
    one = [limit("a", 3, 9, x=3, y=1), limit("b", 1)]
    two = [limit("a", 4, 7, z=5, y=4), limit("b", 0)]

    first, second = limits_together([one, two])

    assert first == limit("a", 7, 7) | {
        "denied": 2,
        "unique_clients": {"1m": 2, "1h": 4},
        "top": [{"key": "y", "requests": 5}, {"key": "z", "requests": 5}],
    }
    assert (second["name"], second["allowed"], second["top"]) == ("b", 1, [])


def test_windows_are_added_up_one_by_one() -> None:
    one = limit("a", 3) | {"windows": {"1m": window(1, 1, x=1), "1h": window(2, 2, x=2)}}
    two = limit("a", 4) | {"windows": {"1m": window(3, 1, y=3), "1h": window(4, 1, x=4)}}

    windows = limits_together([one, two])["windows"]

    assert windows["1m"]["allowed"] == 4
    assert windows["1m"]["top"] == [{"key": "y", "requests": 3}]
    assert windows["1h"]["unique_clients"] == 3
    assert windows["1h"]["top_denied"] == [{"key": "x", "denied": 6}]


@pytest.mark.parametrize("word", ["requests", "denied"])
def test_the_top_of_one_limit_is_added_up_by_what_was_asked(word: str) -> None:
    answers = [
        {"name": "a", "counted_by": "this instance", "unique_clients": 1, "top": top}
        for top in ([{"key": "x", word: 2}], [], [{"key": "x", word: 3}])
    ]

    together = limits_together(answers)

    assert (together["unique_clients"], together["top"]) == (3, [{"key": "x", word: 5}])


def test_what_the_fleet_counted_is_told_once_whoever_tells_it() -> None:
    """One worker may not have noticed yet that the store is back."""
    alone, fleet = limit("a", 3), limit("a", 40, counted_by="fleet")

    assert limits_together([[alone], [fleet], [fleet]]) == [fleet]
    assert limits_together([alone, fleet]) == fleet
    assert limits_together([[], []]) == []


@pytest.mark.parametrize(
    ("path", "own"),
    [
        ("limits", True),
        ("limits/top", True),
        ("limits/login", True),
        ("limits/explain", False),
        ("limits/explain-me", True),
        ("limits/login/keys/a", False),
        ("stats", False),
    ],
)
def test_only_answers_of_these_shapes_are_added_up(path: str, own: bool) -> None:
    assert (OWN_COUNTS.fullmatch(path) is not None) is own
