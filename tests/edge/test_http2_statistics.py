"""Every bound is counted under a name, and the docs know all of them."""

from __future__ import annotations

import re
from pathlib import Path

from silence_gateway.core.h2_flood import Noise
from silence_gateway.edge.http2_statistics import Cap, Http2Statistics

PAGE = Path(__file__).parents[2] / "docs" / "design" / "edge.md"


def test_every_kind_of_noise_has_a_bound_of_its_name() -> None:
    assert [Cap[noise.name] for noise in Noise] == list(Cap)[: len(Noise)]


def test_the_page_has_a_row_for_every_bound_and_for_no_other() -> None:
    _, _, rows = PAGE.read_text().partition("| counted as |")
    table, _, _ = rows.partition("\n\n")

    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [cap.value for cap in Cap]


def test_counts_begin_at_zero() -> None:
    statistics = Http2Statistics()
    statistics.violate(1)
    statistics.violate(1)

    assert set(statistics.capped.values()) == {0}
    assert statistics.violations == {1: 2}
