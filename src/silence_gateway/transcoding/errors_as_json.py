"""
gRPC errors as google.rpc.Status JSON: `{"code": 5, "message": "...", "details": [...]}`.

Details are shown as JSON where their type is among the descriptors of the upstream, otherwise as
base64 beside their type, so that nothing is lost.
"""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from protobuf import Registry, message_to_json_value

from silence_gateway.core.http import HeaderList, Response
from silence_gateway.core.status import Code, http_of_code
from silence_gateway.errors import (
    GatewayError,
    RpcError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from silence_gateway.transcoding.headers import headers_of
from silence_gateway.transcoding.wire import bytes_of, read_fields, text_of

JSON_TYPE = (b"content-type", b"application/json")

STATUS_DETAILS = 3
MAX_DETAILS = 100


def error_response(error: RpcError, registry: Registry) -> Response:
    """Return the answer for an error of the upstream."""
    headers: HeaderList = [JSON_TYPE, *headers_of(error.initial_metadata, error.trailing_metadata)]
    return Response(http_of_code(error.code), headers, dump(status_of(error, registry)))


def unimplemented(reason: str) -> Response:
    """Return the answer for a method that exists but cannot be called like this."""
    body = dump({"code": int(Code.UNIMPLEMENTED), "message": reason, "details": []})
    return Response(http_of_code(Code.UNIMPLEMENTED), [JSON_TYPE], body)


def error_record(error: GatewayError, registry: Registry) -> bytes:
    """Return what is written into a stream that has begun and fails."""
    if isinstance(error, RpcError):
        status = status_of(error, registry)
    else:
        code = Code.INTERNAL
        if isinstance(error, UpstreamTimeout):
            code = Code.DEADLINE_EXCEEDED
        elif isinstance(error, UpstreamUnavailable):
            code = Code.UNAVAILABLE
        status = {"code": int(code), "message": str(error), "details": []}
    return dump({"error": status})


def status_of(error: RpcError, registry: Registry) -> dict[str, Any]:
    """Return google.rpc.Status as JSON sees it."""
    details: list[Any] = []
    if error.status_details:
        try:
            for number, value in read_fields(error.status_details):
                if number == STATUS_DETAILS and len(details) < MAX_DETAILS:
                    details.append(detail_of(bytes_of(value), registry))
        except ValueError:
            # The details are an extra; code and message came by another way and are still good.
            details.append({"@type": "", "value": b64encode(error.status_details).decode()})
    return {"code": error.code, "message": error.details, "details": details}


def detail_of(data: bytes, registry: Registry) -> dict[str, Any]:
    """
    Return a google.protobuf.Any as JSON sees it.

    Raises:
        ValueError: *data* is not an Any.
    """
    url, value = "", b""
    for number, piece in read_fields(data):
        if number == 1:
            url = text_of(piece)
        elif number == 2:
            value = bytes_of(piece)
    described = registry.message(url.rpartition("/")[2])
    if described is not None:
        try:
            shown = message_to_json_value(described.type.from_binary(value), registry=registry)
        except (ValueError, TypeError, OverflowError, RecursionError, EOFError):
            shown = None
        if isinstance(shown, dict) and not described.type_name.startswith("google.protobuf."):
            return {"@type": url, **shown}
        if shown is not None:
            return {"@type": url, "value": shown}
    return {"@type": url, "value": b64encode(value).decode()}


def dump(value: Any) -> bytes:
    """Write JSON the way the message library does: compact, UTF-8."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
