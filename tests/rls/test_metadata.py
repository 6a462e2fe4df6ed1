"""What Envoy is told beside the decision."""

from __future__ import annotations

import json
from typing import Any

from tests.rls.asking import Asked, described

from silence_gateway.rls.settings import RlsSettings

RULES = """
domain: d
descriptors:
  - key: model
    value: big
    metadata: {route: {cluster: big, cost: 2}, first: big}
    quota_mode: true
    rate_limit: {unit: minute, requests_per_unit: 1}
  - key: model
    value: small
    metadata: {route: {cluster: small, spare: yes}, first: small, list: [1, "2", ~]}
    quota_mode: true
    rate_limit: {unit: minute, requests_per_unit: 5}
  - key: detailed
    detailed_metric: true
    metadata: {kept: true}
    rate_limit: {unit: minute, requests_per_unit: 5}
  - key: plain
    rate_limit: {unit: minute, requests_per_unit: 5}
"""


def told(asked: Asked, *descriptors: str | dict[str, Any], **more: Any) -> Any:
    answer = asked.answer(*descriptors, **more)
    return json.loads(answer.dynamic_metadata.to_json()) if answer.dynamic_metadata is not None else None


def asked() -> Asked:
    return Asked(RULES, RlsSettings(dynamic_metadata=True, negative_hits=True))


def test_the_question_is_told() -> None:
    limit = {"requestsPerUnit": 42, "unit": "HOUR", "unitMultiplier": 2}
    descriptors = (
        "plain=a,deep=b",
        described("plain=c", limit=limit, hitsAddend=7),
        described("plain=d", limit={"unit": 7}),
    )

    assert told(asked(), *descriptors, hitsAddend=3) == {
        "domain": "d",
        "hitsAddend": 3,
        "descriptors": [
            {"entries": ["plain=a", "deep=b"]},
            {
                "entries": ["plain=c"],
                "limit": "requests_per_unit:42 unit:HOUR unit_multiplier:{value:2}",
                "hitsAddend": 7,
            },
            {"entries": ["plain=d"], "limit": "unit:WEEK"},
        ],
    }


def test_metadata_of_what_is_within_its_limit_is_told_and_merged() -> None:
    service = asked()

    assert told(service, "model=big", "model=small")["metadata"] == {
        "route": {"cluster": "big", "cost": 2, "spare": True},
        "first": "big",
        "list": [1, "2", None],
    }
    assert told(service, "model=big", "model=small")["metadata"] == {
        "route": {"cluster": "small", "spare": True},
        "first": "small",
        "list": [1, "2", None],
    }
    assert "metadata" not in told(service, "model=big")
    assert "metadata" not in told(service, "plain=1")


def test_a_rule_with_detailed_statistics_keeps_its_metadata() -> None:
    assert told(asked(), "detailed=1")["metadata"] == {"kept": True}


def test_an_unknown_domain_is_told_as_well() -> None:
    assert told(asked(), "a=1", domain="unknown") == {
        "domain": "unknown",
        "descriptors": [{"entries": ["a=1"]}],
    }


def test_nothing_is_told_where_it_is_off() -> None:
    assert told(Asked(RULES), "model=big") is None
