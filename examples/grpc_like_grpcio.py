"""A program that was written for grpcio: only the line that makes the channel is another one."""

import asyncio
import sys

import grpc
from cafe_pb2 import FailRequest
from cafe_pb2_grpc import CafeStub

from silence_gateway import Channel


async def main(address: str) -> None:
    async with Channel(address, as_grpcio=True) as channel:  # was: grpc.aio.insecure_channel(address)
        try:
            await CafeStub(channel).Fail(FailRequest(code=5, message="no such drink"))
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            print(error.details())


asyncio.run(main(*sys.argv[1:]))
