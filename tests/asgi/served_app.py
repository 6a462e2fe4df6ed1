"""An app for real servers to run: it says which process answers, streams slowly, and talks."""

from __future__ import annotations

import os

from silence_gateway import LimitDependency, LimitMiddleware, MessageLimit, RateLimiter, RouteLimit
from silence_gateway.asgi.protocol import Receive, Scope, Send

limiter = RateLimiter(os.environ["STORE"], fleet="served")
both = LimitDependency("1000/minute", name="both")


async def hello(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})


async def stream(_scope: Scope, receive: Receive, send: Send) -> None:
    """Stream for as long as the client is there."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun\n", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        continue


async def talk(_scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] != "websocket.disconnect":
        await send({"type": "websocket.send", "text": message["text"]})


async def life(_scope: Scope, receive: Receive, send: Send) -> None:
    for _ in range(2):
        message = await receive()
        await send({"type": message["type"] + ".complete"})


async def serve(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await life(scope, receive, send)
    elif scope["type"] == "websocket":
        await talk(scope, receive, send)
    elif scope["path"] == "/stream":
        await stream(scope, receive, send)
    else:
        await both()
        await hello(scope, receive, send)


app = LimitMiddleware(
    serve,
    limiter=limiter,
    limits=[
        RouteLimit("20/minute", path="/hello", name="hello"),
        RouteLimit(limiter.concurrency("streams", 1), path="/stream"),
        RouteLimit("3/minute", path="/talk", name="hands"),
        MessageLimit("2/minute", name="words", key="connection"),
    ],
)
