"""One service on several addresses: balanced, health-checked, a circuit breaker for each; ordinary stubs."""

import asyncio
import sys

from cafe_pb2 import GetDrinkRequest
from cafe_pb2_grpc import CafeStub

from silence_gateway import Channel, Code, GrpcUpstream, RpcError, UpstreamSettings


async def main(*addresses: str) -> None:
    async with GrpcUpstream(UpstreamSettings.of(*addresses)) as upstream:
        cafe = CafeStub(Channel(upstream))
        try:
            print(await cafe.GetDrink(GetDrinkRequest(name="latte"), timeout=1.0))
        except RpcError as error:
            print(Code(error.code).name, error.details)


asyncio.run(main(*sys.argv[1:]))
