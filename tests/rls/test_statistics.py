"""What the rate limit service counts, under which names, and how many of those."""

from __future__ import annotations

import pytest
from tests.rls.asking import Asked, described

from silence_gateway.rls.settings import RlsSettings
from silence_gateway.rls.statistics import OTHERS, RlsStatistics, plain_name

RULES = """
domain: d
descriptors:
  - key: plain
    rate_limit: {unit: minute, requests_per_unit: 10}
  - key: detailed
    detailed_metric: true
    rate_limit: {unit: minute, requests_per_unit: 10}
  - key: free
    rate_limit: {unlimited: true}
"""


def test_hits_are_counted_as_near_over_and_within() -> None:
    asked = Asked(RULES)
    for hits in (7, 2, 4, 1):
        asked.answer("plain=1", hitsAddend=hits)

    assert asked.counted("d.plain") == {
        "total_hits": 14,
        "within_limit": 9,
        "near_limit": 2,
        "over_limit": 4,
    }


def test_the_near_threshold_can_be_set() -> None:
    asked = Asked(RULES, RlsSettings(near_limit_ratio=0.5))
    for _ in range(7):
        asked.answer("plain=1")

    assert asked.counted("d.plain")["near_limit"] == 2


def test_every_rule_has_its_statistics_from_the_start() -> None:
    assert set(Asked(RULES).service.statistics.rules) == {"d.plain", "d.detailed", "d.free"}


def test_a_detailed_rule_counts_each_value() -> None:
    asked = Asked(RULES)
    asked.answer("detailed=1.2.3.4")
    asked.answer("detailed=a:b|c")

    assert asked.counted("d.detailed_1_2_3_4") == {"total_hits": 1, "within_limit": 1}
    assert asked.counted("d.detailed_a_b_c") == {"total_hits": 1, "within_limit": 1}


def test_what_is_unlimited_is_not_counted() -> None:
    asked = Asked(RULES)
    asked.answer("free=1")

    assert asked.counted("d.free") == {}


def test_the_number_of_names_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("silence_gateway.rls.statistics.MAX_NAMES", 2)
    asked = Asked(RULES)
    for number in range(5):
        asked.answer(described(f"brought={number}", limit={"requestsPerUnit": 9, "unit": "DAY"}))
    asked.answer("plain=1")

    assert set(asked.service.statistics.rules) == {
        "d.plain", "d.detailed", "d.free", "d.brought_0", "d.brought_1", OTHERS,
    }  # fmt: skip
    assert asked.counted(OTHERS)["total_hits"] == 3
    assert asked.counted("d.plain")["total_hits"] == 1


def test_the_number_of_unknown_domains_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("silence_gateway.rls.statistics.MAX_DOMAINS", 2)
    statistics = RlsStatistics()
    for domain in ("a", "b", "c", "d", "a"):
        statistics.domain_not_found(domain, 1)

    assert statistics.domains_not_found == {"a": 2, "b": 1, OTHERS: 2}


def test_names_have_nothing_in_them_that_statsd_takes_apart() -> None:
    assert plain_name("d.a:b|c.1.2.3.4.x") == "d.a_b_c.1_2_3_4.x"


def test_settings_out_of_range_are_refused() -> None:
    for ratio in (0.0, 1.1):
        with pytest.raises(ValueError, match="near_limit_ratio"):
            RlsSettings(near_limit_ratio=ratio)
    with pytest.raises(ValueError, match="local_cache"):
        RlsSettings(local_cache=-1)
