"""python-socketio as its documentation sets it up: an ASGI app, one room, emit on request."""

from __future__ import annotations

import socketio

server = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins="*", max_http_buffer_size=1_000_000)


@server.event
async def connect(sid: str, _environ: dict[str, object], _auth: object = None) -> None:
    await server.enter_room(sid, "news")


async def publish(scope, receive, send) -> None:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    await server.emit("news", body.decode(), room="news")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


sockets = socketio.ASGIApp(server)


async def app(scope, receive, send) -> None:
    if scope["type"] == "http" and scope["path"] == "/publish":
        await publish(scope, receive, send)
    else:
        await sockets(scope, receive, send)
