"""What one connection counts: plain integers, written on the hot path, read when scraped."""

from __future__ import annotations


class TrafficCounts:
    """
    Bytes of the sockets to one HTTP endpoint, inside TLS.

    Attributes:
        bytes_in: Received since the first was opened.
        bytes_out: Sent since then.
    """

    __slots__ = ("bytes_in", "bytes_out")

    def __init__(self) -> None:
        self.bytes_in = self.bytes_out = 0


class ConnectionStatistics:
    """
    Totals of one gRPC connection since it was made.

    Attributes:
        calls: Calls begun.
        by_code: Calls ended with each gRPC status that the peer sent, by its number.
        faults: Calls that ended without a status of the peer: broken, timed out, or not gRPC.
        timeouts: Calls among *faults* whose deadline passed.
        protocol_errors: Calls among *faults* whose answer was not gRPC.
        cancelled: Calls that the caller left.
        messages_in: Messages read.
        messages_out: Messages sent.
        bytes_in: Bytes read from the socket, after TLS.
        bytes_out: Bytes given to the socket, before TLS.
        pings_sent: Keepalive pings.
        pings_answered: Pings of the peer that we answered.
        flushes: Writes to the socket; *calls* per flush tells how well calls travel together.
    """

    __slots__ = (
        "by_code",
        "bytes_in",
        "bytes_out",
        "calls",
        "cancelled",
        "faults",
        "flushes",
        "messages_in",
        "messages_out",
        "pings_answered",
        "pings_sent",
        "protocol_errors",
        "timeouts",
    )

    def __init__(self) -> None:
        self.calls = self.faults = self.timeouts = self.protocol_errors = self.cancelled = 0
        self.by_code = [0] * 17
        self.messages_in = self.messages_out = self.bytes_in = self.bytes_out = 0
        self.pings_sent = self.pings_answered = self.flushes = 0

    def as_dict(self) -> dict[str, int]:
        """Return every count by name, for the admin API; codes as `code_N`, those never seen left out."""
        counts = {name: getattr(self, name) for name in self.__slots__ if name != "by_code"}
        counts.update({f"code_{code}": count for code, count in enumerate(self.by_code) if count})
        return counts
