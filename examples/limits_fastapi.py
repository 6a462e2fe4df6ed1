"""Limits in a FastAPI app: `uvicorn limits_fastapi:app`; STORE=valkey://... counts for all workers."""

import os
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse

from silence_gateway import (
    LimitDependency,
    LimitMiddleware,
    MessageLimit,
    RateLimiter,
    RouteLimit,
    Spent,
    limited,
)

limiter = RateLimiter(os.environ.get("STORE", "memory://"), fleet="shop")
exports = limiter.concurrency("exports", 2)  # two at once per client, for as long as they stream

app = FastAPI()
app.add_middleware(
    LimitMiddleware,
    limiter=limiter,
    limits=[
        RouteLimit("100/minute"),  # every client
        RouteLimit("5/minute", path="/login", methods=["POST"]),
        RouteLimit(exports, path="/export"),
    ],
)

tokens = LimitDependency("1000/hour", name="tokens", key="header:X-Tenant", cost=100)
talk = LimitDependency(MessageLimit("3/10s", name="talk", key="connection"))


@app.post("/login")
async def login() -> dict[str, str]:
    return {"hello": "you"}


@app.get("/search")
@limited("10/second")
async def search(words: str) -> list[str]:
    return words.split()


@app.post("/complete")
async def complete(spent: Annotated[Spent, Depends(tokens)], response: Response) -> str:
    spent.settle(37)  # 100 were reserved; what it has not taken is given back
    response.headers["X-Tokens"] = "37"
    return "and so on"


@app.get("/export")
async def export() -> StreamingResponse:
    async def rows() -> AsyncIterator[str]:
        for number in range(3):
            yield f"row {number}\n"

    return StreamingResponse(rows(), media_type="text/plain")


@app.websocket("/chat", dependencies=[Depends(talk)])
async def chat(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect as gone:
        print(f"gone with {gone.code}: 4029 is over the limit", flush=True)
