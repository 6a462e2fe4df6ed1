"""
The API that application servers publish with: `POST /api/<method>` with `X-API-Key`.

Shaped as Centrifugo's, so that its client libraries work: the answer is 200 with `result` or with
`error` (code and message); with `X-Centrifugo-Error-Mode: transport` an error also has a fitting
status. Methods that need what this gateway does not keep (history ...) answer 108. What a method does
is in `server_methods.py`.
"""

from __future__ import annotations

import hmac
import json
from typing import Any

from silence_gateway.core.centrifuge import BadFrame, decode_json
from silence_gateway.core.centrifuge_codes import ReplyError
from silence_gateway.core.http import Handler, Request, Response
from silence_gateway.errors import BadRequest, MethodNotAllowed, NotFound, Unauthenticated
from silence_gateway.realtime.hub import RealtimeHub
from silence_gateway.realtime.server_methods import METHODS, ServerMethods

PREFIX = "/api/"
HTTP_OF_ERROR = {100: 500, 102: 404, 104: 404, 107: 400, 108: 400, 112: 416, 113: 409}


def server_api(hub: RealtimeHub) -> Handler:
    """Return the handler of everything below `/api/`; without a key in the settings there is nothing."""
    methods = ServerMethods(hub)
    key = hub.settings.api_key.encode()

    async def handle(request: Request) -> Response:
        if not key:
            raise NotFound("the server API is off: set realtime.api_key")
        if not hmac.compare_digest(request.headers.get(b"x-api-key", b""), key):
            hub.statistics.refused_keys += 1
            raise Unauthenticated("X-API-Key is missing or wrong", 'ApiKey header="X-API-Key"')
        method = request.path.removeprefix(PREFIX).strip("/")
        if method not in METHODS:
            raise NotFound(f"there is no /api/{method[:64]}; there are {', '.join(METHODS)}")
        if request.method != "POST":
            raise MethodNotAllowed(["POST"])
        answer = await methods.call(method, read_params(request.body))
        transport = request.headers.get(b"x-centrifugo-error-mode", b"").lower() == b"transport"
        status = HTTP_OF_ERROR.get(answer.code, 400) if isinstance(answer, ReplyError) and transport else 200
        return Response(status, [(b"content-type", b"application/json")], encode_answer(answer))

    return handle


def read_params(body: bytes) -> dict[str, Any]:
    """
    Return the JSON object in *body*; an empty body is an empty object.

    Raises:
        BadRequest: It is something else.
    """
    if not body.strip():
        return {}
    try:
        params = decode_json(body.decode())
    except (BadFrame, UnicodeDecodeError) as exc:
        raise BadRequest(f"the body must be a JSON object: {exc}") from exc
    if not isinstance(params, dict):
        raise BadRequest("the body must be a JSON object")
    return params


def encode_answer(answer: dict[str, Any] | ReplyError) -> bytes:
    """Return the body of an answer."""
    if isinstance(answer, ReplyError):
        return json.dumps({"error": {"code": answer.code, "message": answer.message}}).encode()
    return json.dumps({"result": answer}, ensure_ascii=False).encode(errors="replace")
