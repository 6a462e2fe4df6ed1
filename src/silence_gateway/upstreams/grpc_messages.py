"""
The messages of an answer, read by `core/grpc_messages.py`, and what it means when they are broken.

Used where a message does not come in exactly one frame; the usual small answer never gets here.
"""

from __future__ import annotations

from typing import TypeAlias

from silence_gateway.core.grpc_messages import (
    PREFIX_BYTES,
    Fault,
    MessageFault,
    MessageInbox,
    RawMessage,
    in_pieces,
)
from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError, UpstreamFault, UpstreamProtocolError

__all__ = ["PREFIX_BYTES", "CallError", "MessageReader", "RawMessage", "in_pieces"]

CallError: TypeAlias = RpcError | UpstreamFault
"""How a call can end other than well."""


class MessageReader(MessageInbox):
    """The messages of an answer; see `MessageInbox`."""

    __slots__ = ()

    def feed(self, data: bytes) -> list[RawMessage]:
        """
        Return the messages that *data* completes, still packed.

        Raises:
            RpcError: A message is too large.
            UpstreamProtocolError: The prefix is broken.
        """
        size = len(data) - PREFIX_BYTES
        if not self.pending and int.from_bytes(data[:PREFIX_BYTES], "big") == size <= self._max_bytes:
            return [(False, data[PREFIX_BYTES:])]  # exactly one message, not compressed, as most frames are
        self.put(data)
        messages: list[RawMessage] = []
        try:
            while (raw := self.take()) is not None:
                messages.append(raw)
        except MessageFault as fault:
            raise as_call_error(fault) from fault
        return messages

    def unpack(self, raw: RawMessage) -> bytes:
        """
        Unpack a message; only now, so that what waits in a queue takes no more room than it took on the wire.

        Raises:
            RpcError: It is too large, or compressed in a way we did not offer.
            UpstreamProtocolError: The compressed bytes are broken.
        """
        try:
            return super().unpack(raw)
        except MessageFault as fault:
            raise as_call_error(fault) from fault


def as_call_error(fault: MessageFault) -> CallError:
    """Return how a call ends whose answer has *fault*."""
    if fault.fault is Fault.TOO_LARGE:
        text = f"the upstream's {fault.text} (max_message of the upstream)"
        return RpcError(Code.RESOURCE_EXHAUSTED, text)
    if fault.fault is Fault.UNKNOWN:
        text = f"the upstream compressed with {fault.text}; only gzip, deflate and zstd were offered"
        return RpcError(Code.UNIMPLEMENTED, text)
    if fault.fault is Fault.UNNAMED:
        return RpcError(Code.INTERNAL, f"the upstream sent {fault.text}")
    return UpstreamProtocolError(f"the upstream sent {fault.text}")
