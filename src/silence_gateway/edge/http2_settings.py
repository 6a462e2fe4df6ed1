"""
What an HTTP/2 server allows its clients: every bound in size, number and time.

Frozen and checked once, here; nothing downstream checks again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from silence_gateway.core.h2_flood import ALLOWANCES, Allowance, Noise
from silence_gateway.errors import ConfigError

KIBIBYTE = 1_024
MEBIBYTE = 1_048_576


@dataclass(frozen=True, slots=True, kw_only=True)
class Http2Settings:
    """
    The bounds of one server.

    Attributes:
        max_connections: Open connections of this process; 0 means no cap.
        max_streams: Requests of one connection at work at once, cancelled ones that still run included.
        max_header_list_bytes: The header list of one request, counted as RFC 9113 does.
        max_frame_bytes: The largest frame a client may send.
        stream_window_bytes: What one request may send before any of it is used.
        connection_window_bytes: What all requests of a connection may have on the way.
        max_held_bytes: Room lent to messages larger than their window, per connection; one message alone
            may always have what it needs.
        max_unsent_bytes: Answers that wait for their client, per connection; beyond it new requests are
            refused until it reads.
        write_high_bytes: Unsent bytes in the socket's buffer from which no content is added.
        write_low_bytes: Unsent bytes at which content is added again.
        header_timeout_s: From the connection's beginning to the client's SETTINGS, and from the first byte
            of a frame or header block to its last.
        body_timeout_s: From the head of a request to its end, where one message is expected.
        idle_timeout_s: How long a connection may be open without a request.
        stall_timeout_s: How long a client may take for its next share of an answer (`core/progress.py`).
        max_age_s: After which a connection is told to go, give or take a tenth; 0 means never.
        age_grace_s: How long its requests may then go on.
        goodbye_s: How long a client may take to answer the first GOAWAY of a graceful end.
        linger_s: How long a client that was cut off may take to read why.
        allowances: What a client may do that brings nobody forward, by kind.
    """

    max_connections: int = 0
    max_streams: int = 100
    max_header_list_bytes: int = 32 * KIBIBYTE
    max_frame_bytes: int = 16 * KIBIBYTE
    # The least that clients assume before they have read our SETTINGS; larger messages borrow.
    stream_window_bytes: int = 65_535
    connection_window_bytes: int = 4 * MEBIBYTE
    max_held_bytes: int = 16 * MEBIBYTE
    max_unsent_bytes: int = 16 * MEBIBYTE
    write_high_bytes: int = 64 * KIBIBYTE
    write_low_bytes: int = 16 * KIBIBYTE
    header_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    idle_timeout_s: float = 300.0
    stall_timeout_s: float = 30.0
    max_age_s: float = 0.0
    age_grace_s: float = 30.0
    goodbye_s: float = 1.0
    linger_s: float = 2.0
    allowances: Mapping[Noise, Allowance] = field(default_factory=lambda: dict(ALLOWANCES))

    def __post_init__(self) -> None:
        problems = [
            f"http2.{name} is {value}, which is not in {low}..{high}"
            for name, value, low, high in (
                ("max_connections", self.max_connections, 0, 2**31),
                ("max_streams", self.max_streams, 1, 1_000_000),
                ("max_header_list_bytes", self.max_header_list_bytes, 1_024, 2**24),
                ("max_frame_bytes", self.max_frame_bytes, 16_384, 2**24 - 1),
                ("stream_window_bytes", self.stream_window_bytes, 65_535, 2**31 - 1),
                ("connection_window_bytes", self.connection_window_bytes, 65_535, 2**31 - 1),
                ("max_held_bytes", self.max_held_bytes, 0, 2**31 - 1),
                ("max_unsent_bytes", self.max_unsent_bytes, 1, 2**40),
                ("write_high_bytes", self.write_high_bytes, 1, 2**31 - 1),
                ("write_low_bytes", self.write_low_bytes, 0, self.write_high_bytes - 1),
            )
            if not low <= value <= high
        ]
        problems += [
            f"http2.{name} must be above zero, got {getattr(self, name)}"
            for name in (
                "header_timeout_s",
                "body_timeout_s",
                "idle_timeout_s",
                "stall_timeout_s",
                "age_grace_s",
                "goodbye_s",
                "linger_s",
            )
            if not getattr(self, name) > 0
        ]
        if not self.max_age_s >= 0:
            problems.append(f"http2.max_age_s must not be below zero, got {self.max_age_s}")
        missing = [noise.name for noise in Noise if noise not in self.allowances]
        if missing:
            problems.append(f"http2.allowances has nothing for {', '.join(missing)}")
        if problems:
            raise ConfigError(problems)
