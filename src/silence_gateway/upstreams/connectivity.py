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

    def connectivity_changed(self) -> asyncio.Future[None]:
        """Return what is done as soon as that may have changed, from now on."""


class News:
    """Wakes whoever waits for it; costs nothing while nobody does."""

    def __init__(self) -> None:
        self._waiters: set[asyncio.Future[None]] = set()

    def tell(self) -> None:
        """Wake all who wait."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def wait(self) -> asyncio.Future[None]:
        """Return what is done at the next `tell`, from this call on and not from when it is awaited."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        waiter.add_done_callback(self._waiters.discard)
        return waiter
