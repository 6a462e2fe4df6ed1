"""
What a proxy passes on of a head, in both directions (RFC 9110 section 7.6, RFC 7239).

Nothing here awaits. Fields that belong to one hop stay on it, those that Connection names included. What
says where a request came from is ours to write: from a peer that is no trusted proxy every such field is
dropped, whatever its spelling, and then set anew, so that nothing behind us can be told a tale.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import unquote_to_bytes

from silence_gateway.core.http import HeaderList, Request
from silence_gateway.core.http_answer_head import AnswerHead
from silence_gateway.core.http_head import CHUNKED, list_items
from silence_gateway.errors import BadRequest

HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    )
)
"""Never passed on, in either direction."""

WRITTEN_ANEW = HOP_BY_HOP | {
    b"content-length",
    b"expect",
    b"host",
    b"via",
    b"x-request-id",
    b"forwarded",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    # Many programs take this for the address of their own proxy (httpoxy).
    b"proxy",
}
"""Of a request: what is not copied, because we write it or because nobody may."""

TALES = frozenset(
    (
        b"cf-connecting-ip",
        b"cf-connecting-ipv6",
        b"client-ip",
        b"fastly-client-ip",
        b"fly-client-ip",
        b"forwarded-for",
        b"true-client-ip",
        b"x-azure-clientip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-envoy-external-address",
        b"x-forwarded",
        b"x-host",
        b"x-http-host-override",
        b"x-original-forwarded-for",
        b"x-original-host",
        b"x-original-url",
        b"x-originating-ip",
        b"x-real-ip",
        b"x-remote-addr",
        b"x-remote-ip",
        b"x-rewrite-url",
    )
)
"""What programs behind proxies believe about where a request came from, and what it asks for."""

TALE_PREFIX = b"x-forwarded-"
PREFIX = b"x-forwarded-prefix"

OURS_IN_ANSWERS = HOP_BY_HOP | {b"content-length", b"date", b"server", b"x-request-id"}
"""Of an answer: what the edge writes itself."""

VIA = b"1.1 silence"
EMPTY_BODY_METHODS = frozenset(("POST", "PUT", "PATCH"))
"""Methods whose requests say that they have no body; servers may ask those for a length (411)."""


HIDDEN_DOTS = re.compile(rb"(?:^|/)\.{1,2}(?:;[^/]*)?(?=/|$)")


def check_path(path: str) -> None:
    """
    Refuse a *path* that may lead elsewhere behind us than it did here.

    Routing has refused dot segments; some programs find more of them, where `%2F` or a backslash stands
    for a slash, or `..;x` for `..`.

    Raises:
        BadRequest: If there are any.
    """
    if "%" not in path and ";" not in path:
        return
    if HIDDEN_DOTS.search(unquote_to_bytes(path).replace(b"\\", b"/")):
        raise BadRequest("the path has hidden '.' or '..' segments; send the path they lead to")


def forwarded_lines(request: Request, *, trusted: bool, upgrade: bool, prefix: bytes = b"") -> bytes:
    """
    Return the header lines of *request* as it goes on, without Host.

    Args:
        request: As it came, with its id and its body or what will be its body.
        trusted: Whether its peer is one of our proxies, whose words about earlier hops are passed on.
        upgrade: Whether it asks for a WebSocket and shall go on asking.
        prefix: What was taken from the beginning of its path, so that links can be made that lead back here.
    """
    headers = request.headers
    named: Collection[bytes] = ()
    connection = headers.get(b"connection")
    if connection is not None:
        named = list_items(connection)
    lines = [
        b"%b: %b\r\n" % (name, value)
        for name, value in headers.items()
        if name not in WRITTEN_ANEW
        and name not in named
        and (trusted or (name not in TALES and not name.startswith(TALE_PREFIX)))
        and not (prefix and name == PREFIX)
    ]
    if prefix:
        earlier = headers.get(PREFIX, b"").rstrip(b"/") if trusted else b""
        lines.append(b"%b: %b%b\r\n" % (PREFIX, earlier, prefix))
    lines += (*origin_lines(request, trusted=trusted), framing_line(request))
    if request.request_id:
        lines.append(b"x-request-id: %b\r\n" % request.request_id.encode())
    via = headers.get(b"via")
    lines.append(b"via: %b\r\n" % (VIA if via is None else via + b", " + VIA))
    if b"te" in headers and b"trailers" in list_items(headers[b"te"]):
        lines.append(b"te: trailers\r\nconnection: te\r\n")
    elif upgrade:
        lines.append(b"upgrade: websocket\r\nconnection: upgrade\r\n")
    return b"".join(lines)


def origin_lines(request: Request, *, trusted: bool) -> list[bytes]:
    """Return the lines that say who asked for what, over what, as far as that can be believed."""
    headers = request.headers
    peer = request.peer.encode() or b"unknown"
    chain, scheme, host = b"", request.scheme.encode(), headers.get(b"host", b"")
    earlier: bytes | None = None
    if trusted:
        earlier = headers.get(b"forwarded")
        chain = headers.get(b"x-forwarded-for", b"")
        scheme = headers.get(b"x-forwarded-proto", scheme)
        host = headers.get(b"x-forwarded-host", host)
    hop = b'for="[%b]"' % peer if b":" in peer else b"for=%b" % peer
    if own := headers.get(b"host"):
        hop += b';host="%b"' % own
    hop += b";proto=%b" % request.scheme.encode()
    lines = [
        b"x-forwarded-for: %b\r\n" % (b"%b, %b" % (chain, peer) if chain else peer),
        b"x-forwarded-proto: %b\r\n" % scheme,
        b"forwarded: %b\r\n" % (hop if earlier is None else b"%b, %b" % (earlier, hop)),
    ]
    if host:
        lines.append(b"x-forwarded-host: %b\r\n" % host)
    return lines


def framing_line(request: Request) -> bytes:
    """Return the line that says where the body of *request* ends; empty if it needs none."""
    incoming = request.incoming
    size = len(request.body) if incoming is None else incoming.size
    if size == CHUNKED:
        return b"transfer-encoding: chunked\r\n"
    if size or request.method in EMPTY_BODY_METHODS:
        return b"content-length: %d\r\n" % size
    return b""


def answered_fields(head: AnswerHead, ours: HeaderList) -> HeaderList:
    """Return the fields of *head* that go on to the caller, beside *ours*, which replace those it has."""
    dropped = set(OURS_IN_ANSWERS)
    for name, value in head.fields:
        if name == b"connection":
            dropped.update(list_items(value))
    dropped.update(name.lower() for name, _ in ours)
    return [field for field in head.fields if field[0] not in dropped]


def trailer_fields(lines: list[bytes]) -> HeaderList:
    """Return the trailer *lines* of an answer as fields; what may not be a trailer is left out."""
    fields: HeaderList = []
    for line in lines:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name not in OURS_IN_ANSWERS and name not in {b"set-cookie", b"trailer"}:
            fields.append((name, value.strip()))
    return fields
