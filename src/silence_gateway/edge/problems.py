"""
Errors as answers: RFC 9457 problem documents, and gRPC errors as google.rpc.Status JSON.

What a client did wrong is explained to it. What went wrong behind us is not: such an answer names its
kind and the request id, and the text goes to the observer's log line only.
"""

from __future__ import annotations

import json
import math
import traceback
from http import HTTPStatus

from silence_gateway.core.http import Handler, HeaderList, Layer, Request, Response
from silence_gateway.core.http_head import Rejected
from silence_gateway.core.refusal import refusal_lines, refusal_problem
from silence_gateway.core.status import Code
from silence_gateway.edge.codes import codes_of
from silence_gateway.errors import (
    ClientFault,
    MethodNotAllowed,
    RateLimited,
    Refused,
    RpcError,
    StoreFault,
    Unauthenticated,
    UpstreamBroken,
    UpstreamProtocolError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from silence_gateway.events import Noticed, Observer

PROBLEM_JSON = (b"content-type", b"application/problem+json")
JSON = (b"content-type", b"application/json")

CODE_OF_REJECTION: dict[int, Code] = {
    400: Code.INVALID_ARGUMENT,
    405: Code.UNIMPLEMENTED,
    408: Code.DEADLINE_EXCEEDED,
    413: Code.RESOURCE_EXHAUSTED,
    414: Code.RESOURCE_EXHAUSTED,
    417: Code.INVALID_ARGUMENT,
    426: Code.INVALID_ARGUMENT,
    431: Code.RESOURCE_EXHAUSTED,
    501: Code.UNIMPLEMENTED,
    503: Code.UNAVAILABLE,
    505: Code.UNIMPLEMENTED,
}
"""What the reader of requests answers by itself."""

MAY_HAVE_RUN = "the service behind this gateway went away with the request; it may have carried it out"
"""What a caller is told who must look before it asks again."""


def problem(error: BaseException, request: Request | None = None) -> Response:
    """Return the answer to *request* (None: it never became one) that ended in *error*."""
    if isinstance(error, RpcError):
        return rpc_problem(error)
    status, code = error_codes(error)
    title = HTTPStatus(status).phrase
    said: dict[str, object] = {
        "type": "urn:silence-gateway:problem:" + title.lower().replace(" ", "-"),
        "title": title,
        "status": status,
        "detail": public_detail(error),
        "code": code.name,
    }
    headers: HeaderList = [PROBLEM_JSON]
    if isinstance(error, RateLimited):
        said = refusal_problem(error)
        headers.extend(refusal_lines(error))
    elif isinstance(error, MethodNotAllowed):
        headers.append((b"allow", ", ".join(error.allowed).encode("ascii", "replace")))
    elif isinstance(error, Unauthenticated):
        headers.append((b"www-authenticate", error.challenge.encode("latin-1", "replace")))
    elif isinstance(error, Rejected):
        headers.extend(error.headers)
    elif isinstance(error, UpstreamUnavailable) and error.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(error.retry_after_s))))
        said["retry_after_s"] = round(error.retry_after_s, 3)
    if request is not None and request.request_id:
        said["request_id"] = request.request_id
    return Response(status, headers, json.dumps(said, ensure_ascii=False).encode(errors="replace"))


def rpc_problem(error: RpcError) -> Response:
    """Return google.rpc.Status as JSON; its details are for `transcoding/`, which knows their types."""
    codes = codes_of(error)
    said = {"code": int(codes.grpc), "message": error.details, "details": []}
    return Response(codes.http, [JSON], json.dumps(said, ensure_ascii=False).encode(errors="replace"))


def error_codes(error: BaseException) -> tuple[int, Code]:
    """Return the HTTP status and the gRPC code of *error*."""
    if isinstance(error, Rejected):
        return error.status, CODE_OF_REJECTION.get(error.status, Code.INTERNAL)
    codes = codes_of(error)
    return codes.http, codes.grpc


def public_detail(error: BaseException) -> str:
    """Return what the caller may know about *error*."""
    if isinstance(error, ClientFault | Refused):
        return str(error)
    if isinstance(error, UpstreamBroken):
        return "the service behind this gateway broke off before it had answered"
    if isinstance(error, UpstreamUnavailable):
        if error.overloaded:
            return "the service behind this gateway has more to do than it can; try again in a moment"
        if error.sent:
            return MAY_HAVE_RUN
        return "the service behind this gateway cannot be reached at the moment"
    if isinstance(error, UpstreamTimeout):
        if not error.sent:
            return (
                "the service behind this gateway had no room for the request, or took no connection, in time"
            )
        return "the service behind this gateway did not answer in time"
    if isinstance(error, StoreFault):
        return "the shared store of this gateway cannot be used at the moment"
    return "something went wrong in or behind this gateway; its log has more under this request id"


def answer_errors(observer: Observer) -> Layer:
    """Turn whatever is raised inside into an answer, and tell *observer* what nobody raised on purpose."""

    def layer(inner: Handler) -> Handler:
        async def handle(request: Request) -> Response:
            try:
                return await inner(request)
            except Exception as error:  # noqa: BLE001 - the last door: what passes here reaches the client raw
                return answer_error(error, request, observer)

        return handle

    return layer


def answer_error(error: Exception, request: Request | None, observer: Observer) -> Response:
    """Return the answer for *error*, after telling *observer* if somebody should look into it."""
    if isinstance(error, UpstreamProtocolError | UpstreamBroken):
        # Nobody else tells why: the caller is not told, and the endpoint may be well otherwise.
        observer(Noticed(what=describe(error, request), loudness="warning"))
    elif error_codes(error)[0] == 500 and not isinstance(error, RpcError):
        observer(Noticed(what=describe(error, request), loudness="error"))
    return problem(error, request)


def describe(error: BaseException, request: Request | None) -> str:
    """Return one line that says which error came from where, for a log."""
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, UpstreamProtocolError | UpstreamBroken):
        frames.clear()  # the fault is the upstream's, not that of our line which noticed
    where = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    if request is None:
        return f"{type(error).__name__}: {error}{where}"
    name = request.route or request.path
    said = f"{request.method} {name} ended in {type(error).__name__}: {error}{where}"
    return f"{said} (request {request.request_id})" if request.request_id else said
