"""
The fleet's register: every instance says on the board who it is, so that any of them can list all.

How many are alive is counted by the store itself (`Store.live_instances`); this is for people.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import socket
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from silence_gateway.clock import Clock
from silence_gateway.errors import StoreFault
from silence_gateway.periodic import Periodic
from silence_gateway.stores.contracts import Store

ROOM = "nodes"
SAY_EVERY_S = 5.0
# Three times not heard and a bit: then an instance is taken off the list.
TTL_S = 17.0
MAX_BYTES = 2048


class Register:
    """Says who this instance is, again and again, and reads who the others are."""

    def __init__(self, store: Store, clock: Clock, *, listen: str, digest: str) -> None:
        self._store = store
        self._clock = clock
        self._facts = {
            "id": store.instance_id,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "listen": listen,
            "version": version("silence-gateway"),
            "python": platform.python_version(),
            "config": digest,
            "started_us": clock.now_us(),
        }
        self._others: Mapping[str, bytes] = {}
        self._saying = Periodic(clock, SAY_EVERY_S, self._say, at_once=True)

    def start(self) -> None:
        """Begin to say who this is and to hear of the others."""
        self._others = self._store.board.watch(ROOM)
        self._saying.start()

    async def stop(self) -> None:
        """Take this instance off the list."""
        if not self._saying.started:
            return
        await self._saying.stop()
        with contextlib.suppress(StoreFault):
            # A store that is away forgets us by itself when the time to live is over.
            await self._store.board.remove(ROOM, self._store.instance_id)

    async def _say(self) -> None:
        with contextlib.suppress(StoreFault):
            # The board keeps it here and writes it when the store is back.
            await self._store.board.put(
                ROOM, self._store.instance_id, json.dumps(self._facts).encode(), TTL_S
            )

    def nodes(self) -> list[dict[str, Any]]:
        """Return what every live instance says of itself; what cannot be read is left out."""
        found = []
        for value in self._others.values():
            if len(value) > MAX_BYTES:
                continue
            try:
                facts = json.loads(value)
            except ValueError:
                continue
            if isinstance(facts, dict):
                found.append(facts)
        return sorted(found, key=lambda facts: str(facts.get("id", "")))
