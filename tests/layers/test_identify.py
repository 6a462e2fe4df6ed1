"""Who asks."""

from __future__ import annotations

import asyncio

import pytest

from silence_gateway.core.http import Request, Response
from silence_gateway.layers.identify import identify, request_ids


async def answer(_request: Request) -> Response:
    return Response(200)


def pass_through(request: Request, *trusted: str) -> Request:
    async def scenario() -> None:
        await identify(trusted)(answer)(request)

    asyncio.run(scenario())
    return request


@pytest.mark.parametrize("given_id", [b"abc-123", b"x" * 128, b"a.b_c~d"])
def test_a_sane_request_id_is_kept_and_answered(given_id: bytes) -> None:
    request = pass_through(Request("GET", "/", {b"x-request-id": given_id}, peer="1.2.3.4"))

    assert request.request_id == given_id.decode()
    assert request.extra_headers == [(b"X-Request-Id", given_id)]
    assert request.client_ip == "1.2.3.4"


@pytest.mark.parametrize("given_id", [b"", b"x" * 129, b"a b", b"a\r\nb", b"\xff", b"a,b", b"a\n"])
def test_any_other_request_id_is_made_anew(given_id: bytes) -> None:
    request = pass_through(Request("GET", "/", {b"x-request-id": given_id}))

    assert request.request_id.encode() != given_id
    assert request.extra_headers == [(b"X-Request-Id", request.request_id.encode())]


def test_made_ids_differ_within_a_process_and_between_two() -> None:
    one, other = request_ids(), request_ids()

    assert len({one(), one(), other(), other()}) == 4
