"""Limits in a Starlette app: `uvicorn limits_starlette:app`; STORE=valkey://... counts for all workers."""

import os

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from silence_gateway import LimitMiddleware, MessageLimit, RateLimiter, RouteLimit, limited

limiter = RateLimiter(os.environ.get("STORE", "memory://"), fleet="shop")
mails = limiter.limit("mails", "2/minute")


@limited("5/minute", key=["client_ip", "header:X-Tenant"])
async def orders(request: Request) -> JSONResponse:
    return JSONResponse({"tenant": request.headers.get("x-tenant")})


async def mail(request: Request) -> JSONResponse:
    await mails.acquire(request.path_params["address"])  # who is over the limit gets 429
    return JSONResponse("sent")


@limited(MessageLimit("2/s", key="connection", on_excess="wait", max_wait_s=5))
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


app = Starlette(
    routes=[
        Route("/orders", orders),
        Route("/mail/{address}", mail, methods=["POST"]),
        WebSocketRoute("/echo", echo),
    ],
    middleware=[
        Middleware(LimitMiddleware, limiter=limiter, limits=[RouteLimit("100/minute")], headers="both"),
    ],
)
