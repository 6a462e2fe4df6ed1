"""An HTTP service as people write them: Starlette under uvicorn. Run as a program, with its name and port."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

NAME = sys.argv[1]
WELL = [True]


async def say(request: Request) -> Response:
    """Tell what came."""
    return JSONResponse(
        {
            "name": NAME,
            "method": request.method,
            "path": request.scope["raw_path"].decode(),
            "query": request.url.query,
            "headers": dict(request.headers),
            "bytes": len(await request.body()),
        }
    )


async def upload(request: Request) -> Response:
    """Count a body without keeping it."""
    size = 0
    async for piece in request.stream():
        size += len(piece)
    return JSONResponse({"bytes": size})


async def events(_request: Request) -> Response:
    """Say something ten times a second, without end."""

    async def made() -> AsyncIterator[str]:
        number = 0
        while True:
            yield f"data: {number}\n\n"
            number += 1
            await asyncio.sleep(0.1)

    return StreamingResponse(made(), media_type="text/event-stream")


async def large(request: Request) -> Response:
    """Answer with as many MiB as asked for, without a length."""

    async def made() -> AsyncIterator[bytes]:
        for _ in range(int(request.query_params["mib"]) * 16):
            yield b"x" * 65536

    return StreamingResponse(made())


async def up(_request: Request) -> Response:
    """Say whether it is well."""
    return Response(status_code=204 if WELL[0] else 503)


async def fall_ill(_request: Request) -> Response:
    """Be ill from now on."""
    WELL[0] = False
    return Response("ill")


async def chat(socket: WebSocket) -> None:
    """Say everything back, with the name in front."""
    await socket.accept(subprotocol="chat.v1" if "chat.v1" in socket.scope["subprotocols"] else None)
    async for text in socket.iter_text():
        if text == "bye":
            await socket.close(4001, "as asked")
            return
        await socket.send_text(f"{NAME}: {text}")


METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
app = Starlette(
    routes=[
        Route("/up", up),
        Route("/ill", fall_ill, methods=["POST"]),
        Route("/upload", upload, methods=["POST", "PUT"]),
        Route("/events", events),
        Route("/large", large),
        WebSocketRoute("/chat", chat),
        Route("/{rest:path}", say, methods=METHODS),
    ]
)


async def main() -> None:
    port = int(sys.argv[2])
    server = uvicorn.Server(
        uvicorn.Config(
            app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning", ws="websockets-sansio"
        )
    )
    serving = asyncio.ensure_future(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    sys.stdout.write(f"listening on {port}\n")
    sys.stdout.flush()
    await serving


if __name__ == "__main__":
    asyncio.run(main())
