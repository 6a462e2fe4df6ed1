"""POST /json, as envoyproxy/ratelimit answers it."""

from __future__ import annotations

import json

import pytest
from tests.rls.asking import Asked, run

from silence_gateway.core.http import Request, Response
from silence_gateway.errors import MethodNotAllowed, NotFound, StoreUnavailable
from silence_gateway.rls.json_door import json_door

RULES = """
domain: d
descriptors:
  - key: addr
    rate_limit: {unit: minute, requests_per_unit: 1}
  - key: tenant
    rate_limit: {unit: day, requests_per_unit: 2, name: t}
"""
QUESTION = (
    b'{"domain": "d", "descriptors": [{"entries": [{"key": "addr", "value": "1"}]}, '
    b'{"entries": [{"key": "tenant", "value": "a"}]}]}'
)


def post(asked: Asked, body: bytes, path: str = "/json", method: str = "POST") -> Response:
    async def scenario() -> Response:
        return await json_door(asked.service)(Request(method, path, {}, body))

    return run(scenario())


def test_a_question_within_its_limits_is_answered_200_and_one_beyond_them_429() -> None:
    asked = Asked(RULES)

    first, second = post(asked, QUESTION), post(asked, QUESTION)
    assert (first.status, second.status) == (200, 429)
    assert first.headers == [(b"content-type", b"application/json")]
    assert json.loads(first.body)["overallCode"] == "OK"
    assert json.loads(second.body) == {
        "overallCode": "OVER_LIMIT",
        "statuses": [
            {
                "code": "OVER_LIMIT",
                "currentLimit": {"requestsPerUnit": 1, "unit": "MINUTE"},
                "durationUntilReset": "30s",
            },
            {
                "code": "OK",
                "currentLimit": {"name": "t", "requestsPerUnit": 2, "unit": "DAY"},
                "durationUntilReset": "6390s",
            },
        ],
    }


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"[]", id="no object"),
        pytest.param(b"{", id="no JSON"),
        pytest.param(b'{"domain": "d", "descriptors": [], "typo": 1}', id="an unknown field"),
        pytest.param(b'{"domain": "d", "domain": "e"}', id="a field twice"),
        pytest.param(b'{"domain": 1}', id="a wrong type"),
        pytest.param(b'{"domain": "d"}', id="no descriptors"),
        pytest.param(b'{"descriptors": [{}]}', id="no domain"),
        pytest.param(b'{"domain": "d", "descriptors": [{"isNegativeHits": true}]}', id="giving hits back"),
        pytest.param(b'{"domain": "d", "descriptors": ' + b"[" * 100_000, id="very deep"),
    ],
)
def test_a_question_that_makes_no_sense_is_answered_400(body: bytes) -> None:
    answer = post(Asked(RULES), body)

    assert answer.status == 400
    assert answer.body.strip()


def test_a_store_that_does_not_answer_is_our_fault_and_no_limit() -> None:
    asked = Asked(RULES)
    asked.counters.error = StoreUnavailable("valkey.internal is gone")

    answer = post(asked, QUESTION)
    assert answer.status == 500
    assert b"valkey.internal" not in answer.body


def test_a_probe_is_answered() -> None:
    assert post(Asked(RULES), b"", "/healthcheck", "GET").status == 200


def test_there_is_nothing_else() -> None:
    with pytest.raises(NotFound):
        post(Asked(RULES), b"", "/", "GET")
    with pytest.raises(MethodNotAllowed):
        post(Asked(RULES), b"", "/json", "GET")
