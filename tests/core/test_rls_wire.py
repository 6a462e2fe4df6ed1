"""Answers written by hand are what google.protobuf reads."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.rls_rules import Limit, Unit
from silence_gateway.core.rls_wire import (
    OK,
    OK_STATUS,
    OVER_LIMIT,
    REQUEST_HEADERS,
    RESPONSE_HEADERS,
    UNLIMITED_STATUS,
    headers_field,
    limit_field,
    metadata_field,
    response,
    status,
)
from silence_gateway.rls.messages import DESCRIPTOR_SET


def google_class(name: str) -> Any:
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTOR_SET).file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


RESPONSE = google_class("envoy.service.ratelimit.v3.RateLimitResponse")

LIMITS = st.builds(
    Limit,
    requests=st.integers(0, (1 << 32) - 1),
    unit=st.sampled_from(Unit),
    multiplier=st.integers(1, 100),
    name=st.text(max_size=200),
)
STATUSES = st.tuples(
    st.sampled_from([OK, OVER_LIMIT]), LIMITS, st.integers(0, (1 << 32) - 1), st.integers(1, 10**10)
)
HEADERS = st.lists(st.tuples(st.text(max_size=150), st.text(max_size=150)), max_size=3)


@given(st.sampled_from([OK, OVER_LIMIT]), st.lists(STATUSES, max_size=3), HEADERS, HEADERS)
def test_google_protobuf_reads_what_was_meant(
    code: int,
    statuses: list[tuple[int, Limit, int, int]],
    headers: list[tuple[str, str]],
    request_headers: list[tuple[str, str]],
) -> None:
    written = response(
        code,
        [status(one, limit_field(limit), left, reset_s) for one, limit, left, reset_s in statuses],
        headers_field(RESPONSE_HEADERS, [(name.encode(), value.encode()) for name, value in headers])
        + headers_field(
            REQUEST_HEADERS, [(name.encode(), value.encode()) for name, value in request_headers]
        ),
    )

    meant = RESPONSE(overall_code=code)
    for one, limit, left, reset_s in statuses:
        added = meant.statuses.add(code=one, limit_remaining=left)
        added.current_limit.requests_per_unit = limit.requests
        added.current_limit.unit = limit.unit
        added.current_limit.name = limit.name
        added.duration_until_reset.seconds = reset_s
        if limit.multiplier != 1:
            added.current_limit.unit_multiplier.value = limit.multiplier
    for name, value in headers:
        meant.response_headers_to_add.add(key=name, value=value)
    for name, value in request_headers:
        meant.request_headers_to_add.add(key=name, value=value)
    assert RESPONSE.FromString(written) == meant


def test_statuses_that_are_always_the_same() -> None:
    read = RESPONSE.FromString(response(OK, [OK_STATUS, UNLIMITED_STATUS]))

    assert [(one.code, one.limit_remaining) for one in read.statuses] == [(OK, 0), (OK, (1 << 32) - 1)]
    assert not any(one.HasField("current_limit") for one in read.statuses)


def test_metadata_is_a_struct() -> None:
    struct = struct_pb2.Struct()
    struct.update({"domain": "shop", "list": [1.0, None, True], "text": "x" * 300})

    read = RESPONSE.FromString(response(OK, [], metadata_field(struct.SerializeToString())))

    assert read.dynamic_metadata.SerializeToString(deterministic=True) == struct.SerializeToString(
        deterministic=True
    )
