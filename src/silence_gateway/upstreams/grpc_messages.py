"""
Length-prefixed messages inside the DATA of a call: putting them together, unpacking gzip, the size cap.

Used where a message does not come in exactly one frame; the usual small answer never gets here.
"""

from __future__ import annotations

import zlib
from typing import TypeAlias

from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError, UpstreamFault, UpstreamProtocolError

PREFIX_BYTES = 5

CallError: TypeAlias = RpcError | UpstreamFault
"""How a call can end other than well."""

RawMessage: TypeAlias = "tuple[bool, bytes]"
"""Whether it is compressed, and its bytes as they came."""


class MessageReader:
    """
    Cuts DATA into messages.

    Memory is bounded by one message of *max_bytes* plus one frame.

    Attributes:
        pending: Bytes of a message that is not complete yet.
    """

    __slots__ = ("_encoding", "_max_bytes", "_needed", "_pieces", "pending")

    def __init__(self, encoding: bytes, max_bytes: int) -> None:
        self._encoding = encoding
        self._max_bytes = max_bytes
        self._pieces: list[bytes] = []
        self._needed = PREFIX_BYTES
        self.pending = 0

    def feed(self, data: bytes) -> list[RawMessage]:
        """
        Return the messages that *data* completes, still packed.

        Raises:
            RpcError: A message is too large.
            UpstreamProtocolError: The prefix is broken.
        """
        self._pieces.append(data)
        self.pending += len(data)
        messages: list[RawMessage] = []
        if self.pending < self._needed:
            return messages
        data = b"".join(self._pieces)
        at, end = 0, len(data)
        self._needed = PREFIX_BYTES
        while end - at >= PREFIX_BYTES:
            size = int.from_bytes(data[at + 1 : at + 5], "big")
            if size > self._max_bytes:
                raise too_large(size, self._max_bytes)
            stop = at + PREFIX_BYTES + size
            if stop > end:
                self._needed = PREFIX_BYTES + size
                break
            if data[at] > 1:
                raise UpstreamProtocolError(
                    f"the upstream sent a message whose first byte is {data[at]}, not 0 or 1"
                )
            messages.append((data[at] == 1, data[at + PREFIX_BYTES : stop]))
            at = stop
        self._pieces = [data[at:]] if at < end else []
        self.pending = end - at
        return messages

    def unpack(self, raw: RawMessage) -> bytes:
        """
        Unpack a message; only now, so that what waits in a queue takes no more room than it took on the wire.

        Raises:
            RpcError: It is too large, or compressed in a way we did not offer.
            UpstreamProtocolError: The compressed bytes are broken.
        """
        packed, message = raw
        if not packed:
            return message
        if self._encoding == b"gzip":
            return gunzip(message, self._max_bytes)
        if self._encoding in (b"", b"identity"):
            raise RpcError(
                Code.INTERNAL, "the upstream sent a compressed message without naming its grpc-encoding"
            )
        name = self._encoding.decode("ascii", "replace")
        raise RpcError(Code.UNIMPLEMENTED, f"the upstream compressed with {name!r}; only gzip was offered")


def too_large(size: int, limit: int) -> RpcError:
    """Return the error for a message above the cap, which names both and the setting."""
    return RpcError(
        Code.RESOURCE_EXHAUSTED,
        f"the upstream's message of {size} bytes is above {limit} bytes (max_message of the upstream)",
    )


def gunzip(packed: bytes, limit: int) -> bytes:
    """
    Unpack gzip, but never more than *limit* bytes.

    Raises:
        RpcError: It unpacks to more.
        UpstreamProtocolError: It is not gzip, is cut off, or something follows it.
    """
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        message = unpacker.decompress(packed, limit + 1)
    except zlib.error as exc:
        raise UpstreamProtocolError(f"the upstream sent a message that is not gzip: {exc}") from exc
    if len(message) > limit:
        raise RpcError(
            Code.RESOURCE_EXHAUSTED,
            f"the upstream's message unpacks to more than {limit} bytes (max_message of the upstream)",
        )
    if not unpacker.eof or unpacker.unused_data:
        raise UpstreamProtocolError("the upstream sent a gzip message that is cut off or has a tail")
    return message


def framed(message: bytes) -> bytes:
    """Put the length before *message*; we never compress."""
    return b"\x00" + len(message).to_bytes(4, "big") + message
