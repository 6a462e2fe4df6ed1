"""
An upstream's socket after it has switched protocols: the far end of a tunnel (`core.sockets.FarEnd`).

The call that asked for the switch keeps its place until the socket is gone, so a tunnel counts as one of
the requests in flight at its endpoint, and a drain of the endpoint waits for it.
"""

from __future__ import annotations

import asyncio

from silence_gateway.core.sockets import TunnelPeer
from silence_gateway.upstreams.http_body import HttpAnswer
from silence_gateway.upstreams.liveness import ask_whether_alive


class UpstreamTunnel(asyncio.Protocol):
    """The far end that *answer*, a 101, has left us."""

    def __init__(self, answer: HttpAnswer) -> None:
        assert answer.switched is not None
        self._answer = answer
        self._transport, self._early = answer.switched
        self._peer: TunnelPeer | None = None
        self._ended = False

    def open(self, peer: TunnelPeer) -> None:
        """Begin to tell *peer*."""
        self._peer = peer
        transport = self._transport
        if transport.is_closing():
            self.connection_lost(None)
            return
        transport.set_protocol(self)
        ask_whether_alive(transport)
        if self._early:
            early, self._early = self._early, b""
            peer.on_far_data(early)
        transport.resume_reading()

    def send(self, data: bytes) -> None:
        """Send *data*; never blocks."""
        if not self._transport.is_closing():
            self._answer.traffic.bytes_out += len(data)
            self._transport.write(data)

    def send_end(self) -> None:
        """Say that no more will come, after what is buffered."""
        if not self._transport.is_closing() and self._transport.can_write_eof():
            self._transport.write_eof()

    def pause_reading(self) -> None:
        """Hear nothing until `resume_reading`."""
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Hear again."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        """End it after what is buffered."""
        self._transport.close()
        self._over()

    def abort(self) -> None:
        """End it at once."""
        self._transport.abort()
        self._over()

    # What the transport calls.

    def data_received(self, data: bytes) -> None:
        """The upstream said something."""
        self._answer.traffic.bytes_in += len(data)
        if self._peer is not None:
            self._peer.on_far_data(data)

    def eof_received(self) -> bool:
        """The upstream will say no more; what is on the way to it still goes there."""
        self._tell_end()
        return self._transport.can_write_eof()

    def pause_writing(self) -> None:
        """The upstream does not keep up."""
        if self._peer is not None:
            self._peer.on_far_full()

    def resume_writing(self) -> None:
        """It has caught up."""
        if self._peer is not None:
            self._peer.on_far_drained()

    def connection_lost(self, _error: Exception | None) -> None:
        """The socket is gone."""
        self._over()
        self._tell_end()

    def _over(self) -> None:
        self._answer.finish()

    def _tell_end(self) -> None:
        if not self._ended:
            self._ended = True
            if self._peer is not None:
                self._peer.on_far_end()
