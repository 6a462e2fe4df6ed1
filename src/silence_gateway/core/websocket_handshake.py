"""
The opening handshake of a WebSocket (RFC 6455 section 4.2), as the server sees it.

Nothing here awaits. Which paths are WebSockets, and who may open one, is decided elsewhere.
"""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha1

from silence_gateway.core.http import HeaderList, Request
from silence_gateway.core.http_head import Rejected, list_items

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")  # 16 bytes in base64
SUBPROTOCOLS = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z, \t]*")  # tokens, commas and blanks, or nothing
VERSION = b"13"


def asks_for_websocket(request: Request) -> bool:
    """Whether *request* asks for a WebSocket; the edge has then checked that it asks rightly."""
    upgrade = request.headers.get(b"upgrade")
    if upgrade is None or b"connection" not in request.headers:
        return False
    return b"websocket" in list_items(upgrade) and b"upgrade" in list_items(request.headers[b"connection"])


def check_handshake(request: Request, body_size: int) -> None:
    """
    Check a request that asks for a WebSocket.

    An empty `Sec-WebSocket-Protocol` is allowed: centrifuge-python 0.5 sends one.

    Raises:
        Rejected: If it asks wrongly; 426 if only its version is not ours.
    """
    headers = request.headers
    if request.method != "GET" or request.http_version != "1.1" or body_size:
        raise Rejected(400, "handshake", "a WebSocket begins with an HTTP/1.1 GET without a body")
    if headers.get(b"sec-websocket-version") != VERSION:
        raise upgrade_required("only WebSocket version 13 is spoken here")
    if not KEY.fullmatch(headers.get(b"sec-websocket-key", b"")):
        raise Rejected(400, "handshake", "Sec-WebSocket-Key must be 16 bytes in base64")
    if not SUBPROTOCOLS.fullmatch(headers.get(b"sec-websocket-protocol", b"")):
        raise Rejected(400, "handshake", "Sec-WebSocket-Protocol must be a list of tokens")


def upgrade_required(detail: str) -> Rejected:
    """Return the answer to those who should have asked for a WebSocket, and how."""
    headers = [(b"upgrade", b"websocket"), (b"sec-websocket-version", VERSION)]
    return Rejected(426, "handshake", detail, headers)


def accept_key(key: bytes) -> bytes:
    """Return the Sec-WebSocket-Accept for a Sec-WebSocket-Key."""
    # The protocol fixes SHA-1 here; it proves that the server read the key, not who it is.
    return b64encode(sha1(key + GUID, usedforsecurity=False).digest())


def accept_headers(request: Request, subprotocol: str) -> HeaderList:
    """Return the header lines of a 101 answer to *request*."""
    lines = [
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-accept", accept_key(request.headers[b"sec-websocket-key"])),
    ]
    if subprotocol:
        lines.append((b"sec-websocket-protocol", subprotocol.encode("ascii")))
    return lines
