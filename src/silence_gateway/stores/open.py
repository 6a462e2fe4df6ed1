"""
Which store an address means.

The only place that chooses. `embedded://` inside one process owns its server; a gateway with several
workers starts one `EmbeddedServer` itself and gives the workers its `valkey+unix://` address.
"""

from __future__ import annotations

from dataclasses import replace

from silence_gateway.clock import Clock, SystemClock
from silence_gateway.errors import StoreUnavailable
from silence_gateway.events import Noticed, Observer, nobody
from silence_gateway.stores.contracts import ScriptPoster, Store
from silence_gateway.stores.embedded import EmbeddedServer
from silence_gateway.stores.memory import MemoryHub, MemoryStore
from silence_gateway.stores.settings import StoreSettings
from silence_gateway.stores.valkey import ValkeyStore


class EmbeddedStore(ValkeyStore):
    """A `ValkeyStore` that brings its own server, and ends it with itself."""

    def __init__(
        self, server: EmbeddedServer, settings: StoreSettings, fleet: str, *, clock: Clock, observer: Observer
    ) -> None:
        super().__init__(replace(settings, url=server.url), fleet, clock=clock, observer=observer)
        self.server = server

    async def start(self) -> None:
        """Start the server, then the store; a server that does not start is a store that is away."""
        try:
            await self.server.start()
        except StoreUnavailable as exc:
            self.observer(Noticed(what=str(exc), loudness="error"))
        await super().start()

    async def stop(self) -> None:
        """Leave, then end the server."""
        await super().stop()
        await self.server.stop()


def open_store(
    settings: StoreSettings, fleet: str, *, clock: Clock | None = None, observer: Observer = nobody
) -> Store:
    """
    Make the store that *settings* name; call `start` on it.

    A store with scripts is a `ValkeyStore`; `MemoryStore` has none, see `scripts_of`.
    """
    clock = clock or SystemClock()
    scheme = settings.address.scheme
    if scheme == "memory":
        return MemoryStore(MemoryHub(clock))
    if scheme == "valkey":
        return ValkeyStore(settings, fleet, clock=clock, observer=observer)
    try:
        server = EmbeddedServer(clock=clock, observer=observer)
    except StoreUnavailable as exc:
        observer(Noticed(what=f"{exc}; state stays in this process (memory://)", loudness="warning"))
        return MemoryStore(MemoryHub(clock))
    return EmbeddedStore(server, settings, fleet, clock=clock, observer=observer)


def scripts_of(store: Store) -> ScriptPoster | None:
    """The hot lane of *store*, or None when it runs no scripts and its callers use their memory twin."""
    return store.scripts if isinstance(store, ValkeyStore) else None
