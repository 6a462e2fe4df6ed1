"""The stock Python client (pip install centrifuge-python): subscribe, publish, print what comes."""

import asyncio
import sys

from centrifuge import Client, PublicationContext, SubscriptionEventHandler


class Printer(SubscriptionEventHandler):
    async def on_publication(self, ctx: PublicationContext) -> None:
        print(ctx.pub.data, flush=True)


async def main(url: str = "ws://127.0.0.1:8080/connection/websocket") -> None:
    client = Client(url)
    await client.connect()
    news = client.new_subscription("news", events=Printer())
    await news.subscribe()
    await news.ready()
    await news.publish({"text": "hello from Python"})
    await asyncio.sleep(60)
    await client.disconnect()


asyncio.run(main(*sys.argv[1:]))
