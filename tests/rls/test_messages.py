"""The messages are Envoy's, to the last name and number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from hypothesis import given
from hypothesis import strategies as st
from tests.rls.asking import Asked, run

from silence_gateway.errors import BadRequest
from silence_gateway.rls import messages
from silence_gateway.testing.protos import compile_protos

ROOT = Path(messages.__file__).parent

FIELDS = {
    "envoy.service.ratelimit.v3.RateLimitRequest": {"domain": 1, "descriptors": 2, "hits_addend": 3},
    "envoy.service.ratelimit.v3.RateLimitResponse": {
        "overall_code": 1,
        "statuses": 2,
        "response_headers_to_add": 3,
        "request_headers_to_add": 4,
        "raw_body": 5,
        "dynamic_metadata": 6,
        "quota": 7,
    },
    "envoy.service.ratelimit.v3.RateLimitResponse.RateLimit": {
        "name": 3,
        "requests_per_unit": 1,
        "unit": 2,
        "unit_multiplier": 4,
    },
    "envoy.service.ratelimit.v3.RateLimitResponse.DescriptorStatus": {
        "code": 1,
        "current_limit": 2,
        "limit_remaining": 3,
        "duration_until_reset": 4,
        "quota": 5,
    },
    "envoy.extensions.common.ratelimit.v3.RateLimitDescriptor": {
        "entries": 1,
        "limit": 2,
        "hits_addend": 3,
        "is_negative_hits": 4,
    },
    "envoy.extensions.common.ratelimit.v3.RateLimitDescriptor.Entry": {"key": 1, "value": 2},
    "envoy.extensions.common.ratelimit.v3.RateLimitDescriptor.RateLimitOverride": {
        "requests_per_unit": 1,
        "unit": 2,
        "unit_multiplier": 3,
    },
    "envoy.config.core.v3.HeaderValue": {"key": 1, "value": 2, "raw_value": 3},
}

POOL = DescriptorPool()
for _file in descriptor_pb2.FileDescriptorSet.FromString(messages.DESCRIPTOR_SET).file:
    POOL.Add(_file)


@pytest.mark.parametrize("name", FIELDS)
def test_names_and_numbers_are_those_of_envoy(name: str) -> None:
    fields = POOL.FindMessageTypeByName(name).fields

    assert {field.name: field.number for field in fields} == FIELDS[name]


def test_units_and_the_method_are_those_of_envoy() -> None:
    unit = POOL.FindEnumTypeByName("envoy.service.ratelimit.v3.RateLimitResponse.RateLimit.Unit")
    assert {value.name: value.number for value in unit.values} == {
        "UNKNOWN": 0, "SECOND": 1, "MINUTE": 2, "HOUR": 3, "DAY": 4, "MONTH": 5, "YEAR": 6, "WEEK": 7,
    }  # fmt: skip
    assert messages.METHOD == "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
    [method] = POOL.FindServiceByName(messages.SERVICE).methods
    assert (method.name, method.input_type.full_name, method.output_type.full_name) == (
        "ShouldRateLimit",
        "envoy.service.ratelimit.v3.RateLimitRequest",
        "envoy.service.ratelimit.v3.RateLimitResponse",
    )


def test_what_ships_is_what_the_protos_say() -> None:
    protos = ROOT / "protos"
    sources = {str(path.relative_to(protos)): path.read_text() for path in protos.rglob("*.proto")}

    compiled = descriptor_pb2.FileDescriptorSet.FromString(compile_protos(sources))
    shipped = descriptor_pb2.FileDescriptorSet.FromString(messages.DESCRIPTOR_SET)
    assert {file.name: file for file in compiled.file} == {file.name: file for file in shipped.file}


REQUEST: Any = message_factory.GetMessageClass(
    POOL.FindMessageTypeByName("envoy.service.ratelimit.v3.RateLimitRequest")
)
RESPONSE: Any = message_factory.GetMessageClass(
    POOL.FindMessageTypeByName("envoy.service.ratelimit.v3.RateLimitResponse")
)
RULES = """
domain: d
descriptors:
  - key: k
    rate_limit: {unit: minute, requests_per_unit: 1000000000}
"""


@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.sampled_from(["k", "é", ""]), st.text(max_size=200)), max_size=2),
            st.none() | st.integers(0, 1_000),
        ),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 1_000),
)
def test_questions_of_google_protobuf_are_understood(
    descriptors: list[tuple[list[tuple[str, str]], int | None]], hits: int
) -> None:
    question = REQUEST(domain="d", hits_addend=hits)
    expected = []
    counts: dict[str, int] = {}
    for entries, own in descriptors:
        added = question.descriptors.add()
        for key, value in entries:
            added.entries.add(key=key, value=value)
        if own is not None:
            added.hits_addend.value = own
        if len(entries) == 1 and entries[0][0] == "k":
            value = entries[0][1]
            counts[value] = counts.get(value, 0) + (own if own is not None else hits or 1)
            expected.append(1_000_000_000 - counts[value])
        else:
            expected.append(0)
    asked = Asked(RULES)

    answer = RESPONSE.FromString(run(asked.service.should_rate_limit(question.SerializeToString())))
    assert [status.limit_remaining for status in answer.statuses] == expected


@given(st.binary(max_size=60))
def test_any_bytes_are_a_question_or_refused(message: bytes) -> None:
    asked = Asked(RULES)

    try:
        answer = run(asked.service.should_rate_limit(message))
    except BadRequest:
        return
    assert RESPONSE.FromString(answer).overall_code
