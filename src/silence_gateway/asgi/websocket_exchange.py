"""
What passes between an app and its server during one WebSocket, with limits in between.

Until the app accepts it, a refusal is an answer to the handshake; from then on it closes the connection.
The app is told of that as of any other end: `receive` says that the client is gone, `send` raises an OSError.
"""

from __future__ import annotations

from enum import Enum

from silence_gateway.asgi.answers import close_message, deny
from silence_gateway.asgi.call import Call
from silence_gateway.asgi.http_exchange import UNHANDLED
from silence_gateway.asgi.message_gate import MessageGate
from silence_gateway.asgi.protocol import Message, Receive, Send
from silence_gateway.core.refusal import CLOSE_CODE, close_reason
from silence_gateway.errors import RateLimited


class Phase(Enum):
    """How far a WebSocket is; it only goes on in this order."""

    NEW = "new"
    CONNECTING = "connecting"
    OPEN = "open"
    OVER = "over"


class ConnectionRefused(ConnectionAbortedError):
    """We closed a WebSocket whose client was over its limit, and its app goes on writing."""


class WebSocketExchange:
    """
    Stands between an app and its server for one WebSocket.

    Attributes:
        ended_by: The refusal that ended it; None if none did.
    """

    __slots__ = ("call", "ended_by", "gate", "give", "phase", "take")

    def __init__(self, call: Call, gate: MessageGate, receive: Receive, send: Send) -> None:
        self.call = call
        self.gate = gate
        self.take = receive
        self.give = send
        self.phase = Phase.NEW
        self.ended_by: RateLimited | None = None

    async def receive(self) -> Message:
        """Hand the server's next message to the app."""
        if self.ended_by is not None:
            return self.gone(self.ended_by)
        try:
            message = await self.gate.receive(self.take)
        except RateLimited as refused:
            await self.refuse(refused)
            return self.gone(refused)
        if message["type"] == "websocket.connect":
            self.phase = Phase.CONNECTING
        elif message["type"] == "websocket.disconnect":
            self.phase = Phase.OVER
            self.call.end()
        return message

    async def send(self, message: Message) -> None:
        """
        Hand the app's next message to the server.

        Raises:
            ConnectionRefused: We closed the connection, and the app writes to its client.
        """
        kind = message["type"]
        if self.ended_by is not None:
            if kind == "websocket.send":
                raise ConnectionRefused(str(self.ended_by)) from self.ended_by
            return
        refused = self.call.refused
        if refused is not None and self.phase is not Phase.OPEN and is_failure(message):
            await self.refuse(refused)
            return
        if kind == "websocket.accept":
            self.phase = Phase.OPEN
            message = {**message, "headers": [*message.get("headers", ()), *self.call.lines()]}
            self.call.headed = True
        elif kind == "websocket.http.response.start":
            self.call.told = list(message.get("headers", ()))
            if not 300 <= message["status"] < 400:
                message = {**message, "headers": self.call.told + self.call.lines()}
        await self.give(message)
        if kind == "websocket.close" or (
            kind == "websocket.http.response.body" and not message.get("more_body", False)
        ):
            self.phase = Phase.OVER
            self.call.end()

    async def refuse(self, refused: RateLimited) -> None:
        """End it, in whatever way its phase allows."""
        if self.phase is Phase.NEW:
            # The protocol begins with this; some servers insist.
            await self.take()
        phase, self.phase = self.phase, Phase.OVER
        self.ended_by = refused
        self.call.end()
        if phase is Phase.OPEN:
            await self.give(close_message(refused))
        elif phase is not Phase.OVER:
            self.call.desk.explain(refused)
            await deny(refused, self.call.scope, self.give)

    @staticmethod
    def gone(refused: RateLimited) -> Message:
        """Return what tells the app that the connection is closed."""
        return {"type": "websocket.disconnect", "code": CLOSE_CODE, "reason": close_reason(refused)}


def is_failure(message: Message) -> bool:
    """Say whether a framework may have made this out of an exception that it does not know."""
    if message["type"] == "websocket.http.response.start":
        return bool(message["status"] == UNHANDLED)
    return bool(message["type"] == "websocket.close")
