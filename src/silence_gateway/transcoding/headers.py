"""
HTTP headers to gRPC metadata, gRPC metadata to HTTP headers, and what other headers say about a call.

In: `Grpc-Metadata-*` without the prefix, `Authorization`, the request id, `traceparent` and
`tracestate`, and whatever the operator named; nothing else, so no caller can put words into the mouth
of the gateway. Out: `Grpc-Metadata-*` for initial and `Grpc-Trailer-*` for trailing metadata, bounded
in size, and without anything that could end a header line early.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Collection

from silence_gateway.core.grpc_metadata import decode_binary, is_reserved
from silence_gateway.core.grpc_timeout import decode_timeout
from silence_gateway.core.http import HeaderList, Request
from silence_gateway.errors import BadRequest, UnsupportedMedia
from silence_gateway.upstreams.contracts import Metadata

PREFIX = b"grpc-metadata-"

# What is sent under these names is ours to decide, whatever `Grpc-Metadata-*` says.
OURS = frozenset((b"authorization", b"x-request-id", b"traceparent", b"tracestate", b"forwarded"))
OURS_PREFIX = b"x-forwarded-"

COPIED = (b"authorization", b"traceparent", b"tracestate")

MAX_REMEMBERED = 512
"""Sets of header names of which we remember what becomes metadata; callers have few, and send them again."""

MAX_REMEMBERED_BYTES = 1024
"""The longest set remembered."""

passed: dict[tuple[bytes, ...], tuple[list[bytes], list[bytes]]] = {}

MAX_OUT_PAIRS = 64
MAX_OUT_BYTES = 8192

METADATA_NAME = re.compile(rb"[0-9a-z_.-]{1,256}")
METADATA_VALUE = re.compile(rb"[\x20-\x7e]*")
BASE64 = re.compile(rb"[A-Za-z0-9+/_-]*={0,2}")


def metadata_of(request: Request, forwarded: Collection[bytes] = ()) -> list[tuple[bytes, bytes]]:
    """
    Return the metadata to send with the call of *request*.

    Args:
        request: Whose headers these are.
        forwarded: Lower-case names of further headers to pass on as they are.

    Raises:
        BadRequest: A header cannot be sent as metadata.
    """
    headers = request.headers
    names = tuple(headers)
    copied, prefixed = passed.get(names) or passed_of(names)
    metadata = [(name, headers[name]) for name in copied] if copied else []
    if request.request_id:
        metadata.append((b"x-request-id", request.request_id.encode()))
    for header in prefixed:
        add_prefixed(metadata, header, headers[header])
    if forwarded:
        metadata += [(name, headers[name]) for name in forwarded if name in headers]
    return metadata


def passed_of(names: tuple[bytes, ...]) -> tuple[list[bytes], list[bytes]]:
    """Return which of the headers *names* are copied as they are, and which without their prefix."""
    found = ([name for name in COPIED if name in names], [name for name in names if name.startswith(PREFIX)])
    if sum(map(len, names)) <= MAX_REMEMBERED_BYTES:
        if len(passed) >= MAX_REMEMBERED:
            passed.clear()
        passed[names] = found
    return found


def add_prefixed(metadata: list[tuple[bytes, bytes]], header: bytes, value: bytes) -> None:
    """
    Add one `Grpc-Metadata-*` header to *metadata*; reserved names are left out.

    Raises:
        BadRequest: It cannot be sent.
    """
    name = header[len(PREFIX) :]
    if is_reserved(name) or name in OURS or name.startswith(OURS_PREFIX):
        return
    if METADATA_NAME.fullmatch(name) is None:
        raise BadRequest(f"{header.decode('latin-1')!r} does not make a metadata name")
    if not name.endswith(b"-bin"):
        if METADATA_VALUE.fullmatch(value) is None:
            raise BadRequest(
                f"the value of {header.decode()!r} must be printable ASCII; use a name that ends in -bin"
            )
        metadata.append((name, value))
        return
    for part in value.split(b","):
        bare = part.strip()
        if BASE64.fullmatch(bare) is None or len(bare.rstrip(b"=")) % 4 == 1:
            raise BadRequest(f"the value of {header.decode()!r} is not base64")
        metadata.append((name, decode_binary(bare.replace(b"-", b"+").replace(b"_", b"/"))))


def headers_of(initial: Metadata, trailing: Metadata = ()) -> HeaderList:
    """Return the response headers that carry the metadata of an answer, as far as the bounds allow."""
    headers: HeaderList = []
    if initial:
        add_headers(headers, b"grpc-metadata-", initial)
    if trailing:
        add_headers(headers, b"grpc-trailer-", trailing)
    return headers


def add_headers(headers: HeaderList, prefix: bytes, metadata: Metadata) -> None:
    """Add *metadata* to *headers*; what is reserved, malformed or too much is left out."""
    size = sum(len(name) + len(value) for name, value in headers)
    for name, value in metadata:
        if is_reserved(name) or METADATA_NAME.fullmatch(name) is None:
            continue
        if name.endswith(b"-bin"):
            value = b64encode(value).rstrip(b"=")
        elif METADATA_VALUE.fullmatch(value) is None:
            continue
        size += len(prefix) + len(name) + len(value)
        if len(headers) >= MAX_OUT_PAIRS or size > MAX_OUT_BYTES:
            return
        headers.append((prefix + name, value))


def timeout_of(value: bytes) -> float:
    """
    Return the seconds that a `Grpc-Timeout` header grants.

    Raises:
        BadRequest: It cannot be read.
    """
    try:
        return decode_timeout(value) / 1_000_000
    except ValueError:
        text = value[:40].decode("latin-1")
        raise BadRequest(
            f"Grpc-Timeout must be up to eight digits and a unit of H, M, S, m, u or n, not {text!r}"
        ) from None


def require_json(content_type: bytes) -> None:
    """
    Refuse a body that is not said to be JSON.

    Raises:
        UnsupportedMedia: Its type is another one, or its charset is not UTF-8.
    """
    media, _, parameters = content_type.partition(b";")
    media = media.strip().lower()
    if media != b"application/json" and not (media.startswith(b"application/") and media.endswith(b"+json")):
        raise UnsupportedMedia(f"the body must be application/json, not {media[:80].decode('latin-1')!r}")
    for parameter in parameters.split(b";"):
        name, _, value = parameter.strip().lower().partition(b"=")
        if name == b"charset" and value.strip(b'"') not in {b"utf-8", b"utf8"}:
            raise UnsupportedMedia(f"the body must be UTF-8, not {value[:40].decode('latin-1')!r}")


def wants_lines(accept: bytes) -> bool:
    """Tell whether the caller asks for one JSON value per line rather than for an array."""
    lines = array = 0.0
    for item in accept.lower().split(b","):
        media, _, parameters = item.partition(b";")
        quality = quality_of(parameters)
        media = media.strip()
        if media in {b"application/x-ndjson", b"application/ndjson", b"application/jsonl"}:
            lines = max(lines, quality)
        elif media == b"application/json":
            array = max(array, quality)
    return lines > 0 and lines >= array


def quality_of(parameters: bytes) -> float:
    """Return the `q` of a media range; what cannot be read counts as 1."""
    for parameter in parameters.split(b";"):
        name, _, value = parameter.strip().partition(b"=")
        if name == b"q" and re.fullmatch(rb"[01](\.[0-9]{0,3})?", value):
            return float(value)
    return 1.0
