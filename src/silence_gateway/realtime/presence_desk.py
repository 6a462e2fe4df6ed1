"""
Answers who is in a channel, fleet-wide, for clients and for the server API.

However many ask about a channel at once, the store is read once at a time: those who come while it is
being read share the next reading, so that each sees at least what had happened when it asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from silence_gateway.core import centrifuge as wire
from silence_gateway.core.centrifuge_codes import INTERNAL
from silence_gateway.errors import StoreFault, StoreUnavailable
from silence_gateway.realtime.recorder import SessionRecorder
from silence_gateway.stores.session_contract import SessionStore

if TYPE_CHECKING:
    from silence_gateway.realtime.connection import Connection

# Clients named in one answer (about 200 KB); how many there are altogether, presence_stats says.
MAX_CLIENTS = 2000

Question: TypeAlias = "tuple[str, bool]"
"""A channel, and whether everybody is to be named (True) or counted."""

Waiter: TypeAlias = Callable[[bytes | None], None]
"""Called with the encoded result, or None if there is none."""


class PresenceDesk:
    """The questions about presence that wait for the store."""

    def __init__(self, store: SessionStore, recorder: SessionRecorder) -> None:
        self.store = store
        self.recorder = recorder
        self.waiting: dict[Question, list[Waiter]] = {}
        self.tasks: dict[Question, asyncio.Task[None]] = {}

    def ask(self, connection: Connection, command_id: int, channel: str, *, whole: bool) -> None:
        """Answer a client's command when the store has answered."""

        def answered(result: bytes | None) -> None:
            if result is None:
                connection.fail(command_id, INTERNAL)
            else:
                connection.answer(command_id, result)

        self.queue((channel, whole), answered)

    async def result(self, channel: str, *, whole: bool) -> bytes:
        """
        Return the encoded result of presence, or of presence_stats.

        Raises:
            StoreUnavailable: The store is away.
        """
        future: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()

        def answered(result: bytes | None) -> None:
            if not future.done():
                future.set_result(result)

        self.queue((channel, whole), answered)
        found = await future
        if found is None:
            raise StoreUnavailable("the session store is away")
        return found

    def queue(self, question: Question, waiter: Waiter) -> None:
        """Have *waiter* called with the next answer to *question*."""
        self.waiting.setdefault(question, []).append(waiter)
        if question not in self.tasks:
            self.start(question)

    def start(self, question: Question) -> None:
        """Begin to read."""
        task = asyncio.get_running_loop().create_task(self.read(question))
        self.tasks[question] = task
        task.add_done_callback(partial(self.ended, question))

    def ended(self, question: Question, task: asyncio.Task[None]) -> None:
        """A reader is done; somebody may have asked since it looked for the last time."""
        del self.tasks[question]
        if task.cancelled():
            for waiter in self.waiting.pop(question, ()):
                waiter(None)
            return
        if question in self.waiting:
            self.start(question)
        task.result()

    async def read(self, question: Question) -> None:
        """Read the store until nobody waits for *question*."""
        while question in self.waiting:
            waiters = self.waiting.pop(question)
            result: bytes | None = None
            try:
                # What was noted before the question must be in the answer.
                await self.recorder.settled()
                result = await self.look(*question)
            except StoreFault:
                result = None
            finally:
                for waiter in waiters:
                    waiter(result)

    async def look(self, channel: str, whole: bool) -> bytes:
        """
        Read the store once.

        Raises:
            StoreUnavailable: The store is away.
        """
        if not whole:
            stats = await self.store.presence_stats(channel)
            return b'{"num_clients":%d,"num_users":%d}' % (stats.clients, stats.users)
        there = await self.store.presence(channel, MAX_CLIENTS)
        entries = (wire.encode_json(client) + b":" + each.info for client, each in there.items())
        return b'{"presence":{' + b",".join(entries) + b"}}"

    def close(self) -> None:
        """Answer nobody any more."""
        for task in list(self.tasks.values()):
            task.cancel()
