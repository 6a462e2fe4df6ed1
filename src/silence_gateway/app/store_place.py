"""
Where the processes of one gateway find their store.

`embedded://` is one server for all workers: the process that was started by the user owns it, and
everybody connects to its socket. Every other store is opened by whoever needs it.
"""

from __future__ import annotations

from typing import Self

from silence_gateway.app.config.gateway import GatewayConfig
from silence_gateway.app.engine_settings import store_settings
from silence_gateway.clock import Clock
from silence_gateway.errors import StoreUnavailable
from silence_gateway.events import Noticed, Observer
from silence_gateway.stores.contracts import Store
from silence_gateway.stores.embedded import EmbeddedServer
from silence_gateway.stores.open import open_store

MEMORY = "memory://"


class StorePlace:
    """
    The store of one gateway, for as long as the block runs.

    Attributes:
        url: The address that replaces the configured one, or None where that stands.
        embedded: The server that this process owns, if any.
    """

    def __init__(self, config: GatewayConfig, clock: Clock, observer: Observer) -> None:
        self._config = config
        self._clock = clock
        self._observer = observer
        self.url: str | None = None
        self.embedded: EmbeddedServer | None = None

    @property
    def described(self) -> str:
        """The store in a few words, without secrets."""
        if self.embedded is not None:
            return f"embedded://, a Valkey of our own (pid {self.embedded.pid})"
        return str(self.url or self._config.store.url)

    @property
    def shared(self) -> bool:
        """Whether all processes of this gateway see one state."""
        return self.url != MEMORY and (self.url is not None or self._config.store.url.scheme != "memory")

    async def __aenter__(self) -> Self:
        """Start the embedded server where one is wanted; without any program for it, use memory."""
        if self._config.store.url.scheme != "embedded":
            return self
        try:
            server = EmbeddedServer(clock=self._clock, observer=self._observer)
            self.url = await server.start()
            self.embedded = server
        except StoreUnavailable as exc:
            self.url = MEMORY
            self._observer(Noticed(what=f"{exc}; state stays in each process ({MEMORY})", loudness="warning"))
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """End the embedded server."""
        if self.embedded is not None:
            await self.embedded.stop()

    def open(self) -> Store:
        """Make this process's connection to the store; nothing is started."""
        return open_store_at(self._config, self.url, self._clock, self._observer)


def open_store_at(config: GatewayConfig, url: str | None, clock: Clock, observer: Observer) -> Store:
    """Make a connection to the store of *config*, or to *url* in its place."""
    return open_store(store_settings(config, url), config.name, clock=clock, observer=observer)
