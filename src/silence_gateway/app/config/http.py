"""What is said of upstreams that speak HTTP, and of no other."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field

from silence_gateway.app.config.kinds import Kind, pattern, size
from silence_gateway.app.config.quantities import quoted
from silence_gateway.app.config.section import Section
from silence_gateway.core.http_head import MAX_HOST_BYTES, is_host

KEPT = "keep"
OF_ENDPOINT = "endpoint"
RANGE = re.compile(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?")


def _parse_host(text: str) -> str:
    if text in {KEPT, OF_ENDPOINT}:
        return text
    if not text.isascii() or len(text) > MAX_HOST_BYTES or not is_host(text.encode()):
        raise ValueError(f"{quoted(text)} is no host: write keep, endpoint, or a name with an optional port")
    return text


HOST = Kind("keep \\| endpoint \\| name", _parse_host, str, {"type": "string"}, (KEPT, "shop.internal"))


def _parse_statuses(text: str) -> range:
    found = RANGE.fullmatch(text)
    if found is None:
        raise ValueError(f"{quoted(text)} is no HTTP status: write 200, or a range such as 200-299")
    first, last = int(found[1]), int(found[2] or found[1])
    if first > last:
        raise ValueError(f"{quoted(text)} is no range of statuses: write the lower one first")
    return range(first, last + 1)


def _show_statuses(value: range) -> str:
    return f"{value[0]}" if len(value) == 1 else f"{value[0]}-{value[-1]}"


STATUSES = Kind(
    "HTTP status, or range of them",
    _parse_statuses,
    _show_statuses,
    {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": "[1-5][0-9]{2}(-[1-5][0-9]{2})?"}]},
    ("200", "200-299"),
)
CHECK_PATH = pattern(
    "path to GET",
    r"/[!-\"$-\[\]-~]*",
    "/healthz",
    "begin it with '/', and percent-encode blanks and the like",
)
ORIGIN = pattern(
    "origin",
    r"\*|https?://[A-Za-z0-9.\-\[\]:]+",
    "https://app.example.com",
    "write scheme and host as browsers send them, such as https://app.example.com, or '*'",
)


class HttpConfig(Section):
    """How requests are passed on to a service with `protocol: http`."""

    host: Annotated[str, HOST] = Field(
        default=KEPT,
        description="What Host says there: as the caller sent it, the endpoint's address, or this name.",
    )
    max_body_bytes: Annotated[int, size("0B", "1024GiB")] | None = Field(
        default=None,
        alias="max_body",
        description="Longest body of a request; absent: `server.max_body`. It is never held as a whole.",
    )
    replay_bytes: Annotated[int, size("0B", "16MiB")] = Field(
        default=64 * 1024,
        alias="replay",
        description=(
            "How much of a request's body is kept so that the request can be made again. A body known to be "
            "no longer is read before the service is asked."
        ),
    )
    origins: tuple[Annotated[str, ORIGIN], ...] = Field(
        default=(),
        description="Pages that may open WebSockets, besides those of the same host; `*` for all.",
    )
