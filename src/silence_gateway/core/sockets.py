"""
A WebSocket as the code above it sees it.

`edge/websocket.py` implements `Socket`; `realtime/` implements `SocketListener`. Neither knows the
other. Everything here is called on the event loop and never awaits: there is no task per connection.
"""

from __future__ import annotations

from typing import Protocol


class Socket(Protocol):
    """One open WebSocket."""

    @property
    def buffered(self) -> int:
        """Bytes accepted for sending that the kernel has not taken yet."""

    def send_frames(self, frames: bytes) -> None:
        """Send complete, already encoded frames (`core.websocket.text_frame`); never blocks."""

    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame after what is buffered, then end the connection within a few seconds."""

    def abort(self) -> None:
        """Drop the connection at once, with whatever is buffered."""

    def pause_reading(self) -> None:
        """Deliver nothing more until `resume_reading`; TCP pushes back on the client."""

    def resume_reading(self) -> None:
        """Deliver again."""


class SocketListener(Protocol):
    """What happens on one WebSocket."""

    def on_open(self, socket: Socket) -> None:
        """The handshake is done; called once, first."""

    def on_text(self, payload: bytes) -> None:
        """A whole text message: valid UTF-8, within the size limit."""

    def on_binary(self, payload: bytes) -> None:
        """A whole binary message, within the size limit."""

    def on_close(self, code: int, reason: str) -> None:
        """
        The connection is gone; called once, last.

        *code* is what the peer sent, what we sent, or 1006 if the connection just broke.
        """

    def on_drained(self) -> None:
        """The send buffer went above its high mark and is now below its low mark."""

    def on_shutdown(self) -> None:
        """This instance is draining: say goodbye in the protocol's own words and close."""


class TunnelPeer(Protocol):
    """What hears of the far end of a tunnel."""

    def on_far_data(self, data: bytes) -> None:
        """It said *data*."""

    def on_far_end(self) -> None:
        """It will say no more, or is gone; called once."""

    def on_far_full(self) -> None:
        """It does not keep up: send nothing more for now."""

    def on_far_drained(self) -> None:
        """It has caught up."""


class FarEnd(Protocol):
    """
    The far end of a tunnel: an open socket that speaks a protocol which we pass on unread.

    It says nothing before `open`. Everything here is called on the event loop and never awaits.
    """

    def open(self, peer: TunnelPeer) -> None:
        """Begin to tell *peer*."""

    def send(self, data: bytes) -> None:
        """Send *data*; never blocks."""

    def send_end(self) -> None:
        """Say that no more will come, after what is buffered."""

    def pause_reading(self) -> None:
        """Hear nothing until `resume_reading`; TCP pushes back."""

    def resume_reading(self) -> None:
        """Hear again."""

    def close(self) -> None:
        """End it after what is buffered; harmless when it has ended."""

    def abort(self) -> None:
        """End it at once; harmless when it has ended."""
