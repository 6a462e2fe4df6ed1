"""What one gRPC connection is allowed and expected to do. Nothing but numbers, checked once."""

from __future__ import annotations

from dataclasses import dataclass

from silence_gateway.core.h2_frames import MAX_BLOCK_BYTES
from silence_gateway.errors import ConfigError
from silence_gateway.upstreams.packing import ENCODINGS

MEBIBYTE = 1_048_576
LEAST_FRAME_BYTES = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSettings:
    """
    Bounds of one connection.

    Attributes:
        connect_timeout_s: Time for the TCP and TLS handshakes and the peer's SETTINGS together.
        max_streams: Our own cap on calls in flight; the peer's MAX_CONCURRENT_STREAMS may be lower.
        max_message_bytes: The largest answer message, after decompression.
        stream_window_bytes: How much of an answer stream may wait here unread, at first. Together with
            `max_streams` this bounds the memory of readers that take nothing.
        max_stream_window_bytes: How far the window of a stream may grow whose reader takes what comes,
            when the path holds more than it (`core.h2_bandwidth`); at least `stream_window_bytes`.
        connection_window_bytes: How much all answers together may have on the way.
        max_frame_bytes: The largest frame the peer may send us; 16 KiB is the least HTTP/2 allows. Never
            more than half of `stream_window_bytes`, whatever is written here (`frame_bytes`).
        max_header_list_bytes: The largest header list of an answer, counted as RFC 9113 does.
        keepalive_s: Silence after which we ask whether the peer is there; None never asks. Servers
            of gRPC refuse more than one ping in five minutes unless they are told otherwise.
        keepalive_timeout_s: Silence after a ping that ends the connection.
        keepalive_without_calls: Ask also when no call is in flight.
        compression: How requests are packed: `identity` (not at all), `gzip` or `zstd` (`packing.py`).
        compress_over_bytes: Messages of this size or more are packed.
        user_agent: What we call ourselves.
    """

    connect_timeout_s: float = 5.0
    max_streams: int = 100
    max_message_bytes: int = 4 * MEBIBYTE
    stream_window_bytes: int = MEBIBYTE // 4
    max_stream_window_bytes: int = 4 * MEBIBYTE
    connection_window_bytes: int = 16 * MEBIBYTE
    max_frame_bytes: int = 131_072
    max_header_list_bytes: int = 65_536
    keepalive_s: float | None = None
    keepalive_timeout_s: float = 20.0
    keepalive_without_calls: bool = False
    compression: str = "identity"
    compress_over_bytes: int = 1_024
    user_agent: bytes = b"silence-gateway"

    def __post_init__(self) -> None:
        problems = [
            f"{name} is {value}, which is not in {low}..{high}"
            for name, value, low, high in (
                ("max_streams", self.max_streams, 1, 1_000_000),
                ("max_message_bytes", self.max_message_bytes, 1, 2**31 - 1),
                ("stream_window_bytes", self.stream_window_bytes, 65_535, 2**31 - 1),
                ("connection_window_bytes", self.connection_window_bytes, 65_535, 2**31 - 1),
                ("max_frame_bytes", self.max_frame_bytes, LEAST_FRAME_BYTES, 2**24 - 1),
                ("max_header_list_bytes", self.max_header_list_bytes, 1_024, MAX_BLOCK_BYTES),
            )
            if not low <= value <= high
        ]
        if not self.stream_window_bytes <= self.max_stream_window_bytes < 2**31:
            problems.append("max_stream_window_bytes is below stream_window_bytes, or above 2 GiB")
        if self.compression not in ENCODINGS or self.compress_over_bytes < 1:
            problems.append(
                f"compression is {self.compression!r} over {self.compress_over_bytes} bytes, not one of "
                f"{', '.join(ENCODINGS)} over 1 or more"
            )
        if self.connect_timeout_s <= 0 or self.keepalive_timeout_s <= 0 or (self.keepalive_s or 1) <= 0:
            problems.append("timeouts and intervals must be positive")
        if problems:
            raise ConfigError(problems)

    @property
    def frame_bytes(self) -> int:
        """The largest frame the peer may send: one may be on its way while another is read."""
        return min(self.max_frame_bytes, self.stream_window_bytes // 2)
