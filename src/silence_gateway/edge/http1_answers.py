"""
Whole answers on an HTTP/1.1 connection: their heads, bodies, and the step to a WebSocket.

Runs for every request. What the bytes look like is `http1_writer.py`; this file knows the connection:
whether it goes on afterwards, and that a client which cannot be answered as asked is answered anyway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from silence_gateway.core.http import Request, Response, StreamingResponse, TunnelResponse, UpgradeResponse
from silence_gateway.core.websocket_handshake import accept_headers, upgrade_required
from silence_gateway.edge.http1_writer import (
    BODILESS,
    CHUNKED_LINE,
    CLOSE_LINE,
    KEEP_ALIVE_LINE,
    UnsafeHeader,
    header_lines,
)
from silence_gateway.edge.problems import answer_error
from silence_gateway.edge.tunnel import TunnelConnection
from silence_gateway.edge.websocket import upgraded

if TYPE_CHECKING:
    from silence_gateway.edge.http1 import Http1Connection

JOIN_BELOW_BYTES = 64 * 1024
"""Up to here copying a body behind its head is cheaper than two system buffers."""


def send_answer(connection: Http1Connection, request: Request | None, response: Response) -> None:
    """Write a whole answer; *request* is None where none could be read."""
    body = response.body
    framing = b"" if response.status in BODILESS else b"content-length: %d\r\n" % len(body)
    if not framing or (request is not None and request.method == "HEAD"):
        body = b""
    head = answer_head(connection, request, response, framing)
    if head is None:
        return
    if len(body) < JOIN_BELOW_BYTES:
        if connection.keep_alive:
            connection.post(head + body)
        else:
            connection.write(head + body)
    else:
        connection.write(head)
        connection.write(body)


def answer_head(
    connection: Http1Connection, request: Request | None, response: Response, framing: bytes
) -> bytes | None:
    """
    Return the head of *response* with the *framing* lines.

    None if its headers cannot be sent: then the client has been answered with 500 instead.
    """
    server = connection.server
    headers = response.headers
    version = "1.1"
    if request is not None:
        version = request.http_version
        if request.extra_headers:
            headers = headers + request.extra_headers
    status = response.status
    if status != 101:  # whose Connection line belongs to the handshake
        if server.draining or (connection.incoming is not None and not connection.incoming.done):
            connection.keep_alive = False
        if not connection.keep_alive:
            framing += CLOSE_LINE
        elif version == "1.0":
            framing += KEEP_ALIVE_LINE
    try:
        lines = header_lines(headers)
    except UnsafeHeader as error:
        send_failure(connection, request, error)
        return None
    prefix = server.prefixes.of_status.get(status) or server.prefixes.make(status)
    return b"%b%b%b\r\n" % (prefix, lines, framing)


def send_failure(connection: Http1Connection, request: Request | None, error: UnsafeHeader) -> None:
    """Answer 500 instead of an answer with unsafe headers; nothing that any layer wanted on it goes out."""
    server = connection.server
    connection.keep_alive = False
    failed = answer_error(error, request, server.observer)
    framing = b"content-length: %d\r\n" % len(failed.body)
    body = b"" if request is not None and request.method == "HEAD" else failed.body
    head = (server.prefixes.make(failed.status), header_lines(failed.headers), framing, CLOSE_LINE, body)
    connection.write(b"%b%b%b%b\r\n%b" % head)


def streaming_head(
    connection: Http1Connection, request: Request, response: StreamingResponse
) -> bytes | None:
    """Return the head of an answer that is sent in pieces; None as for `answer_head`."""
    if response.status in BODILESS:
        return answer_head(connection, request, response, b"")
    if response.length is not None:
        return answer_head(connection, request, response, b"content-length: %d\r\n" % response.length)
    if request.http_version == "1.0":
        # The end of the connection is the end of the answer.
        connection.keep_alive = False
        return answer_head(connection, request, response, b"")
    return answer_head(connection, request, response, CHUNKED_LINE)


def switch(connection: Http1Connection, request: Request, response: Response) -> None:
    """Write an answer that is not of the two usual kinds: mostly one that ends HTTP on this connection."""
    if isinstance(response, UpgradeResponse):
        take_over(connection, request, response)
    elif isinstance(response, TunnelResponse):
        dig(connection, request, response)
    else:
        send_answer(connection, request, response)


def take_over(connection: Http1Connection, request: Request, response: UpgradeResponse) -> None:
    """Make the connection a WebSocket, or say what was missing."""
    head = None
    if connection.handshake:
        response.headers = accept_headers(request, response.subprotocol) + response.headers
        head = answer_head(connection, request, response, b"")
    else:
        connection.refuse(upgrade_required("this is a WebSocket: ask for an upgrade"), request)
    if head is None:
        if response.on_refused is not None:
            response.on_refused()
        return
    connection.write(head)
    early = connection.leave()
    upgraded(connection.server, connection.transport, response.listener).open(early)


def dig(connection: Http1Connection, request: Request, response: TunnelResponse) -> None:
    """Make the connection the near end of a tunnel."""
    response.headers = [(b"upgrade", b"websocket"), (b"connection", b"Upgrade"), *response.headers]
    head = answer_head(connection, request, response, b"") if connection.handshake else None
    if head is None:
        response.far.abort()
        response.on_over()
        return
    connection.write(head)
    early = connection.leave()
    near = TunnelConnection(connection.server, connection.transport, response.far, response.on_over)
    connection.transport.set_protocol(near)
    near.open(early)
