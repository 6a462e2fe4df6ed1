"""
What an HTTP/2 server has counted: plain integers, read when somebody asks.

Nothing here is reset, and nothing is computed until it is read.
"""

from __future__ import annotations

from enum import Enum


class Cap(Enum):
    """A bound that a client ran into; the value is what a log or a metric calls it."""

    # Floods, one for each kind of `core.h2_flood.Noise`, in its order.
    RESETS = "reset_flood"
    REFUSALS = "refused_stream_flood"
    SETTINGS = "settings_flood"
    PINGS = "ping_flood"
    EMPTY_FRAMES = "empty_frame_flood"
    WINDOW_UPDATES = "window_update_flood"
    STRAYS = "stray_frame_flood"
    OTHERS = "other_frame_flood"
    # Memory and work.
    CONTINUATION = "continuation_flood"
    HEADER_BOMB = "header_bomb"
    HEADER_LIST = "header_list_too_large"
    CONNECTIONS = "too_many_connections"
    STREAMS = "too_many_streams"
    UNSENT = "too_much_unsent"
    # Time.
    SLOW_PREFACE = "slow_preface"
    SLOW_HEADERS = "slow_headers"
    SLOW_BODY = "slow_body"
    STALLED_STREAM = "stalled_stream"
    STALLED_CONNECTION = "stalled_connection"
    IDLE = "idle"
    AGE = "age"


class Http2Statistics:
    """
    Counts since the server was made; `*_open` are how many there are now.

    Attributes:
        connections_open: Connections.
        connections_total: Connections ever accepted.
        streams_total: Requests begun, refused ones not among them.
        resets_received: Requests that clients took back.
        resets_sent: Requests that we broke off for a rule of HTTP/2 or a bound.
        cancelled: Handlers cancelled because their request was taken back or their client left.
        capped: How often clients ran into each bound.
        violations: Connections ended because of a broken rule, by HTTP/2 error code.
        goaways: Connections that were told to go in good order.
        pings_answered: Pings of clients.
        bytes_in: Bytes read from clients, after TLS.
        bytes_out: Bytes given to sockets, before TLS.
        flushes: Writes to sockets.
    """

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "cancelled",
        "capped",
        "connections_open",
        "connections_total",
        "flushes",
        "goaways",
        "pings_answered",
        "resets_received",
        "resets_sent",
        "streams_total",
        "violations",
    )

    def __init__(self) -> None:
        self.connections_open = self.connections_total = self.streams_total = 0
        self.resets_received = self.resets_sent = self.cancelled = self.goaways = self.pings_answered = 0
        self.bytes_in = self.bytes_out = self.flushes = 0
        self.capped: dict[Cap, int] = dict.fromkeys(Cap, 0)
        self.violations: dict[int, int] = {}

    def violate(self, code: int) -> None:
        """Count one connection that ended because of a broken rule."""
        self.violations[code] = self.violations.get(code, 0) + 1
