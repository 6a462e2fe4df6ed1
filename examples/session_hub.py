"""Publish to every client of a gateway's fleet, and hear them, from any program that reaches the store."""

import asyncio
import sys

from silence_gateway import SessionHub, ValkeyStore


async def main(store: str, fleet: str = "edge") -> None:
    async with SessionHub(store=ValkeyStore(store, fleet)) as hub:
        hub.subscribe("news", print)
        for number in range(3):
            await hub.publish("news", {"tick": number})
            await asyncio.sleep(1)


asyncio.run(main(*sys.argv[1:]))
