"""
Header blocks of requests: written once per method, and no longer than the peer takes.

A block depends on nothing but the connection and the method (`core/hpack.py`), so it is kept. What follows it
in a request, its deadline and its metadata, is written for each call.
"""

from __future__ import annotations

from silence_gateway.core import hpack
from silence_gateway.core.grpc_timeout import encode_timeout
from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError

FIELD_SLACK = 57
"""
The most bytes by which one field counts for more than what is written of it (RFC 9113 section 10.5.1): 32,
and the longest name of the static table, against two bytes on the wire.
"""
OWN_FIELDS = 10
"""Fields of a request that are ours: those of `RequestHeads.block`, the deadline and the encoding."""

ANY_SIZE = 2**30 - 1
"""More than any block has; CPython 3.11 compares numbers up to this one in half the time."""

_TIMEOUT_PREFIX = hpack.name_prefix(b"grpc-timeout")
_MAX_CACHED_METHODS = 1_024
_MAX_CACHED_TIMEOUTS = 4_096

timeouts: dict[int, bytes] = {}
"""Fields for what remains of a deadline in whole milliseconds, as `timeout_field` wrote them."""


def timeout_field(remaining_s: float) -> bytes:
    """
    Write the grpc-timeout of a call; above a tenth of a second in whole milliseconds, rounded up.

    Callers' timeouts are few and round, so that what remains is nearly always one of a few hundred
    values: 0.1 us to find one instead of 1 us to write it.
    """
    whole_ms = int(remaining_s * 1e3)
    if whole_ms < 100:
        return _TIMEOUT_PREFIX + hpack.string(encode_timeout(remaining_s))
    field = _TIMEOUT_PREFIX + hpack.string(encode_timeout((whole_ms + 1) / 1_000))
    if len(timeouts) >= _MAX_CACHED_TIMEOUTS:
        timeouts.clear()
    timeouts[whole_ms] = field
    return field


class RequestHeads:
    """
    The blocks of one connection.

    Attributes:
        known: Blocks by method, for whoever cannot spare a call.
        roomy: A block with *n* fields of metadata is certainly not too long for the peer if it has at most
            `roomy - n * FIELD_SLACK` bytes; `ANY_SIZE` while the peer names no limit.
    """

    __slots__ = ("_authority", "_max_list_bytes", "_scheme", "_user_agent", "known", "roomy")

    def __init__(self, scheme: bytes, authority: bytes, user_agent: bytes) -> None:
        self._scheme = scheme
        self._authority = authority
        self._user_agent = user_agent
        self._max_list_bytes: int | None = None
        self.known: dict[bytes, bytes] = {}
        self.roomy = ANY_SIZE

    def block(self, method: bytes) -> bytes:
        """Return the block that every call of *method* begins with."""
        block = self.known.get(method)
        if block is None:
            block = hpack.encode(
                (
                    (b":method", b"POST"),
                    (b":scheme", self._scheme),
                    (b":path", method),
                    (b":authority", self._authority),
                    (b"te", b"trailers"),
                    (b"content-type", b"application/grpc"),
                    (b"user-agent", self._user_agent),
                    (b"grpc-accept-encoding", b"identity,gzip,deflate,zstd"),
                )
            )
            if len(self.known) >= _MAX_CACHED_METHODS:
                self.known.clear()
            self.known[method] = block
        return block

    def limit(self, max_list_bytes: int) -> None:
        """Take in what the peer says of itself (SETTINGS_MAX_HEADER_LIST_SIZE)."""
        self._max_list_bytes = max_list_bytes
        self.roomy = min(max_list_bytes, ANY_SIZE) - OWN_FIELDS * FIELD_SLACK

    def too_long(self, block: bytes) -> RpcError | None:
        """
        Return the error for a whole block that the peer would not take; None if it does.

        It is counted field by field, so it is for those that `roomy` says nothing about.
        """
        if self._max_list_bytes is None:
            return None
        pairs = hpack.BlockReader(list[tuple[bytes, bytes]], max_list_size=len(block) * 64).read(block)
        size = sum(len(name) + len(value) + hpack.ENTRY_OVERHEAD for name, value in pairs)
        if size <= self._max_list_bytes:
            return None
        text = f"the headers of the call are {size} bytes, and the upstream takes {self._max_list_bytes}"
        return RpcError(Code.RESOURCE_EXHAUSTED, f"{text} (its SETTINGS_MAX_HEADER_LIST_SIZE)")
