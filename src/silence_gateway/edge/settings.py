"""
What a server allows its clients: every bound of the edge in size and time.

Frozen and checked once, here; nothing downstream checks again.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from silence_gateway.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """
    The bounds of one server.

    Attributes:
        header_timeout_s: From the first byte of a request (or the connection's beginning) to its whole head.
        body_timeout_s: From the head to the whole body.
        idle_timeout_s: Between two requests, and the longest a client may take no byte of its answer.
        max_header_bytes: Request line and headers together.
        max_body_bytes: One request's body.
        max_connections: Open connections of this process; 0 means no cap.
        drain_s: How long a graceful stop may take.
        write_high_bytes: Unsent bytes of one connection from which nothing more is made for it.
        write_low_bytes: Unsent bytes at which making goes on.
        max_websocket_message_bytes: One message from a client.
        max_websocket_buffer_bytes: Unsent bytes at which a WebSocket is dropped, whatever its listener says.
        max_pipelined_bytes: Bytes of later requests that wait while an earlier one is answered; beyond
            them the socket is not read.
        linger_s: How long a refused client may go on sending before the connection is cut.
        close_timeout_s: How long a WebSocket client may take to answer a close frame.
    """

    header_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    idle_timeout_s: float = 75.0
    max_header_bytes: int = 16 * 1024
    max_body_bytes: int = 4 * 1024 * 1024
    max_connections: int = 0
    drain_s: float = 30.0
    # One loop tick's worth for a fast reader; a slow one costs no more than this and a piece.
    write_high_bytes: int = 64 * 1024
    write_low_bytes: int = 16 * 1024
    max_websocket_message_bytes: int = 64 * 1024
    # Far above any queue that realtime allows: reached only by a listener that does not look.
    max_websocket_buffer_bytes: int = 16 * 1024 * 1024
    # Some 100 requests: more in flight on one connection helps nobody, as they are answered in turn.
    max_pipelined_bytes: int = 64 * 1024
    # Two seconds are several round trips on any network that people use.
    linger_s: float = 2.0
    close_timeout_s: float = 5.0

    def __post_init__(self) -> None:
        problems = [
            f"server.{field.name} must be above zero, got {getattr(self, field.name)}"
            for field in fields(self)
            if field.name not in {"max_connections", "max_body_bytes", "drain_s", "write_low_bytes"}
            and not getattr(self, field.name) > 0
        ]
        problems += [
            f"server.{name} must not be below zero, got {getattr(self, name)}"
            for name in ("max_connections", "max_body_bytes", "drain_s", "write_low_bytes")
            if not getattr(self, name) >= 0
        ]
        if self.max_header_bytes < 256:
            problems.append(f"server.max_header_bytes must be 256 or more, got {self.max_header_bytes}")
        if self.write_low_bytes >= self.write_high_bytes:
            problems.append("server.write_low_bytes must be below server.write_high_bytes")
        if problems:
            raise ConfigError(problems)
