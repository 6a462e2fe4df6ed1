"""Errors as clients read them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from silence_gateway.core.http import Request, Response
from silence_gateway.core.http_head import Rejected
from silence_gateway.edge.codes import CODES
from silence_gateway.edge.problems import MAY_HAVE_RUN, answer_errors, problem
from silence_gateway.errors import (
    AccessDenied,
    ConfigError,
    GatewayError,
    MethodNotAllowed,
    RateLimited,
    RpcError,
    StoreMisconfigured,
    StoreUnavailable,
    Unauthenticated,
    UpstreamProtocolError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from silence_gateway.events import Event, Noticed


def request() -> Request:
    made = Request("GET", "/a?token=secret", {})
    made.request_id = "r-1"
    return made


def said(response: Response) -> dict[str, Any]:
    read = json.loads(response.body)
    assert isinstance(read, dict)
    return read


def test_a_problem_has_what_the_contract_promises() -> None:
    response = problem(AccessDenied("your address is on the deny list"), request())

    assert response.status == 403
    assert response.headers == [(b"content-type", b"application/problem+json")]
    assert said(response) == {
        "type": "urn:silence-gateway:problem:forbidden",
        "title": "Forbidden",
        "status": 403,
        "detail": "your address is on the deny list",
        "code": "PERMISSION_DENIED",
        "request_id": "r-1",
    }


@pytest.mark.parametrize(
    ("wait_s", "header", "member"),
    [(0.0004, b"1", 0.0), (1.0, b"1", 1.0), (1.2, b"2", 1.2), (59.0001, b"60", 59.0)],
)
def test_a_limited_caller_learns_when_to_come_back(wait_s: float, header: bytes, member: float) -> None:
    response = problem(RateLimited(["login"], wait_s, [(b"ratelimit", b"x")]), request())

    assert response.status == 429
    assert (b"retry-after", header) in response.headers
    assert (b"ratelimit", b"x") in response.headers
    assert said(response)["retry_after_s"] == member
    assert said(response)["violated-policies"] == ["login"]
    assert said(response)["type"].endswith("#quota-exceeded")


def test_a_caller_that_can_never_pass_is_not_told_to_wait() -> None:
    response = problem(RateLimited(["login"], None))

    assert "retry_after_s" not in said(response)
    assert b"retry-after" not in dict(response.headers)


def test_other_refusals_say_what_would_work() -> None:
    assert (b"allow", b"GET, PUT") in problem(MethodNotAllowed(["GET", "PUT"])).headers
    assert (b"www-authenticate", b"Bearer") in problem(Unauthenticated("no token")).headers
    assert (b"a", b"b") in problem(Rejected(426, "r", "d", [(b"a", b"b")])).headers


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("10.0.0.1"),
        UpstreamUnavailable("10.0.0.1"),
        UpstreamUnavailable("10.0.0.1", overloaded=True),
        UpstreamTimeout("10.0.0.1"),
        UpstreamProtocolError("10.0.0.1"),
        StoreUnavailable("10.0.0.1"),
        StoreMisconfigured("10.0.0.1"),
        GatewayError("10.0.0.1"),
        ValueError("10.0.0.1"),
    ],
)
def test_what_happens_inside_stays_inside(error: Exception) -> None:
    response = problem(error, request())

    assert response.status >= 500
    assert b"10.0.0.1" not in response.body
    assert said(response)["request_id"] == "r-1"


def test_a_caller_is_told_whether_its_request_may_have_been_carried_out() -> None:
    """It may repeat what was never sent; the other it must look into first."""
    sent = problem(UpstreamUnavailable("the connection broke", sent=True), request())
    unsent = problem(UpstreamUnavailable("refused", sent=False), request())

    assert said(sent)["detail"] == MAY_HAVE_RUN
    assert "cannot be reached" in said(unsent)["detail"]


def test_a_request_that_never_left_is_not_told_that_nobody_answered() -> None:
    waited = said(problem(UpstreamTimeout("no place", sent=False), request()))
    asked = said(problem(UpstreamTimeout("no answer"), request()))

    assert waited["status"] == asked["status"] == 504
    assert "no room" in waited["detail"]
    assert "did not answer" in asked["detail"]


def test_an_answer_of_the_upstream_keeps_its_words() -> None:
    response = problem(RpcError(5, "no such user"), request())

    assert response.status == 404
    assert said(response) == {"code": 5, "message": "no such user", "details": []}


def test_a_text_that_cannot_be_encoded_still_becomes_an_answer() -> None:
    assert said(problem(AccessDenied("\ud800")))["detail"] == "?"


def handle(error: BaseException) -> tuple[Response, list[Event]]:
    noticed: list[Event] = []

    async def fail(_: Request) -> Response:
        raise error

    return asyncio.run(answer_errors(noticed.append)(fail)(request())), noticed  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "error", [kind("x") for kind in CODES if kind not in {RateLimited, MethodNotAllowed, RpcError}]
)
def test_every_error_becomes_an_answer(error: GatewayError) -> None:
    response, noticed = handle(error)

    assert response.status == CODES[type(error)].http
    assert len(noticed) == (response.status in {500, 502})


def test_what_a_client_did_wrong_in_its_body_is_answered_and_alarms_nobody() -> None:
    response, noticed = handle(Rejected(408, "timeout", "the request did not arrive in time"))

    assert response.status == 408
    assert noticed == []


def test_an_unexpected_error_is_told_with_its_place_but_not_the_query() -> None:
    response, noticed = handle(KeyError("lost"))

    (event,) = noticed
    assert response.status == 500
    assert isinstance(event, Noticed)
    assert event.level == "error"
    assert "KeyError: 'lost'" in event.what
    assert "test_problems.py:" in event.what
    assert "r-1" in event.what
    assert "secret" not in event.what


def test_what_an_upstream_answered_instead_of_grpc_is_told_to_the_log_alone() -> None:
    response, noticed = handle(UpstreamProtocolError("two messages"))

    (event,) = noticed
    assert isinstance(event, Noticed)
    assert event.level == "warning"
    assert event.what == "GET /a ended in UpstreamProtocolError: two messages (request r-1)"
    assert b"two messages" not in response.body


def test_cancelling_passes() -> None:
    async def main() -> None:
        async def wait(_: Request) -> Response:
            await asyncio.Event().wait()
            return Response(200)

        async def answer() -> Response:
            return await answer_errors(lambda _: None)(wait)(request())

        task = asyncio.create_task(answer())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_an_answer_passes() -> None:
    async def main() -> None:
        async def fine(_: Request) -> Response:
            return Response(204)

        assert (await answer_errors(lambda _: None)(fine)(request())).status == 204

    asyncio.run(main())


def test_a_caller_turned_away_by_a_breaker_is_told_when_to_come_back() -> None:
    response = problem(UpstreamUnavailable("open", sent=False, retry_after_s=3.2), request())

    assert response.status == 503
    assert (b"retry-after", b"4") in response.headers
    assert said(response)["retry_after_s"] == 3.2


def test_a_caller_of_an_upstream_that_has_too_much_to_do_is_not_told_that_it_is_gone() -> None:
    response = problem(UpstreamUnavailable("shed", sent=False, overloaded=True, retry_after_s=0.1), request())

    assert response.status == 503
    assert (b"retry-after", b"1") in response.headers
    assert said(response)["retry_after_s"] == 0.1
    assert "more to do than it can" in said(response)["detail"]


def test_an_upstream_that_is_gone_for_nobody_knows_how_long_names_no_time() -> None:
    assert b"retry-after" not in dict(problem(UpstreamUnavailable("gone"), request()).headers)
