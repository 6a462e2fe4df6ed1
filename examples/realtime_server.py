"""A WebSocket server of your own: sessions, channels, presence; no gateway and no configuration file."""

import asyncio
import sys

from silence_gateway import HttpServer, NamespaceSettings, RealtimeSettings, SessionHub, open_sockets

SETTINGS = RealtimeSettings(
    anonymous=True,
    origins=("*",),
    namespaces={"": NamespaceSettings(publish=True, join_leave=True)},
)


async def main(listen: str = "127.0.0.1:8000") -> None:
    async with SessionHub(SETTINGS) as hub:
        server = HttpServer(hub.endpoint())
        await server.start(open_sockets([listen], reuse_port=False))
        print(f"clients connect to ws://{listen}{SETTINGS.path}", flush=True)
        try:
            await asyncio.Event().wait()
        finally:
            await server.drain(5)


asyncio.run(main(*sys.argv[1:]))
