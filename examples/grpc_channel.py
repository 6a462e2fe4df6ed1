"""Stubs that grpcio-tools generated, on a channel made in one line; errors by status, and an interceptor."""

import asyncio
import sys
from typing import Any

from cafe_pb2 import FailRequest, GetDrinkRequest, PlaceOrderRequest, WatchOrderRequest, WhoAmIRequest
from cafe_pb2_grpc import CafeStub

from silence_gateway import Channel, Interceptor, OutgoingCall, RpcError


class Token(Interceptor):
    """Adds a token to every unary call, and makes it once more if it was turned away."""

    async def unary_unary(self, call: OutgoingCall, proceed: Any) -> Any:
        call.metadata.append(("x-token", "secret"))
        try:
            return await proceed(call)
        except RpcError.ResourceExhausted:
            return await proceed(call)


async def main(*addresses: str) -> None:
    async with Channel(addresses, interceptors=[Token()]) as channel:
        cafe = CafeStub(channel)
        print((await cafe.GetDrink(GetDrinkRequest(name="latte"), timeout=1)).name)
        order = await cafe.PlaceOrder(PlaceOrderRequest(drink="latte", quantity=1), timeout=1)
        async for event in cafe.WatchOrder(WatchOrderRequest(id=order.id, events=2)):
            print(event.step)
        print((await cafe.WhoAmI(WhoAmIRequest(), wait_for_ready=True, timeout=5)).metadata["x-token"])
        try:
            await cafe.Fail(FailRequest(code=5, message="no such drink"))
        except RpcError.NotFound as error:
            print(error.code.name, error.details)
            print(error)


asyncio.run(main(*sys.argv[1:]))
