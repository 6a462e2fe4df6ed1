"""
One WebSocket of a hub: it hands what arrives to the session and carries out what the session wants.

No rule of the protocol is here (`core/session.py`), and no state that others need (`hub.py`). There is
one of these per connection, so it holds what it must and nothing else: no task, no timer, no queue.
"""

from __future__ import annotations

from asyncio import Future, ensure_future
from functools import partial
from typing import TYPE_CHECKING

from silence_gateway.core.centrifuge_codes import INTERNAL, SHUTDOWN, SLOW, CloseCode, ReplyError
from silence_gateway.core.session import Session
from silence_gateway.core.session_effects import (
    AskPresence,
    AskPresenceStats,
    Attach,
    Close,
    Connected,
    Effect,
    Join,
    Leave,
    Publish,
    Refreshed,
    Send,
    Verify,
)
from silence_gateway.core.sockets import Socket
from silence_gateway.core.websocket import text_frame
from silence_gateway.errors import StoreFault
from silence_gateway.realtime.local_channels import BUS_PREFIX

if TYPE_CHECKING:
    from silence_gateway.realtime.hub import RealtimeHub


class Connection:
    """
    A `SocketListener` with a session.

    Attributes:
        connected_us: When the client was let in, microseconds since the epoch; 0 before.
        paused: Whether the socket is not read for now.
        scheduled_us: When the hub's wheel will hand this out next.
    """

    __slots__ = ("connected_us", "depth", "hub", "outgoing", "paused", "scheduled_us", "session", "socket")

    session: Session
    socket: Socket

    def __init__(self, hub: RealtimeHub) -> None:
        self.hub = hub
        self.connected_us = 0
        self.scheduled_us = 0
        self.depth = 0
        self.paused = False
        self.outgoing: list[bytes] = []

    # The socket's side

    def on_open(self, socket: Socket) -> None:
        """Begin a session."""
        self.socket = socket
        self.session = self.hub.open_session(self)

    def on_text(self, payload: bytes) -> None:
        """Hand a frame to the session."""
        session = self.session
        commands = session.commands
        self.carry_out(session.on_frame(payload))
        self.hub.statistics.commands += session.commands - commands
        if session.paused and not self.paused:
            self.paused = True
            self.socket.pause_reading()

    def on_binary(self, payload: bytes) -> None:  # noqa: ARG002 - the contract's shape
        """Nothing binary is spoken here."""
        self.carry_out(self.session.on_binary())

    def on_close(self, code: int, reason: str) -> None:  # noqa: ARG002 - the contract's shape
        """End the session, if it has not ended."""
        self.hub.statistics.count_close(code)
        self.carry_out(self.session.lost())
        self.hub.closed(self)

    def on_drained(self) -> None:
        """Nothing is held back here: what is too much for a client closes it (`too_slow`)."""

    def on_shutdown(self) -> None:
        """This instance is going away; the client connects to another one."""
        self.close(SHUTDOWN)

    # The hub's side

    def tick(self, now_us: int) -> None:
        """Let the session look at the time."""
        self.carry_out(self.session.on_tick(now_us))

    def close(self, why: CloseCode) -> None:
        """End the conversation; harmless when it has ended."""
        self.carry_out(self.session.close(why))

    def too_slow(self) -> None:
        """The client reads more slowly than its channels speak."""
        if not self.session.over:
            self.hub.statistics.slow_closes += 1
            self.close(SLOW)

    def unsubscribe(self, channel: str, code: int, reason: str) -> None:
        """Take the client out of *channel* and tell it."""
        self.carry_out(self.session.unsubscribe(channel, code, reason))

    def attached(self, command_id: int, error: ReplyError | None) -> None:
        """The bus delivers the channel that a subscribe command asked for, or cannot."""
        if error is None:
            self.carry_out(self.session.on_attached(command_id))
        else:
            self.fail(command_id, error)

    def answer(self, command_id: int, result: bytes) -> None:
        """A command was done."""
        self.carry_out(self.session.on_answer(command_id, result))

    def fail(self, command_id: int, error: ReplyError) -> None:
        """A command could not be done."""
        self.carry_out(self.session.on_failed(command_id, error))

    def published(self, command_id: int, future: Future[None]) -> None:
        """The bus took a publication, or did not."""
        if future.cancelled():
            return
        exc = future.exception()
        if exc is None:
            self.answer(command_id, b"{}")
        elif isinstance(exc, StoreFault):
            self.fail(command_id, INTERNAL)
        else:
            self.fail(command_id, INTERNAL)
            raise exc

    # Carrying out

    def carry_out(self, effects: list[Effect]) -> None:
        """Do what the session wants, in order; what is to be sent leaves in one frame at the end."""
        self.depth += 1
        for effect in effects:
            self.do(effect)
        self.depth -= 1
        if self.depth:
            return
        if self.session.refusals:
            self.hub.statistics.errors += self.session.refusals
            self.session.refusals = 0
        self.send_outgoing()
        next_us = self.session.next_us
        if next_us and not (0 < self.scheduled_us <= next_us or self.session.over):
            self.hub.housekeeper.schedule(self)
        if self.paused and not self.session.paused:
            # What the socket held back is delivered from within this call: nothing may follow it.
            self.paused = False
            self.socket.resume_reading()

    def send_outgoing(self) -> None:
        """Send what has been collected as one frame."""
        if self.outgoing:
            payload = b"\n".join(self.outgoing)
            self.outgoing = []
            self.socket.send_frames(text_frame(payload))
            if self.socket.buffered > self.hub.settings.queue_bytes:
                self.too_slow()

    def do(self, effect: Effect) -> None:
        """Carry out one effect."""
        hub = self.hub
        match effect:
            case Send(payload):
                self.outgoing.append(payload)
            case Publish(command_id, channel, body):
                hub.statistics.publications += 1
                future = ensure_future(hub.bus.publish(BUS_PREFIX + channel, b"p" + body))
                future.add_done_callback(partial(self.published, command_id))
            case Attach(command_id, channel):
                hub.channels.attach(channel, self, command_id)
            case Join(channel):
                hub.channels.join(channel, self)
                hub.joined(self, channel)
            case Leave(channel, joined):
                hub.channels.leave(channel, self, joined=joined)
                if joined:
                    hub.left(self, channel)
            case Verify(command_id, token, refresh):
                hub.verify(self, command_id, token, refresh=refresh)
            case AskPresence(command_id, channel):
                hub.presence_desk.ask(self, command_id, channel, whole=True)
            case AskPresenceStats(command_id, channel):
                hub.presence_desk.ask(self, command_id, channel, whole=False)
            case Connected():
                hub.let_in(self)
            case Refreshed():
                hub.recorder.note(self)
            case Close(why):
                self.send_outgoing()
                hub.ended(self)
                self.socket.close(why.code, why.reason)
