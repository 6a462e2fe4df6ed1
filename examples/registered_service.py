"""A service that gateways find by itself: registered in their store for as long as it runs."""

import asyncio
import sys

import grpc
from cafe_pb2 import Drink, GetDrinkRequest
from cafe_pb2_grpc import CafeServicer, add_CafeServicer_to_server
from grpc_reflection.v1alpha import reflection

from silence_gateway import Registration


class Cafe(CafeServicer):
    async def GetDrink(self, request: GetDrinkRequest, _context: grpc.aio.ServicerContext) -> Drink:  # noqa: N802
        return Drink(name=request.name)


async def main(store: str, fleet: str) -> None:
    server = grpc.aio.server()
    add_CafeServicer_to_server(Cafe(), server)
    # So that gateways learn its methods from itself.
    reflection.enable_server_reflection(["silence.cafe.v1.Cafe"], server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with Registration("cafe", f"127.0.0.1:{port}", store=store, fleet=fleet) as registration:
        await registration.registered()
        print("registered", port, flush=True)
        await asyncio.to_thread(sys.stdin.readline)
    # Gateways send nothing new from here on; what they have begun may finish.
    await server.stop(grace=5)


asyncio.run(main(*sys.argv[1:]))
