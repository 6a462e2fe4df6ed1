"""
Writes sessions and presence to the store, off the path of every message.

What changed is noted in dictionaries and written in one go by one task; what changes meanwhile goes
with the next one. A store that is away costs nothing but memory bounded by the number of sessions: the
notes stay, and are tried again every second. When the fleet had given this instance up (`beat`), or
the store has lost its memory, everything is noted again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from silence_gateway.clock import Clock
from silence_gateway.core.session import Session
from silence_gateway.errors import StoreFault, StoreUnavailable
from silence_gateway.realtime.settings import RealtimeSettings
from silence_gateway.realtime.statistics import RealtimeStatistics
from silence_gateway.stores.session_contract import Presence, SessionRecord, SessionStore

if TYPE_CHECKING:
    from silence_gateway.realtime.connection import Connection

# Sessions written in one go: about 1.5 ms of the server, which limits and other callers wait for behind them.
CHUNK = 128
RETRY_S = 1.0
# Sessions that ended while the store was away; beyond it, their records end with their time to live.
MAX_GONE = 50_000


Item = TypeVar("Item")


class Notes:
    """What is to be written."""

    __slots__ = ("gone", "joins", "leaves", "sessions", "waiters")

    def __init__(self) -> None:
        self.sessions: dict[str, Connection] = {}
        self.gone: dict[str, SessionRecord] = {}
        self.joins: dict[str, dict[str, Presence]] = {}
        self.leaves: dict[str, dict[str, None]] = {}
        self.waiters: list[asyncio.Future[None]] = []

    def __bool__(self) -> bool:
        """Whether there is anything to write."""
        return bool(self.sessions or self.gone or self.joins or self.leaves)


class SessionRecorder:
    """The notes of one hub, and the task that writes them."""

    def __init__(
        self,
        store: SessionStore,
        settings: RealtimeSettings,
        clock: Clock,
        statistics: RealtimeStatistics,
        describe: Callable[[Connection], SessionRecord],
    ) -> None:
        self.store = store
        self.settings = settings
        self.clock = clock
        self.statistics = statistics
        self.describe = describe
        self.notes = Notes()
        self.wanted = asyncio.Event()
        self.writing = False
        self.behind = False

    # Noting: called all the time, does nothing but remember.

    def note(self, connection: Connection) -> None:
        """A session is new or has changed."""
        self.notes.sessions[connection.session.client] = connection
        self.wanted.set()

    def note_gone(self, record: SessionRecord) -> None:
        """A session has ended."""
        self.notes.sessions.pop(record.id, None)
        if len(self.notes.gone) < MAX_GONE:
            self.notes.gone[record.id] = record
        self.wanted.set()

    def note_join(self, channel: str, client: str, presence: Presence) -> None:
        """A client is in *channel*."""
        self.notes.joins.setdefault(channel, {})[client] = presence
        leaves = self.notes.leaves.get(channel)
        if leaves is not None:
            leaves.pop(client, None)
        self.wanted.set()

    def note_leave(self, channel: str, client: str) -> None:
        """A client has left *channel*."""
        joins = self.notes.joins.get(channel)
        if joins is not None:
            joins.pop(client, None)
        self.notes.leaves.setdefault(channel, {})[client] = None
        self.wanted.set()

    # Writing

    async def settled(self) -> None:
        """
        Return when everything noted before has been written.

        Raises:
            StoreUnavailable: It could not be written; it will be later.
        """
        if not self.notes and not self.writing:
            return
        if self.behind:
            raise StoreUnavailable("the session store is away")
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.notes.waiters.append(waiter)
        self.wanted.set()
        await waiter

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self.wanted.wait()
            self.wanted.clear()
            if not await self.write_notes():
                await self.clock.sleep(RETRY_S)
                self.wanted.set()

    async def write_notes(self) -> bool:
        """Write what is noted; False, with the notes back in place, if the store did not take it."""
        taken, self.notes = self.notes, Notes()
        self.writing = True
        error: StoreFault | None = None
        try:
            await self.write(taken)
        except StoreFault as fault:
            error = fault
            self.statistics.store_failures += 1
            self.put_back(taken)
        finally:
            self.writing = False
        self.behind = error is not None
        for waiter in taken.waiters:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)
        return error is None

    async def write(self, taken: Notes) -> None:
        """
        Write *taken*.

        Raises:
            StoreUnavailable: Some of it may not have been written; writing it again is harmless.
        """
        store, settings = self.store, self.settings
        for records in chunks(taken.gone.values()):
            await store.remove(records)
        for connections in chunks(taken.sessions.values()):
            live = [self.describe(each) for each in connections if not each.session.over]
            await store.write(live, settings.session_ttl_s)
        for leaves in chunks([(name, list(ids)) for name, ids in taken.leaves.items() if ids]):
            await asyncio.gather(*(store.leave(name, ids) for name, ids in leaves))
        for joins in chunks([(name, clients) for name, clients in taken.joins.items() if clients]):
            await asyncio.gather(
                *(store.join(name, clients, settings.presence_ttl_s) for name, clients in joins)
            )

    def put_back(self, taken: Notes) -> None:
        """Note again what was not written, except where something newer has been noted."""
        for record in taken.gone.values():
            if len(self.notes.gone) < MAX_GONE:
                self.notes.gone.setdefault(record.id, record)
        for client, connection in taken.sessions.items():
            if client not in self.notes.gone:
                self.notes.sessions.setdefault(client, connection)
        for channel, clients in taken.joins.items():
            newer = self.notes.leaves.get(channel, {})
            here = self.notes.joins.setdefault(channel, {})
            for client, presence in clients.items():
                if client not in newer:
                    here.setdefault(client, presence)
        for channel, left in taken.leaves.items():
            newer_joins = self.notes.joins.get(channel, {})
            gone = self.notes.leaves.setdefault(channel, {})
            for client in left:
                if client not in newer_joins and len(gone) < MAX_GONE:
                    gone[client] = None


def chunks(items: Iterable[Item]) -> Iterable[list[Item]]:
    """Return *items* in lists of at most CHUNK."""
    everything = list(items)
    return (everything[at : at + CHUNK] for at in range(0, len(everything), CHUNK))


def presence_of(session: Session) -> Presence:
    """Return how others see a client that is in a channel."""
    assert session.identity is not None
    return Presence(session.identity.user, session.info)
