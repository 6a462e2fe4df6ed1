"""
One open WebSocket on a socket.

Bytes from the transport go through `core/websocket_reader.py` to a listener; frames of the listener go
to the transport as they are. There is no task and no timer here: the server's sweep ends connections
that do not finish closing. About 1.3 KB of our own per idle connection, the transport not counted.

A client is heard for `TURN_BYTES` at a time, then it is everybody else's turn. The event loop reads one
socket up to 32 times in a row as long as it is full, 8 MiB altogether: one client that sent small
commands as fast as it could held up everybody else for as long as it liked (1.5 s in the median).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

from silence_gateway.core.sockets import SocketListener
from silence_gateway.core.websocket import (
    BROKEN_OFF,
    CLOSE,
    NORMAL_CLOSURE,
    PING,
    TEXT,
    close_frame,
    is_close_code,
    pong_frame,
)
from silence_gateway.core.websocket_reader import FrameEvent, FrameReader, read_close
from silence_gateway.edge.problems import describe
from silence_gateway.events import Noticed

if TYPE_CHECKING:
    from silence_gateway.edge.server import HttpServer

INTERNAL_ERROR = 1011
# A turn of the smallest commands takes about 3 ms, and one message of the largest size four turns.
TURN_BYTES = 16 * 1024


class WebSocketConnection(asyncio.Protocol):
    """
    A `core.sockets.Socket` over *transport*, made when the handshake has been answered.

    Its states are two attributes: `closing` once our close frame is written, `ended` once the
    connection is gone.
    """

    __slots__ = (
        "close_code",
        "close_reason",
        "closing",
        "deadline_s",
        "ended",
        "held",
        "listener",
        "reader",
        "reading_paused",
        "server",
        "transport",
        "turn_planned",
        "unread",
        "write_paused",
    )

    def __init__(self, server: HttpServer, transport: asyncio.Transport, listener: SocketListener) -> None:
        self.server = server
        self.transport = transport
        self.listener = listener
        self.reader = FrameReader(server.settings.max_websocket_message_bytes)
        self.closing = False
        self.ended = False
        self.reading_paused = False
        self.write_paused = False
        self.held: Sequence[FrameEvent] = ()  # read, but not delivered while reading is paused
        self.unread = b""  # received, but not looked at before our next turn
        self.turn_planned = False
        self.close_code = BROKEN_OFF
        self.close_reason = ""
        self.deadline_s = 0.0

    def open(self, early: bytes) -> None:
        """Tell the listener; *early* is what the client sent before it saw our answer."""
        server = self.server
        server.websockets.add(self)
        server.statistics.websockets_open += 1
        server.statistics.websockets_total += 1
        try:
            self.listener.on_open(self)
        except Exception as error:  # noqa: BLE001 - a listener's bug ends its connection, not the process
            self.blame_listener(error)
        if early:
            self.data_received(early)

    # What the listener calls.

    @property
    def buffered(self) -> int:
        """Bytes accepted for sending that the kernel has not taken yet."""
        return 0 if self.ended else self.transport.get_write_buffer_size()

    def send_frames(self, frames: bytes) -> None:
        """Send whole frames; never blocks. After `close` they are dropped."""
        if self.closing or self.ended:
            return
        self.transport.write(frames)
        self.server.statistics.bytes_out += len(frames)
        if self.write_paused and self.buffered > self.server.settings.max_websocket_buffer_bytes:
            self.abort()

    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame after what is buffered, then end the connection within a few seconds."""
        if self.closing or self.ended:
            return
        frame = close_frame(code, reason)
        self.send_frames(frame)
        self.closing = True
        self.held = ()
        if self.close_code == BROKEN_OFF:
            self.close_code = code
            self.close_reason = reason
        self.server.closing_websockets.add(self)
        self.deadline_s = 0.0
        if self.reading_paused:
            self.reading_paused = False
            self.read_on()

    def abort(self) -> None:
        """Drop the connection at once, with whatever is buffered."""
        if not self.ended:
            self.closing = True
            self.held = ()
            self.transport.abort()

    def pause_reading(self) -> None:
        """Deliver nothing more until `resume_reading`."""
        if not (self.reading_paused or self.closing or self.ended):
            self.reading_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Deliver again, beginning with what had been read already."""
        if not self.reading_paused or self.ended:
            return
        self.reading_paused = False
        held, self.held = self.held, ()
        self.deliver(held)
        self.finish_reading()
        if not (self.reading_paused or self.ended):
            self.read_on()

    # What the transport calls.

    def data_received(self, data: bytes) -> None:
        """Read frames and deliver what they complete, as much as is one turn."""
        self.server.statistics.bytes_in += len(data)
        if self.ended:
            return
        if self.unread:
            # It was on its way when the turn ended.
            self.unread += data
            return
        if len(data) > TURN_BYTES:
            self.transport.pause_reading()
            data = self.begin_turn(data)
        self.read(data)

    def read(self, data: bytes) -> None:
        """Read frames and deliver what they complete."""
        events = self.reader.feed(data)
        if self.reading_paused:
            # Bytes that were on their way when reading was paused.
            self.held = [*self.held, *events]
            return
        self.deliver(events)
        self.finish_reading()

    def eof_received(self) -> None:
        """The client will send no more; without a close frame, that is a broken connection."""

    def pause_writing(self) -> None:
        """The buffer is above its high mark."""
        self.write_paused = True

    def resume_writing(self) -> None:
        """The buffer is below its low mark."""
        self.write_paused = False
        if not self.closing:
            self.call_listener(self.listener.on_drained)

    def connection_lost(self, _error: Exception | None) -> None:
        """The connection is gone."""
        self.ended = True
        self.held = ()
        self.unread = b""
        self.server.forget_websocket(self)
        listener = self.listener
        try:
            listener.on_close(self.close_code, self.close_reason)
        except Exception as error:  # noqa: BLE001 - a listener's bug must not stop the loop's callback
            self.server.observer(Noticed(what=describe(error, None), loudness="error"))

    # What the server calls.

    def shut_down(self) -> None:
        """This instance is draining."""
        if not self.closing:
            self.call_listener(self.listener.on_shutdown)

    def sweep(self, now_s: float) -> None:
        """End a connection whose client does not finish closing; called for those that are closing."""
        if self.deadline_s == 0.0:
            self.deadline_s = now_s + self.server.settings.close_timeout_s
        elif now_s >= self.deadline_s and not self.ended:
            self.server.statistics.timeouts += 1
            self.transport.abort()

    # How the above is done.

    def begin_turn(self, data: bytes) -> bytes:
        """Return as much of *data* as is one turn, and keep the rest for later ones."""
        self.unread = data[TURN_BYTES:]
        if self.unread:
            self.plan_turn()
        return data[:TURN_BYTES]

    def plan_turn(self) -> None:
        """Go on once everybody else has been heard."""
        if not self.turn_planned:
            self.turn_planned = True
            asyncio.get_running_loop().call_soon(self.next_turn)

    def next_turn(self) -> None:
        """Look at more of what was received, unless the listener wants a rest."""
        self.turn_planned = False
        if self.reading_paused or self.ended:
            return
        self.read(self.begin_turn(self.unread))
        if not (self.unread or self.reading_paused or self.ended):
            self.transport.resume_reading()

    def read_on(self) -> None:
        """Go on reading: first what was received already."""
        if self.unread:
            self.plan_turn()
        else:
            self.transport.resume_reading()

    def deliver(self, events: Sequence[FrameEvent]) -> None:
        """Hand *events* to the listener, until it pauses or the connection closes."""
        ping: bytes | None = None
        for index, (opcode, payload) in enumerate(events):
            if self.reading_paused:
                self.held = events[index:]
                break
            if opcode == CLOSE:
                self.answer_close(payload)
                return
            if self.closing:
                continue
            if opcode == PING:
                ping = payload
            elif opcode == TEXT:
                self.call_listener(self.listener.on_text, payload)
            elif opcode < CLOSE:
                self.call_listener(self.listener.on_binary, payload)
        # Several pings may have one answer, the last one's (RFC 6455 section 5.5.3), and a client that
        # reads nothing gets none: a flood of pings must not fill our memory.
        if ping is not None and not self.write_paused:
            self.send_frames(pong_frame(ping))

    def finish_reading(self) -> None:
        """Close on what the client did wrong, once everything before it has been delivered."""
        failure = self.reader.failure
        if failure is not None and not (self.closing or self.reading_paused or self.ended):
            self.server.statistics.fail_websocket(failure.code)
            self.close(failure.code, failure.reason)
            if self.transport.can_write_eof():
                # Nothing that this client says will be understood: let it see the end now.
                self.transport.write_eof()

    def answer_close(self, payload: bytes) -> None:
        """The client's close frame: repeat its code, and end."""
        code, reason = read_close(payload)
        if not self.closing:
            self.close_code = code
            self.close_reason = reason
            self.close(code if is_close_code(code) else NORMAL_CLOSURE)
        self.transport.close()

    def call_listener(self, call: Callable[..., None], *payload: bytes) -> None:
        """Call the listener; its bug ends this connection with 1011, and is told to the observer."""
        try:
            call(*payload)
        except Exception as error:  # noqa: BLE001 - a listener's bug ends its connection, not the process
            self.blame_listener(error)

    def blame_listener(self, error: Exception) -> None:
        """Report a listener's bug and end the connection."""
        self.server.observer(Noticed(what=describe(error, None), loudness="error"))
        self.close(INTERNAL_ERROR)


def upgraded(
    server: HttpServer, transport: asyncio.BaseTransport, listener: SocketListener
) -> WebSocketConnection:
    """Return a connection that has taken *transport* over from HTTP."""
    socket = WebSocketConnection(server, cast("asyncio.Transport", transport), listener)
    transport.set_protocol(socket)
    return socket
