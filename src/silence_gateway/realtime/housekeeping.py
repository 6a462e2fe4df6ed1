"""
What a hub does by itself: pings, expiry, tidying, refreshing what the store knows, beating, sweeping.

One timer for all connections: a timing wheel hands out those whose session wants to look at the time.
Records and presence are refreshed a little in every tick, so that the store sees an even load.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from silence_gateway.clock import Timer
from silence_gateway.core.timing_wheel import TimingWheel
from silence_gateway.errors import StoreFault
from silence_gateway.realtime.connection import Connection
from silence_gateway.realtime.recorder import presence_of
from silence_gateway.realtime.sweep import sweep

if TYPE_CHECKING:
    from silence_gateway.realtime.hub import RealtimeHub

TICK_S = 0.25
BEATS_PER_LEASE = 3.3


class Housekeeper:
    """The clockwork of one hub."""

    def __init__(self, hub: RealtimeHub) -> None:
        self.hub = hub
        self.wheel: TimingWheel[Connection] = TimingWheel(round(TICK_S * 1_000_000))
        self.to_refresh: Iterator[Callable[[], None]] = iter(())
        self.timer: Timer | None = None

    def stop(self) -> None:
        """Tick no more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def tick(self) -> None:
        """Look at everything that is due."""
        self.timer = self.hub.clock.call_later(TICK_S, self.tick)
        now_us = self.hub.now_us()
        for connection in self.wheel.due(now_us):
            session = connection.session
            # An entry that was overtaken by an earlier one finds itself in the future and is dropped.
            if session.over or connection.scheduled_us > now_us:
                continue
            connection.tick(now_us)
            if not session.over:
                self.schedule(connection)
        self.hub.channels.tidy()
        self.refresh()

    def schedule(self, connection: Connection) -> None:
        """Have *connection* looked at when its session wants it."""
        connection.scheduled_us = connection.session.next_us
        if connection.scheduled_us:
            self.wheel.put(connection, connection.scheduled_us)

    def refresh(self) -> None:
        """Note a share of all sessions and presence, so that each is written once per `refresh_s`."""
        share = (
            (len(self.hub.connections) + len(self.hub.channels.channels))
            * TICK_S
            / self.hub.settings.refresh_s
        )
        for _ in range(int(share) + 1):
            note = next(self.to_refresh, None)
            if note is None:
                self.to_refresh = self.everything()
                return
            note()

    def everything(self) -> Iterator[Callable[[], None]]:
        """Return one call for every session and channel that is here now."""
        for connection in list(self.hub.connections.values()):
            yield partial(self.note_session, connection)
        for name in list(self.hub.channels.channels):
            yield partial(self.note_presence, name)

    def note_session(self, connection: Connection) -> None:
        """Have a session's record written again."""
        if not connection.session.over:
            self.hub.recorder.note(connection)

    def note_presence(self, name: str) -> None:
        """Confirm everybody of this instance in *name*."""
        channel = self.hub.channels.channels.get(name)
        if channel is not None and self.hub.namespace(name).presence:
            for connection in channel.sockets.values():
                self.hub.recorder.note_join(name, connection.session.client, presence_of(connection.session))

    async def run(self) -> None:
        """Beat, and sweep when it is this instance's turn."""
        hub = self.hub
        lease_s = hub.settings.instance_ttl_s
        unknown_s = hub.clock.monotonic_s()
        while True:
            try:
                if not await hub.store.beat(hub.instance_id, lease_s, hub.directory.describe_instance()):
                    unknown_s = hub.clock.monotonic_s()
                    hub.statistics.resyncs += 1
                    for note in self.everything():
                        note()
                # Who was away, with the store or alone, cannot tell the dead from those who have not
                # had time to speak up again: it gives them a whole lease.
                if hub.clock.monotonic_s() - unknown_s >= lease_s:
                    hub.statistics.swept += await sweep(hub.store, hub.board, lease_s, hub.on_swept)
            except StoreFault:
                # The store's own observer has told; the next beat finds out what was missed.
                hub.statistics.store_failures += 1
            await hub.clock.sleep(lease_s / BEATS_PER_LEASE)
