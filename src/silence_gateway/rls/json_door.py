"""
The JSON door: `POST /json` with a RateLimitRequest in ProtoJSON, answered with a RateLimitResponse.

Statuses are those of envoyproxy/ratelimit: 200 within the limits, 429 over one, 400 for a question that
cannot be understood. Where the store does not answer it is 500, which there is 400 too, as if the caller were
at fault. `GET /healthcheck` is for the probes that point there already.
"""

from __future__ import annotations

from silence_gateway.core.http import Handler, Request, Response
from silence_gateway.core.rls_wire import OVER_LIMIT
from silence_gateway.errors import BadRequest, MethodNotAllowed, NotFound, RpcError, StoreFault
from silence_gateway.rls.messages import REGISTRY, RateLimitRequest, RateLimitResponse
from silence_gateway.rls.service import RateLimitService
from silence_gateway.transcoding.json_bodies import parse_json

JSON = (b"content-type", b"application/json")
TEXT = (b"content-type", b"text/plain; charset=utf-8")


def json_door(service: RateLimitService) -> Handler:
    """Return the handler of a listener that serves `/json` and `/healthcheck`."""

    async def handle(request: Request) -> Response:
        if request.path == "/json":
            if request.method != "POST":
                raise MethodNotAllowed(["POST"])
            return await answer_json(service, request.body)
        if request.path == "/healthcheck":
            return Response(200, [TEXT], b"OK")
        raise NotFound("there are /json and /healthcheck")

    return handle


async def answer_json(service: RateLimitService, body: bytes) -> Response:
    """Answer one question in JSON; the status says whether it may pass."""
    try:
        question = parse_json(RateLimitRequest, body, REGISTRY)
        answer = RateLimitResponse.from_binary(await service.should_rate_limit(question.to_binary()))
    except (BadRequest, RpcError) as exc:
        said = exc.details if isinstance(exc, RpcError) else str(exc)
        return Response(400, [TEXT], f"{said}\n".encode(errors="replace"))
    except StoreFault:
        return Response(500, [TEXT], b"the shared store cannot be used at the moment\n")
    status = 429 if answer.overall_code == OVER_LIMIT else 200
    return Response(status, [JSON], answer.to_json().encode())
