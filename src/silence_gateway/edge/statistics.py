"""
What a server has counted: plain integers, read when somebody asks.

Nothing here is reset, and nothing is computed until it is read.
"""

from __future__ import annotations


class Statistics:
    """
    Counts since the server was made; `*_open` are how many there are now.

    Attributes:
        connections_open: HTTP connections, WebSockets not among them.
        connections_total: Connections ever accepted.
        websockets_open: WebSockets.
        websockets_total: WebSockets ever opened.
        requests: Requests handed to the handler.
        rejected: Requests and connections answered without the handler, by reason.
        websocket_failures: WebSockets we closed for a broken rule, by close code.
        cancelled: Handlers cancelled because their client left.
        timeouts: Connections ended because their client was too slow.
        dropped_headers: Header lines left out because of an underscore in their name.
        bytes_in: Bytes read from clients, after TLS.
        bytes_out: Bytes given to sockets, before TLS.
    """

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "cancelled",
        "connections_open",
        "connections_total",
        "dropped_headers",
        "rejected",
        "requests",
        "timeouts",
        "websocket_failures",
        "websockets_open",
        "websockets_total",
    )

    def __init__(self) -> None:
        self.connections_open = 0
        self.connections_total = 0
        self.websockets_open = 0
        self.websockets_total = 0
        self.requests = 0
        self.rejected: dict[str, int] = {}
        self.websocket_failures: dict[int, int] = {}
        self.cancelled = 0
        self.timeouts = 0
        self.dropped_headers = 0
        self.bytes_in = 0
        self.bytes_out = 0

    def reject(self, reason: str) -> None:
        """Count one request or connection that was refused; *reason* is one of a small set of words."""
        self.rejected[reason] = self.rejected.get(reason, 0) + 1

    def fail_websocket(self, code: int) -> None:
        """Count one WebSocket that we closed for a broken rule."""
        self.websocket_failures[code] = self.websocket_failures.get(code, 0) + 1
