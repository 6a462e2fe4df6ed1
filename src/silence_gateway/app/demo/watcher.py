"""
What happens inside worker processes, for a demo that runs several: seen from outside, as an operator does.

One process tells the demo's report itself. Workers cannot, and would all tell the same; so their admin
listener is asked a few times a second, and what has changed is told once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from silence_gateway.app.admin_client import AdminClient
from silence_gateway.app.fleet_tables import items
from silence_gateway.errors import GatewayError
from silence_gateway.events import EndpointDown, EndpointUp, Event, StoreFound, StoreLost

LOOK_EVERY_S = 0.25
WAITING = "waiting"
OUT = "out"


class Watcher:
    """Asks the admin API of *port* until cancelled, and tells *report* what has changed."""

    def __init__(self, port: int, report: Callable[[Event], None]) -> None:
        self._admin = AdminClient(f"http://127.0.0.1:{port}", "", 2.0)
        self._report = report
        self._lost_s: float | None = None
        self._out: set[str] = set()

    async def run(self) -> None:
        """Look, again and again; cancelling it is how it ends."""
        while True:
            try:
                _, word = await asyncio.to_thread(self._admin.ask, "GET", "/readyz")
                upstreams = await asyncio.to_thread(self._admin.ask_json, "GET", "/api/v1/upstreams")
            except GatewayError:
                # It is starting or stopping: there is nothing to compare with.
                pass
            else:
                self.store_is(word.strip() != b"degraded", time.monotonic())
                for upstream in items(upstreams):
                    for endpoint in items(upstream.get("endpoints")):
                        self.endpoint_is(
                            str(upstream.get("name")),
                            str(endpoint.get("address")),
                            str(endpoint.get("state")),
                            str(endpoint.get("reason")),
                        )
            await asyncio.sleep(LOOK_EVERY_S)

    def store_is(self, up: bool, now_s: float) -> None:
        """Tell if the store has gone or come back since the last look."""
        if not up and self._lost_s is None:
            self._lost_s = now_s
            self._report(StoreLost(reason="the workers say so"))
        elif up and self._lost_s is not None:
            self._report(StoreFound(down_s=now_s - self._lost_s))
            self._lost_s = None

    def endpoint_is(self, upstream: str, address: str, state: str, reason: str) -> None:
        """Tell if an endpoint has gone or come back since the last look; one that connects is neither."""
        if state == OUT and address not in self._out:
            self._out.add(address)
            self._report(EndpointDown(upstream=upstream, endpoint=address, reason=reason))
        elif state not in {OUT, WAITING} and address in self._out:
            self._out.discard(address)
            self._report(EndpointUp(upstream=upstream, endpoint=address))
