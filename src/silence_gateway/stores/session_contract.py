"""
What the realtime hub may ask of a session store, and what it may rely on.

Two implementations keep these promises: `sessions_memory.py` (the reference) and `sessions_valkey.py`.
The store says who is connected where; it is never asked while a publication is delivered. A session
belongs to one instance, which rewrites it well within its time to live; what a killed instance leaves
behind is found through `instances` and removed by the sweep (`realtime/sweep.py`).

Nothing is promised across several records: an index may name a session for a moment after it has gone,
so a reader skips what it does not find. Every call raises StoreUnavailable instead of being late.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRecord:
    """
    One session as the fleet sees it.

    Attributes:
        id: The client id, unique in the fleet.
        instance: Which instance holds the connection.
        user: Empty for an anonymous client.
        authenticated: Whether a token was verified.
        connected_us: When it connected, microseconds since the epoch.
        seen_us: When this record was written, microseconds since the epoch.
        expires_us: When its token runs out, microseconds since the epoch; 0 for never.
        name: What the client calls itself.
        version: The version the client says it has.
        channels: Its subscriptions.
        commands: How many commands it sent so far.
    """

    id: str
    instance: str
    user: str = ""
    authenticated: bool = False
    connected_us: int = 0
    seen_us: int = 0
    expires_us: int = 0
    name: str = ""
    version: str = ""
    channels: tuple[str, ...] = ()
    commands: int = 0


@dataclass(frozen=True, slots=True)
class Presence:
    """
    Somebody in a channel.

    Attributes:
        user: Who; empty for an anonymous client.
        info: The client as others see it, encoded JSON.
    """

    user: str
    info: bytes


@dataclass(frozen=True, slots=True)
class PresenceStats:
    """How many clients, and how many different users, are in a channel."""

    clients: int
    users: int


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Some sessions in the order of their ids; *cursor* asks for the next page, empty at the end."""

    sessions: tuple[SessionRecord, ...]
    cursor: str


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """
    One instance that holds, or held, sessions.

    Attributes:
        id: Its name in the fleet.
        alive: Whether its heartbeat is younger than the time it gave.
        sessions: How many sessions are written down for it.
        info: What it last said about itself, encoded JSON.
    """

    id: str
    alive: bool
    sessions: int
    info: bytes


class SessionStore(Protocol):
    """Sessions, users, presence and the instances that hold them."""

    async def write(self, records: Sequence[SessionRecord], ttl_s: float) -> None:
        """Write these sessions, and find them by user and by instance, for *ttl_s* seconds from now."""

    async def remove(self, records: Sequence[SessionRecord]) -> None:
        """Forget these sessions; harmless where there is none. Only id, user and instance are looked at."""

    async def join(self, channel: str, clients: Mapping[str, Presence], lease_s: float) -> None:
        """Note that these clients (by id) are in *channel* for *lease_s* seconds from now."""

    async def leave(self, channel: str, clients: Sequence[str]) -> None:
        """Note that these clients have left *channel*; harmless if they were not in it."""

    async def presence(self, channel: str, limit: int) -> dict[str, Presence]:
        """Return who is in *channel*: client id to presence, at most *limit* of them, in no order."""

    async def presence_stats(self, channel: str) -> PresenceStats:
        """Return how many are in *channel*."""

    async def get(self, session_id: str) -> SessionRecord | None:
        """Return one session, or None."""

    async def list_by_user(self, user: str, cursor: str, limit: int) -> SessionPage:
        """Return sessions of *user* with ids above *cursor*."""

    async def list_by_instance(self, instance: str, cursor: str, limit: int) -> SessionPage:
        """Return sessions of *instance* with ids above *cursor*."""

    async def beat(self, instance: str, lease_s: float, info: bytes) -> bool:
        """
        Say that *instance* is alive for *lease_s* seconds from now.

        Returns False if the fleet had given it up or never knew it: its sessions may have been removed
        and it must write all of them again.
        """

    async def instances(self) -> tuple[InstanceRecord, ...]:
        """Return every instance that is alive or has something left to sweep."""

    async def forget_instance(self, instance: str) -> None:
        """Take *instance* off the list; for its own stop, and when nothing of it is left."""
