"""
The head of an HTTP/1.1 request, strictly (RFC 9112).

Nothing here awaits or reads a clock. What is wrong is refused, never repaired: two programs that repair
differently are how requests are smuggled. `edge/heads.py` has llhttp check the grammar first (tokens,
line ends, control characters, folded lines, numbers in lengths); these functions check the rest and
take the head apart. Both together cost about 2 us for a small head and 5 us for a browser's, which is
as fast as llhttp with a callback per header.
"""

from __future__ import annotations

import re
from functools import lru_cache

from silence_gateway.core.http import HeaderList, Request
from silence_gateway.errors import ClientFault

MAX_FIELDS = 100
"""Header lines in one request; browsers send about 20. Nginx, Kong and APISIX draw the same line."""

CHUNKED = -1
"""As a body size: it comes in chunks, and only its end will tell."""

MAX_HOST_BYTES = 262  # 255 for a name, 6 for a colon and a port, 1 to be kind

SINGLE_FIELDS = frozenset(
    (
        b"authorization",
        b"content-length",
        b"expect",
        b"host",
        b"sec-websocket-key",
        b"sec-websocket-version",
        b"transfer-encoding",
    )
)
"""Fields that come once. Two of them mean that somebody wants two programs to see two requests."""

TARGET_BYTES = bytes(byte for byte in range(0x21, 0x7F) if byte not in b"#\\")
HOST = re.compile(rb"(?:[A-Za-z0-9_-][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
ABSOLUTE = re.compile(rb"https?://([^/?]*)(.*)", re.IGNORECASE)
METHOD = re.compile(rb"[A-Z][A-Z-]{0,31}")
VERSION = re.compile(rb"HTTP/[0-9]\.[0-9]")
VERSIONS = {b"HTTP/1.1": "1.1", b"HTTP/1.0": "1.0"}
REFUSED_METHODS = frozenset((b"CONNECT", b"TRACE", b"SOURCE", b"PRI"))
SERVED = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
METHOD_NAMES = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}


class Rejected(ClientFault):
    """
    A request that is answered without being read further, and whose connection then ends.

    Attributes:
        status: The HTTP status of the answer.
        reason: A word for the metric; one of a small set.
        headers: Header lines that the answer carries.
    """

    def __init__(self, status: int, reason: str, detail: str, headers: HeaderList | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.headers: HeaderList = headers or []


class Head:
    """
    What a head says about the message it begins.

    Attributes:
        request: The request, without its body.
        keep_alive: Whether the client wants to go on after the answer.
        body_size: Bytes of the body, or `CHUNKED`.
        is_plain: Whether the next head may follow at once: no body, no upgrade, no end.
        expects_continue: Whether the client waits for leave to send its body.
        wants_websocket: Whether this asks for a WebSocket (not yet whether it asks correctly).
        dropped: Header lines left out because of an underscore in their name.
    """

    __slots__ = (
        "body_size",
        "dropped",
        "expects_continue",
        "is_plain",
        "keep_alive",
        "request",
        "wants_websocket",
    )

    def __init__(self, request: Request, keep_alive: bool, body_size: int, is_plain: bool) -> None:
        self.request = request
        self.keep_alive = keep_alive
        self.body_size = body_size
        self.is_plain = is_plain
        self.expects_continue = False
        self.wants_websocket = False
        self.dropped = 0


def read_request_line(line: bytes) -> tuple[str, bytes, str]:
    """
    Return method, target and version of a request line.

    Raises:
        Rejected: If it is not one, or is one that we do not serve.
    """
    parts = line.split(b" ")
    if len(parts) != 3:
        raise Rejected(400, "request-line", "a request line is a method, a target and a version")
    method, target, version = parts
    known = VERSIONS.get(version)
    if known is None:
        if VERSION.fullmatch(version):
            raise Rejected(505, "version", "only HTTP/1.1 and HTTP/1.0 are served here")
        raise Rejected(400, "request-line", "the request line does not end in an HTTP version")
    name = METHOD_NAMES.get(method)
    if name is None:
        if not METHOD.fullmatch(method):
            raise Rejected(400, "request-line", "the method is not a word of upper-case letters")
        if method in REFUSED_METHODS:
            raise Rejected(405, "method", f"{method.decode()} is refused here", [(b"allow", SERVED)])
        name = method.decode()
    if target.translate(None, TARGET_BYTES):
        raise Rejected(400, "target", "the target has a character that must be percent-encoded")
    return name, target, known


def read_head(head: bytes) -> Head:
    """
    Take apart *head*, which ends in its first empty line and whose grammar llhttp has checked.

    Raises:
        Rejected: If it is refused; the status and the reason say how.
    """
    lines = head.split(b"\r\n")
    method, target, version = read_request_line(lines[0])
    if len(lines) > MAX_FIELDS + 3:
        raise Rejected(431, "too-many-fields", f"a request may have {MAX_FIELDS} header lines")
    fields: dict[bytes, bytes] = {}
    for line in lines[1:-2]:
        name, value = read_field(line)
        if name in fields:
            join_field(fields, name, value)
        else:
            fields[name] = value
    dropped = drop_underscores(fields) if b"_" in head else 0
    result = join_head(method, target, version, fields)
    result.dropped = dropped
    return result


def read_field(line: bytes) -> tuple[bytes, bytes]:
    """Return the lower-case name and the value of a header line."""
    name, _, value = line.partition(b":")
    # Of all that strip takes away, llhttp has let only spaces and tabs through.
    return name.lower(), value.strip()


def join_head(method: str, target: bytes, version: str, fields: dict[bytes, bytes]) -> Head:
    """
    Return what a request line and fields, each sound by itself, say together.

    Raises:
        Rejected: If they do not go together.
    """
    host = fields.get(b"host")
    if target[0] != 0x2F:
        target = reduce_target(method, target, host)
    if host is None:
        if version == "1.1":
            raise Rejected(400, "host", "HTTP/1.1 asks for a Host header")
    elif len(host) > MAX_HOST_BYTES or not is_host(host):
        raise Rejected(400, "host", "the Host header is not a name or address with an optional port")
    request = Request(method, target.decode("ascii"), fields, http_version=version)
    size = 0
    if b"content-length" in fields or b"transfer-encoding" in fields:
        size = body_size(fields, version)
    connection = fields.get(b"connection")
    if version == "1.1" and (connection is None or connection == b"keep-alive"):
        result = Head(request, True, size, size == 0)
    else:
        options = list_items(connection or b"")
        keep_alive = b"close" not in options and (version == "1.1" or b"keep-alive" in options)
        result = Head(request, keep_alive, size, False)
        if b"upgrade" in options and b"upgrade" in fields:
            result.wants_websocket = b"websocket" in list_items(fields[b"upgrade"])
    if b"expect" in fields and version == "1.1":
        if fields[b"expect"].lower() != b"100-continue":
            raise Rejected(417, "expect", "only 100-continue can be expected here")
        result.expects_continue = size != 0
    return result


def join_field(fields: dict[bytes, bytes], name: bytes, value: bytes) -> None:
    """
    Add another *value* to a field that came before.

    Raises:
        Rejected: If it is one that comes once.
    """
    if name in SINGLE_FIELDS:
        raise Rejected(400, "repeated-field", f"{name.decode('latin-1')} may come only once")
    fields[name] += (b"; " if name == b"cookie" else b", ") + value


def drop_underscores(fields: dict[bytes, bytes]) -> int:
    """
    Drop the fields whose name has an underscore, and return how many they were.

    Others read an underscore as a dash: `X_User` would become the `X-User` that only a gateway may set.
    """
    names = [name for name in fields if b"_" in name]
    for name in names:
        del fields[name]
    return len(names)


def reduce_target(method: str, target: bytes, host: bytes | None) -> bytes:
    """
    Return the origin form of a *target* that does not begin with a slash.

    Raises:
        Rejected: If it is `*` and the method is not OPTIONS, names another host than the Host header,
            or is no form of target at all.
    """
    if target == b"*" and method == "OPTIONS":
        return target
    absolute = ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise Rejected(400, "target", "the target must be a path that begins with a slash")
    authority, rest = absolute.groups()
    if host is None or authority.lower() != host.lower():
        raise Rejected(400, "target", "the target names another host than the Host header")
    return rest if rest[:1] == b"/" else b"/" + rest


def body_size(fields: dict[bytes, bytes], version: str) -> int:
    """
    Return how long the body is, or `CHUNKED`.

    Raises:
        Rejected: If the fields that say so contradict each other or are not exactly what they may be.
    """
    coding = fields.get(b"transfer-encoding")
    length = fields.get(b"content-length")
    if coding is not None:
        if length is not None:
            raise Rejected(400, "two-lengths", "Content-Length and Transfer-Encoding exclude each other")
        if version == "1.0":
            raise Rejected(400, "transfer-encoding", "HTTP/1.0 has no Transfer-Encoding")
        if coding.lower() != b"chunked":
            raise Rejected(400, "transfer-encoding", "the only Transfer-Encoding is chunked")
        return CHUNKED
    if length is None:
        return 0
    # bytes.isdigit knows ASCII digits only; 18 of them stay below 2^63 in every program behind us.
    if not length.isdigit() or len(length) > 18:
        raise Rejected(400, "content-length", "Content-Length must be a plain number")
    return int(length)


def list_items(value: bytes) -> list[bytes]:
    """Return the items of a comma-separated field, in lower case."""
    return [item.strip(b" \t") for item in value.lower().split(b",")]


@lru_cache(maxsize=1024)
def is_host(host: bytes) -> bool:
    """Whether *host* is a name, an IPv4 or a bracketed IPv6 address, with an optional port."""
    return HOST.fullmatch(host) is not None
