"""
A client's connection whose WebSocket is passed on to an upstream, byte for byte.

Messages, pings, close codes and extensions are the business of the two ends, and each holds the other up
when it does not keep up. Only when this instance stops does the tunnel speak itself: it says goodbye to
both ends between two frames (`core/websocket_tracker.py`).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from silence_gateway.core.sockets import FarEnd
from silence_gateway.core.websocket import CLOSE, close_frame, close_payload, masked_frame
from silence_gateway.core.websocket_tracker import FrameTracker
from silence_gateway.upstreams.liveness import ask_whether_alive

if TYPE_CHECKING:
    from silence_gateway.edge.server import HttpServer

RESTARTS = 1012
"""Close code for clients of an instance that stops: come back, to another one."""
GOING_AWAY = 1001


class TunnelConnection(asyncio.Protocol):
    """The near end of a tunnel to *far*. *on_over* is called once, when it has ended."""

    def __init__(
        self, server: HttpServer, transport: asyncio.BaseTransport, far: FarEnd, on_over: Callable[[], None]
    ) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._server = server
        self._far = far
        self._on_over = on_over
        self._from_client = FrameTracker()
        self._from_far = FrameTracker()
        self._not_passed_on = FrameTracker()
        self._stopping = False
        self._said_goodbye = False
        self._ended = False
        self._deadline_s = 0.0

    def open(self, early: bytes) -> None:
        """Begin; *early* is what the client sent before it saw our answer."""
        server = self._server
        server.websockets.add(self)
        server.statistics.websockets_open += 1
        server.statistics.websockets_total += 1
        ask_whether_alive(self.transport)
        if early:
            self.data_received(early)
        self._far.open(self)
        if server.draining:
            self.shut_down()

    # What the transport calls.

    def data_received(self, data: bytes) -> None:
        """Pass on what the client says; after our goodbye only the rest of its frame."""
        self._server.statistics.bytes_in += len(data)
        if self._stopping:
            self._finish_towards_far(data)
            return
        self._from_client.advance(data)
        self._far.send(data)

    def eof_received(self) -> bool:
        """The client will say no more; what is on the way to it still goes there, for a while."""
        self._far.send_end()
        self._begin_end()
        return self.transport.can_write_eof()

    def pause_writing(self) -> None:
        """The client does not keep up."""
        self._far.pause_reading()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._far.resume_reading()

    def connection_lost(self, _error: Exception | None) -> None:
        """The client is gone."""
        self._ended = True
        self._far.close()
        self._server.forget_websocket(self)
        self._on_over()

    # What the far end calls.

    def on_far_data(self, data: bytes) -> None:
        """Pass on what the upstream says; after our goodbye nothing."""
        if self._ended or self._said_goodbye:
            return
        if self._stopping:
            data = data[: self._from_far.advance(data, stop=True)]
        else:
            self._from_far.advance(data)
        self._write(data)
        if self._stopping:
            self._say_goodbye()

    def on_far_end(self) -> None:
        """The upstream has said all it will: the client gets it, and then the end."""
        if not self._ended:
            # Closing sends what is buffered first.
            self.transport.close()
            self._begin_end()

    def on_far_full(self) -> None:
        """The upstream does not keep up."""
        if not self._ended and not self.transport.is_closing():
            self.transport.pause_reading()

    def on_far_drained(self) -> None:
        """It has caught up."""
        if not self._ended and not self.transport.is_closing():
            self.transport.resume_reading()

    # What the server calls.

    def shut_down(self) -> None:
        """This instance is draining: say goodbye to both ends, each as soon as its frame is whole."""
        if self._stopping or self._ended:
            return
        self._stopping = True
        self._begin_end()
        self._say_goodbye()
        self._finish_towards_far(b"")

    def sweep(self, now_s: float) -> None:
        """End a tunnel whose ends do not finish."""
        if self._deadline_s == 0.0:
            self._deadline_s = now_s + self._server.settings.close_timeout_s
        elif now_s >= self._deadline_s and not self._ended:
            self._server.statistics.timeouts += 1
            self._far.abort()
            self.transport.abort()

    # How the above is done.

    def _write(self, data: bytes) -> None:
        if data and not self.transport.is_closing():
            self._server.statistics.bytes_out += len(data)
            self.transport.write(data)

    def _say_goodbye(self) -> None:
        """Send the client a close frame, if no other frame is on its way."""
        if not self._said_goodbye and self._from_far.at_boundary:
            self._said_goodbye = True
            if not self._from_far.closed:
                self._write(close_frame(RESTARTS, "this instance is shutting down; connect again"))

    def _finish_towards_far(self, data: bytes) -> None:
        """Send the upstream the rest of a frame and then a close frame; and see the client answer ours."""
        tracker = self._from_client
        taken = tracker.advance(data, stop=True)
        if taken:
            self._far.send(data[:taken])
        if tracker.at_boundary and not tracker.closed:
            payload = close_payload(GOING_AWAY, "")
            self._far.send(masked_frame(CLOSE, payload, secrets.token_bytes(4)))
            tracker.closed = True
        # What follows is not passed on; its close frame says that the client has heard us.
        self._not_passed_on.advance(data[taken:])
        if self._not_passed_on.closed and self._said_goodbye:
            self.transport.close()

    def _begin_end(self) -> None:
        self._server.closing_websockets.add(self)
