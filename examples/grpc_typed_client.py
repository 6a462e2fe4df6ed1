"""A typed client without generated stubs, and without grpcio: the message classes are enough."""

import asyncio
import sys

from cafe_pb2 import Drink, GetDrinkRequest, Order, OrderEvent, PlaceOrderRequest, WatchOrderRequest

from silence_gateway import Channel, ServiceClient


class Cafe(ServiceClient):
    get_drink = ServiceClient.unary_unary("silence.cafe.v1.Cafe/GetDrink", GetDrinkRequest, Drink)
    place_order = ServiceClient.unary_unary("silence.cafe.v1.Cafe/PlaceOrder", PlaceOrderRequest, Order)
    watch_order = ServiceClient.unary_stream("silence.cafe.v1.Cafe/WatchOrder", WatchOrderRequest, OrderEvent)


async def main(address: str) -> None:
    async with Channel(address) as channel:
        cafe = Cafe(channel)
        print((await cafe.get_drink(GetDrinkRequest(name="latte"), timeout=1)).name)
        order = await cafe.place_order(PlaceOrderRequest(drink="latte", quantity=1), timeout=1)
        print([event.step async for event in cafe.watch_order(WatchOrderRequest(id=order.id, events=2))])
        print("grpc" in sys.modules)


asyncio.run(main(*sys.argv[1:]))
