"""The health service's two messages, hand-written and hand-read, agree with the generated ones."""

from __future__ import annotations

import asyncio

import pytest
from grpc_health.v1 import health_pb2
from hypothesis import given
from hypothesis import strategies as st

from silence_gateway.core.health import Check
from silence_gateway.core.status import Code
from silence_gateway.errors import UpstreamProtocolError
from silence_gateway.testing.clock import FakeClock
from silence_gateway.testing.scripted_upstream import (
    Broken,
    Failure,
    Reply,
    Script,
    ScriptedUpstream,
    Silence,
)
from silence_gateway.upstreams.grpc_health import CHECK, check
from silence_gateway.upstreams.health_messages import check_request, says_not_serving


@given(st.text(max_size=300))
def test_requests_are_what_protobuf_would_write(service: str) -> None:
    assert check_request(service) == health_pb2.HealthCheckRequest(service=service).SerializeToString()


@pytest.mark.parametrize("status", [0, 1, 2, 3])
def test_answers_are_read_as_protobuf_would(status: int) -> None:
    message = health_pb2.HealthCheckResponse(status=status).SerializeToString()

    assert says_not_serving(message) is (status == 2)


@given(st.binary(max_size=40))
def test_any_bytes_can_be_read_and_end(message: bytes) -> None:
    assert says_not_serving(message) in (True, False)


@pytest.mark.parametrize(
    ("message", "not_serving"),
    [
        pytest.param(b"", False, id="no-field-is-unknown"),
        pytest.param(b"\x08\x02", True, id="plain"),
        pytest.param(b"\x08\x02\x08\x01", False, id="the-last-one-counts"),
        pytest.param(b"\x12\x03abc\x08\x02", True, id="other-fields-are-skipped"),
        pytest.param(b"\x11" + bytes(8) + b"\x1d" + bytes(4) + b"\x08\x02", True, id="of-every-kind"),
        pytest.param(b"\x0a\x02\x08\x02", False, id="not-the-same-field-of-another-kind"),
        pytest.param(b"\x08", False, id="cut-short"),
        pytest.param(b"\x08\x02\x12\xff", False, id="cut-short-later"),
        pytest.param(b"\x08" + b"\xff" * 20, False, id="endless-number"),
        pytest.param(b"\x0b\x08\x02", False, id="groups-are-not-read"),
    ],
)
def test_odd_answers(message: bytes, not_serving: bool) -> None:
    assert says_not_serving(message) is not_serving


@pytest.mark.parametrize(
    ("script", "outcome", "text"),
    [
        pytest.param(Reply(b"\x08\x01"), Check.SERVING, "", id="serving"),
        pytest.param(Reply(b"\x08\x02"), Check.REFUSING, "NOT_SERVING", id="not-serving"),
        pytest.param(Reply(b"\xff\xff"), Check.SERVING, "", id="nonsense-is-an-answer"),
        pytest.param(Failure(Code.UNIMPLEMENTED), Check.SERVING, "", id="no-health-service"),
        pytest.param(Failure(Code.NOT_FOUND), Check.SERVING, "", id="unknown-service-name"),
        pytest.param(Failure(Code.UNAVAILABLE), Check.SILENT, "UNAVAILABLE", id="a-proxy-without-its-server"),
        pytest.param(Broken(sent=True), Check.SILENT, "breaks", id="broken"),
        pytest.param(Reply(then=UpstreamProtocolError("HTTP 200")), Check.SILENT, "HTTP 200", id="not-grpc"),
    ],
)
def test_how_a_check_ends(script: Script, outcome: Check, text: str) -> None:
    async def scenario() -> None:
        upstream = ScriptedUpstream(script, clock=FakeClock())

        ended, error = await check(upstream, check_request("shop"), 1.0)

        assert ended is outcome
        assert text in error
        assert (upstream.calls[0].method, upstream.calls[0].message) == (CHECK, b"\x0a\x04shop")

    asyncio.run(scenario())


def test_a_check_ends_with_its_deadline() -> None:
    async def scenario() -> None:
        clock = FakeClock()
        checking = asyncio.ensure_future(check(ScriptedUpstream(Silence(), clock=clock), b"", 1.0))

        await clock.advance(1)

        assert (await checking)[0] is Check.SILENT

    asyncio.run(scenario())
