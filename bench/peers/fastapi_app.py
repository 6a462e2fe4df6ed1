"""What many teams write by hand: FastAPI in front of grpcio.aio, with and without an exact limit."""

from __future__ import annotations

import os
import sys
from contextlib import asynccontextmanager

import grpc
from fastapi import FastAPI, Request, Response
from google.protobuf import json_format

sys.path.insert(0, os.environ["BENCH_GENERATED"])
import shop_pb2
import shop_pb2_grpc

LIMITED = bool(os.environ.get("BENCH_VALKEY"))


@asynccontextmanager
async def lifespan(app: FastAPI):
    async with grpc.aio.insecure_channel(os.environ["BENCH_BACKEND"]) as channel:
        app.state.shop = shop_pb2_grpc.ShopStub(channel)
        if LIMITED:
            from limits import RateLimitItemPerMinute
            from limits.aio.storage import RedisStorage
            from limits.aio.strategies import MovingWindowRateLimiter

            app.state.limit = RateLimitItemPerMinute(1000)
            # redis-py and room for every connection in flight; its default of 100 fails under load.
            storage = RedisStorage(
                f"async+{os.environ['BENCH_VALKEY']}", implementation="redispy", max_connections=600
            )
            app.state.limiter = MovingWindowRateLimiter(storage)
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/v1/items")
async def put_item(request: Request) -> Response:
    if LIMITED:
        key = request.headers.get("x-client", "")
        if not await app.state.limiter.hit(app.state.limit, key):
            return Response(status_code=429)
    message = json_format.Parse(await request.body(), shop_pb2.Item())
    reply = await app.state.shop.PutItem(message, timeout=5)
    return Response(json_format.MessageToJson(reply, indent=None), media_type="application/json")
