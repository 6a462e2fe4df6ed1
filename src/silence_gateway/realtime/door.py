"""
The hub as a library: sessions and channels in any asyncio program.

    async with SessionHub(RealtimeSettings(anonymous=True)) as hub:
        hub.subscribe("news", print)
        await hub.ready("news")
        await hub.publish("news", {"text": "hello"})

WebSockets are served by whatever serves them in that program: for each connection take
`hub.listener_for()` and call it as `core.sockets.SocketListener` says, or give `hub.endpoint()` to this
package's own HTTP server. Without a store the hub is alone; hubs with stores of one fleet are one.
"""

from __future__ import annotations

from random import Random
from typing import Self

from silence_gateway.clock import Clock, SystemClock
from silence_gateway.core.http import Handler
from silence_gateway.events import Observer, nobody
from silence_gateway.realtime.endpoint import websocket_endpoint
from silence_gateway.realtime.hub import RealtimeHub
from silence_gateway.realtime.server_api import server_api
from silence_gateway.realtime.settings import RealtimeSettings
from silence_gateway.realtime.tokens import Verifier
from silence_gateway.stores.contracts import Store
from silence_gateway.stores.memory import MemoryHub, MemoryStore
from silence_gateway.stores.session_contract import SessionStore
from silence_gateway.stores.sessions_memory import MemorySessions
from silence_gateway.stores.sessions_valkey import ValkeySessions
from silence_gateway.stores.valkey import ValkeyStore


class SessionHub(RealtimeHub):
    """
    A `RealtimeHub` with its store, to be used as an async context manager.

    Args:
        settings: How sessions behave; by default clients need a token, and none is believed.
        store: Started and stopped with the hub; by default one in this process.
        sessions: Where sessions are written to; a `ValkeyStore` brings its own, any other *store* needs
            one that is shared as widely as it is.
        clock: The only clock.
        observer: Told what an operator should know.
        rng: Spreads the first pings.
        verifier: Believes tokens.

    Raises:
        ValueError: A *store* came without its *sessions*, or the other way round.
    """

    def __init__(
        self,
        settings: RealtimeSettings | None = None,
        *,
        store: Store | None = None,
        sessions: SessionStore | None = None,
        clock: Clock | None = None,
        observer: Observer = nobody,
        rng: Random | None = None,
        verifier: Verifier | None = None,
    ) -> None:
        if isinstance(store, ValkeyStore) and sessions is None:
            sessions = ValkeySessions(store.general, store.fleet, compress_over=store.settings.compress_over)
        if (store is None) != (sessions is None):
            raise ValueError("give both a store and its sessions, or neither")
        clock = clock or SystemClock()
        self.fleet_store: Store = store or MemoryStore(MemoryHub(clock))
        super().__init__(
            settings or RealtimeSettings(),
            sessions=sessions or MemorySessions(clock),
            bus=self.fleet_store.bus,
            board=self.fleet_store.board,
            instance_id=self.fleet_store.instance_id,
            clock=clock,
            observer=observer,
            rng=rng,
            verifier=verifier,
        )

    async def __aenter__(self) -> Self:
        """Start the store and the hub."""
        await self.fleet_store.start()
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Say goodbye to every client, then stop."""
        await self.stop()
        await self.fleet_store.stop()

    def endpoint(self) -> Handler:
        """Return the handler that turns a request into a WebSocket of this hub."""
        return websocket_endpoint(self)

    def server_api(self) -> Handler:
        """Return the handler of `/api/`."""
        return server_api(self)
