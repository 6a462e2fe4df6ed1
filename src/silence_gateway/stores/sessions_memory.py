"""
Sessions in this process only: the reference for `sessions_valkey.py`, and the store of one instance.

Hubs given the same `MemorySessions` share it, as instances of a fleet share one Valkey; `away` makes it
behave as one that does not answer. Nothing awaits between a read and its write, so there are no locks.
Leases are looked at when something is asked, and swept when a channel or index is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from silence_gateway.clock import Clock, SystemClock
from silence_gateway.errors import StoreUnavailable
from silence_gateway.stores.session_contract import (
    InstanceRecord,
    Presence,
    PresenceStats,
    SessionPage,
    SessionRecord,
)


class MemorySessions:
    """A `SessionStore` made of dictionaries."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        self.away = False
        self.records: dict[str, tuple[SessionRecord, float]] = {}
        self.users: dict[str, set[str]] = {}
        self.held: dict[str, set[str]] = {}
        self.channels: dict[str, dict[str, tuple[Presence, float]]] = {}
        self.beats: dict[str, tuple[float, bytes]] = {}

    def now_s(self) -> float:
        """
        Return the store's time.

        Raises:
            StoreUnavailable: The store was taken away by a test.
        """
        if self.away:
            raise StoreUnavailable("the memory sessions were taken away")
        return self.clock.monotonic_s()

    async def write(self, records: Sequence[SessionRecord], ttl_s: float) -> None:
        """Write these sessions for *ttl_s* seconds."""
        due_s = self.now_s() + ttl_s
        for record in records:
            self.records[record.id] = (record, due_s)
            self.held.setdefault(record.instance, set()).add(record.id)
            if record.user:
                self.users.setdefault(record.user, set()).add(record.id)

    async def remove(self, records: Sequence[SessionRecord]) -> None:
        """Forget these sessions."""
        self.now_s()
        for record in records:
            self.records.pop(record.id, None)
            take_out(self.held, record.instance, record.id)
            take_out(self.users, record.user, record.id)

    async def join(self, channel: str, clients: Mapping[str, Presence], lease_s: float) -> None:
        """Note that these clients are in *channel* for *lease_s* seconds."""
        now_s = self.now_s()
        there = self.channels.setdefault(channel, {})
        for client in [client for client, (_, due_s) in there.items() if due_s <= now_s]:
            del there[client]
        for client, presence in clients.items():
            there[client] = (presence, now_s + lease_s)

    async def leave(self, channel: str, clients: Sequence[str]) -> None:
        """Note that these clients have left *channel*."""
        self.now_s()
        there = self.channels.get(channel)
        if there is None:
            return
        for client in clients:
            there.pop(client, None)
        if not there:
            del self.channels[channel]

    async def presence(self, channel: str, limit: int) -> dict[str, Presence]:
        """Return who is in *channel*."""
        now_s = self.now_s()
        there = self.channels.get(channel, {})
        alive = [(client, presence) for client, (presence, due_s) in there.items() if due_s > now_s]
        return dict(alive[:limit])

    async def presence_stats(self, channel: str) -> PresenceStats:
        """Return how many are in *channel*."""
        alive = await self.presence(channel, len(self.channels.get(channel, {})))
        return PresenceStats(len(alive), len({presence.user for presence in alive.values()}))

    async def get(self, session_id: str) -> SessionRecord | None:
        """Return one session, or None."""
        now_s = self.now_s()
        record, due_s = self.records.get(session_id, (None, 0.0))
        return record if due_s > now_s else None

    async def list_by_user(self, user: str, cursor: str, limit: int) -> SessionPage:
        """Return sessions of *user* with ids above *cursor*."""
        return await self.page(self.users.get(user, ()), cursor, limit)

    async def list_by_instance(self, instance: str, cursor: str, limit: int) -> SessionPage:
        """Return sessions of *instance* with ids above *cursor*."""
        return await self.page(self.held.get(instance, ()), cursor, limit)

    async def page(self, ids: Iterable[str], cursor: str, limit: int) -> SessionPage:
        """Return the sessions behind the first *limit* ids above *cursor*."""
        after = sorted(each for each in ids if each > cursor)
        found = [await self.get(each) for each in after[:limit]]
        following = after[limit - 1] if len(after) > limit else ""
        return SessionPage(tuple(record for record in found if record is not None), following)

    async def beat(self, instance: str, lease_s: float, info: bytes) -> bool:
        """Say that *instance* is alive; False if it was given up or never known."""
        now_s = self.now_s()
        known = self.beats.get(instance, (0.0, b""))[0] > now_s
        self.beats[instance] = (now_s + lease_s, info)
        return known

    async def instances(self) -> tuple[InstanceRecord, ...]:
        """Return every instance that is alive or has something left to sweep."""
        now_s = self.now_s()
        return tuple(
            InstanceRecord(name, due_s > now_s, len(self.held.get(name, ())), info)
            for name, (due_s, info) in sorted(self.beats.items())
        )

    async def forget_instance(self, instance: str) -> None:
        """Take *instance* off the list."""
        self.now_s()
        self.beats.pop(instance, None)


def take_out(index: dict[str, set[str]], name: str, session_id: str) -> None:
    """Remove one id from an index, and the entry with its last id."""
    ids = index.get(name)
    if ids is not None:
        ids.discard(session_id)
        if not ids:
            del index[name]
