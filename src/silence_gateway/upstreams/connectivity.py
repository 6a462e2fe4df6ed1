"""What a call to an upstream can hope for, and waiting until that may have changed."""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import Protocol, runtime_checkable


class Connectivity(Enum):
    """What a call can hope for, in the words of grpcio's `ChannelConnectivity`."""

    IDLE = "not started"
    CONNECTING = "a connection is on its way"
    READY = "there is a place"
    TRANSIENT_FAILURE = "nobody can take it now"
    SHUTDOWN = "stopped for good"


@runtime_checkable
class KnowsConnectivity(Protocol):
    """A `Caller` that knows what a call can hope for; a pool is one."""

    @property
    def connectivity(self) -> Connectivity:
        """What a call can hope for now."""

    async def connectivity_changed(self) -> None:
        """Wait until that may have changed."""


class News:
    """Wakes whoever waits for it; costs nothing while nobody does."""

    def __init__(self) -> None:
        self._waiters: list[asyncio.Future[None]] = []

    def tell(self) -> None:
        """Wake all who wait."""
        if self._waiters:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
            self._waiters.clear()

    async def wait(self) -> None:
        """Wait for the next `tell`."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
