"""A little traffic, so that there is something to see: a few requests a second over real sockets."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter

from silence_gateway.edge.problems import MAY_HAVE_RUN

PAUSE_S = 0.2
ANSWER_DEADLINE_S = 10.0

# One order in five meets the demo's limit sooner or later, which is the point.
REQUESTS: tuple[tuple[str, str, bytes], ...] = (
    ("GET", "/v1/drinks?max_price_cents=400&tags=hot", b""),
    ("GET", "/v1/drinks/latte", b""),
    ("POST", "/v1/orders", b'{"drink":"flat-white","size":"LARGE","quantity":2}'),
    ("GET", "/v1/orders/flat-white-L2", b""),
    ("GET", "/v1/drinks/tea", b""),
)


class Trickle:
    """
    Sends the requests above in turn until cancelled.

    Attributes:
        statuses: How often each HTTP status was answered; 0 stands for no answer.
        orders_lost: Of the 503s, orders that a replica had when it was killed. It may have placed them, so
            the gateway does not send them again; everything else that is asked here it does.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.statuses: Counter[int] = Counter()
        self.orders_lost = 0

    async def run(self) -> None:
        """Send requests for ever; cancelling it is how it ends."""
        for method, target, body in itertools.cycle(REQUESTS):
            status, answer = await self.ask(method, target, body)
            self.count(method, status, answer)
            await asyncio.sleep(PAUSE_S)

    def count(self, method: str, status: int, answer: bytes) -> None:
        """Count what came of one request."""
        self.statuses[status] += 1
        self.orders_lost += method == "POST" and status == 503 and MAY_HAVE_RUN.encode() in answer

    async def ask(self, method: str, target: str, body: bytes) -> tuple[int, bytes]:
        """Send one request on a connection of its own; returns HTTP status (0: none) and answer."""
        try:
            async with asyncio.timeout(ANSWER_DEADLINE_S):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                try:
                    head = (
                        f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nConnection: close\r\n"
                        "User-Agent: silence-demo\r\nContent-Type: application/json\r\n"
                        f"Content-Length: {len(body)}\r\n\r\n"
                    )
                    writer.write(head.encode() + body)
                    answer = await reader.read(-1)
                finally:
                    writer.close()
            return int(answer.split(b" ", 2)[1]), answer
        except (OSError, TimeoutError, ValueError, IndexError):
            return 0, b""
