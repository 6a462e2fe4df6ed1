"""
What passes between an app and its server during one HTTP request, with limits told in between.

The end of a request is the last message of its answer, trailers included; or the moment when the app is
told that the client has left; or else the app's own end, however it comes. A refusal on a route leaves as
an exception. Frameworks make an answer of 500 out of one that they do not know, and ours takes its place;
an answer that the app makes of it in a handler of its own is left alone.
"""

from __future__ import annotations

from silence_gateway.asgi.answers import refusal_messages
from silence_gateway.asgi.call import Call
from silence_gateway.asgi.protocol import Message, Receive, Send
from silence_gateway.errors import RateLimited

UNHANDLED = 500
"""What frameworks answer to an exception that they do not know."""


class HttpExchange:
    """
    Stands between an app and its server for one request.

    Attributes:
        started: The head of an answer is out.
        replaced: It is ours, instead of what the framework made of a refusal.
    """

    __slots__ = ("call", "give", "replaced", "started", "take", "trailers")

    def __init__(self, call: Call, receive: Receive, send: Send) -> None:
        self.call = call
        self.take = receive
        self.give = send
        self.started = False
        self.replaced = False
        self.trailers = False

    async def receive(self) -> Message:
        """Hand the server's next message to the app."""
        message = await self.take()
        if message["type"] == "http.disconnect":
            self.call.end()
        return message

    async def send(self, message: Message) -> None:
        """Hand the app's next message to the server."""
        kind = message["type"]
        if kind == "http.response.start":
            refused = self.call.refused
            if refused is not None and message["status"] == UNHANDLED:
                self.replaced = True
                await self.refuse(refused)
                return
            self.started = True
            message = self.with_limits(message)
        elif self.replaced:
            return
        await self.give(message)
        if self.ends(kind, message):
            self.call.end()

    def with_limits(self, message: Message) -> Message:
        """Return the head of an answer that tells about limits, unless it is a redirect."""
        self.trailers = message.get("trailers", False)
        headers = list(message.get("headers", ()))
        self.call.told = headers
        self.call.headed = True
        if 300 <= message["status"] < 400:
            # A client that reads `r=0` here would wait before it follows.
            return message
        return {**message, "headers": headers + self.call.lines()}

    def ends(self, kind: str, message: Message) -> bool:
        """Say whether this was the last message of an answer."""
        if kind == "http.response.trailers":
            self.call.told = [*self.call.told, *message.get("headers", ())]
            return not message.get("more_trailers", False)
        if self.trailers:
            return False
        if kind in {"http.response.body", "http.response.zerocopysend"}:
            return not message.get("more_body", False)
        return kind == "http.response.pathsend"

    async def refuse(self, refused: RateLimited) -> None:
        """Send the whole of a refusal."""
        self.started = True
        self.call.desk.explain(refused)
        for message in refusal_messages(refused):
            await self.give(message)
