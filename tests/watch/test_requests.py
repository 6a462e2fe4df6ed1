"""Every request is counted by its route template, and logged when that is wanted."""

import asyncio
import json
import os

import pytest

from silence_gateway.core.http import Request, Response
from silence_gateway.core.http_head import Rejected
from silence_gateway.testing import FakeClock
from silence_gateway.watch.logs import LogFormat, LogWriter
from silence_gateway.watch.requests import AccessLog, RequestCounters, watch_requests


def request(method: str = "GET", target: str = "/v1/things/7") -> Request:
    made = Request(method, target, {b"user-agent": b"test"}, peer="192.0.2.1")
    made.request_id = "r-1"
    return made


async def answer(asked: Request) -> Response:
    asked.route = "/v1/things/{id}"
    asked.upstream_s = 0.03
    return Response(201, [], b"made")


def test_a_request_is_counted_by_its_template_not_its_path() -> None:
    counters = RequestCounters()
    handle = watch_requests(counters, None, FakeClock())(answer)

    for number in range(3):
        asyncio.run(_run(handle, request(target=f"/v1/things/{number}")))

    assert counters.total == {("/v1/things/{id}", "GET", 201): 3}
    assert sum(counters.duration["/v1/things/{id}"].counts) == 3


def test_a_method_nobody_knows_cannot_grow_the_metrics() -> None:
    counters = RequestCounters()
    handle = watch_requests(counters, None, FakeClock())(answer)

    asyncio.run(_run(handle, request(method="PURGE")))

    assert list(counters.total) == [("/v1/things/{id}", "OTHER", 201)]


def test_statuses_nobody_knows_cannot_grow_the_metrics() -> None:
    counters = RequestCounters()
    statuses = iter(range(600, 1000))

    async def pass_on(asked: Request) -> Response:
        asked.route = "/**"
        return Response(next(statuses), [], b"")

    handle = watch_requests(counters, None, FakeClock())(pass_on)
    for _ in range(400):
        asyncio.run(_run(handle, request()))

    [requests] = [one for one in counters.families() if one.name == "silence_requests_total"]
    assert {dict(sample.labels)["status"]: sample.value for sample in requests.samples} == dict.fromkeys(
        ("6xx", "7xx", "8xx", "9xx"), 100
    )


@pytest.mark.parametrize("form", ["json", "text"])
def test_what_never_became_a_request_has_its_line_too(form: LogFormat) -> None:
    read_end, write_end = os.pipe()
    log = AccessLog(LogWriter(write_end), FakeClock(), form)
    log.refused("192.0.2.1", None, Rejected(431, "head-too-large", "too much"))
    log.refused("192.0.2.1", request(target="/v1/things?q=1"), Rejected(413, "body-too-large", "too much"))
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        first, second = pipe.read().splitlines()

    if form == "text":
        assert first.endswith(" 192.0.2.1 - - 431 head-too-large")
        assert second.endswith(" 192.0.2.1 GET /v1/things?q=1 413 body-too-large")
    else:
        assert json.loads(first)["refused"] == "head-too-large"
        told = {key: json.loads(second)[key] for key in ("event", "client_ip", "method", "path", "status")}
        assert told == {
            "event": "request",
            "client_ip": "192.0.2.1",
            "method": "GET",
            "path": "/v1/things",
            "status": 413,
        }


def test_a_client_that_left_is_counted_as_499() -> None:
    async def never(_request: Request) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    counters = RequestCounters()
    handle = watch_requests(counters, None, FakeClock())(never)

    async def scenario() -> None:
        task = asyncio.ensure_future(handle(request()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
    assert counters.total == {("none", "GET", 499): 1}


@pytest.mark.parametrize("form", ["json", "text"])
def test_the_access_log_has_one_line_per_request(form: str) -> None:
    read_end, write_end = os.pipe()

    async def scenario() -> None:
        clock = FakeClock()
        log = AccessLog(LogWriter(write_end), clock, form)  # type: ignore[arg-type]
        handle = watch_requests(RequestCounters(), log, clock)(answer)
        await handle(request())
        await asyncio.sleep(0)

    asyncio.run(scenario())
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        (line,) = pipe.read().splitlines()
    if form == "json":
        fields = json.loads(line)
        assert fields["request_id"] == "r-1"
        assert fields["route"] == "/v1/things/{id}"
        assert fields["status"] == 201
        assert fields["sent_bytes"] == 4
        assert fields["upstream_ms"] == 30.0
    else:
        assert "192.0.2.1 GET /v1/things/7 201" in line


async def _run(handle: object, asked: Request) -> Response:
    return await handle(asked)  # type: ignore[operator,no-any-return]
