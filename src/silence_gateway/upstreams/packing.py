"""
Compression of requests: whether a message is packed, and how.

Asked for by the operator, and only done as far as the peer reads it. It is done on the event loop: 64 KiB of
JSON cost 0.2 ms with gzip and 0.1 ms with zstd.
"""

from __future__ import annotations

from sys import maxsize

from silence_gateway.core import hpack
from silence_gateway.core.grpc_messages import in_pieces, pack

ENCODINGS = ("identity", "gzip", "zstd")
"""What can be asked for, by the names of `grpc-encoding`."""

NEVER = maxsize

_ENCODING_PREFIX = hpack.name_prefix(b"grpc-encoding")


class Packing:
    """
    How the requests of one connection are packed.

    Everybody reads gzip unless the peer names what it reads (`grpc-accept-encoding`) and gzip is not there.
    zstd is not sent before the peer has named it.

    Args:
        wanted: One of `ENCODINGS`.
        over: Messages of so many bytes or more are packed, if that makes them smaller.

    Attributes:
        field: The header that says so, to be sent with requests that are, or may be, packed.
        over: From how many bytes on messages are packed now; `NEVER` if none are.
    """

    __slots__ = ("_over", "_wanted", "field", "over")

    def __init__(self, wanted: str, over: int) -> None:
        self._wanted = wanted.encode()
        self._over = over
        self.field = _ENCODING_PREFIX + hpack.string(self._wanted)
        self.over = over if wanted == "gzip" else NEVER

    def learn(self, accepted: bytes) -> None:
        """Take in the `grpc-accept-encoding` of an answer."""
        if self._wanted != b"identity":
            read = {name.strip().lower() for name in accepted.split(b",")}
            self.over = self._over if self._wanted in read else NEVER

    def pack(self, message: bytes) -> bytes | None:
        """Return *message* packed; None if that is no gain."""
        packed = pack(self._wanted, message)
        return packed if len(packed) < len(message) else None

    def in_pieces(self, message: bytes) -> tuple[bytes, ...]:
        """Return *message* as it is sent under `field`, with its length before it."""
        packed = self.pack(message) if len(message) >= self._over else None
        return in_pieces(message) if packed is None else in_pieces(packed, packed=True)
