"""Limits in a Litestar app: `uvicorn limits_litestar:app`; STORE=valkey://... counts for all workers."""

import os

from litestar import Litestar, get, post
from litestar.handlers import websocket_listener

from silence_gateway import LimitDependency, LimitMiddleware, MessageLimit, RateLimiter, RouteLimit, limited

limiter = RateLimiter(os.environ.get("STORE", "memory://"), fleet="shop")
reports = LimitDependency("2/minute", name="reports")
talk = LimitDependency(MessageLimit("3/10s", name="talk", on_excess="drop"))


@get("/search")
@limited("3/minute")
async def search() -> list[str]:
    return ["found"]


@post("/reports", guards=[reports.guard])
async def report() -> str:
    return "made"


@websocket_listener("/chat", guards=[talk.guard])
async def chat(data: str) -> str:
    return data


# Around the whole app: Litestar tells its middleware nothing of the app's life.
app = LimitMiddleware(Litestar([search, report, chat]), limiter=limiter, limits=[RouteLimit("100/minute")])
