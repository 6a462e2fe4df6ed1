"""
What travels on a lane: a call, the batch it left in, the script it needs, and who is told how it went.

Data and three-line rules only; sending, matching and deadlines are in `batching.py`.
"""

from __future__ import annotations

import asyncio
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

from silence_gateway.core.store_failover import Fault
from silence_gateway.errors import StoreFault, StoreUnavailable
from silence_gateway.stores.client import pack
from silence_gateway.stores.contracts import Script


class Watcher(Protocol):
    """Who wants to know how calls went."""

    def call_succeeded(self) -> None:
        """Answers arrived in time."""

    def call_failed(self, fault: Fault, reason: str) -> None:
        """Something went wrong; said once per lost connection, late batch, or refusing reply."""


class Batch:
    """
    The calls of one loop tick, which share a deadline.

    Attributes:
        left: Calls that have not been answered.
        sent: Whether any of them has been written to a connection.
    """

    __slots__ = ("calls", "due_s", "left", "sent")

    def __init__(self, calls: list[Call], due_s: float) -> None:
        self.calls = calls
        self.due_s = due_s
        self.left = len(calls)
        self.sent = False
        for call in calls:
            call.batch = self


class Call(ABC):
    """
    One command, and whoever waits for its reply; they hear exactly once how it went.

    Attributes:
        moves: How often another server was said to have the key.
        asking: Whether the server that is asked lets it in only when told that another has sent it.
    """

    __slots__ = ("asking", "batch", "moves", "packed", "replays", "script")

    def __init__(self, packed: bytes, script: LoadedScript | None) -> None:
        self.packed = packed
        self.script = script
        self.batch: Batch | None = None
        self.replays = 0
        self.moves = 0
        self.asking = False

    def leave_batch(self) -> None:
        """Its batch waits for it no more; harmless if it has none."""
        if self.batch is not None:
            self.batch.left -= 1
            self.batch = None

    @abstractmethod
    def gone(self) -> bool:
        """Whether nobody waits any more."""

    @abstractmethod
    def answer(self, reply: Any) -> None:
        """Hand over the reply."""

    @abstractmethod
    def fail(self, error: StoreFault) -> None:
        """Say that there will be no reply."""


class Awaited(Call):
    """A call whose reply is awaited; its caller may leave."""

    __slots__ = ("done",)

    def __init__(self, packed: bytes, script: LoadedScript | None, done: asyncio.Future[Any]) -> None:
        super().__init__(packed, script)
        self.done = done

    def gone(self) -> bool:
        """Whether the caller has left or has been answered."""
        return self.done.done()

    def answer(self, reply: Any) -> None:
        """Hand over the reply."""
        if not self.done.done():
            self.done.set_result(reply)

    def fail(self, error: StoreFault) -> None:
        """Fail the future, unless its caller has left."""
        fail(self.done, error)


class Posted(Call):
    """A call whose reply goes to a function: a batch of decisions needs no task and no future for itself."""

    __slots__ = ("heard", "on_answer", "on_failure")

    def __init__(
        self,
        packed: bytes,
        script: LoadedScript | None,
        on_answer: Callable[[Any], None],
        on_failure: Callable[[StoreFault], None],
    ) -> None:
        super().__init__(packed, script)
        self.on_answer = on_answer
        self.on_failure = on_failure
        self.heard = False

    def gone(self) -> bool:
        """Whether one of the functions has been called."""
        return self.heard

    def answer(self, reply: Any) -> None:
        """Call `on_answer`, if nothing was said yet."""
        if not self.heard:
            self.heard = True
            self.on_answer(reply)

    def fail(self, error: StoreFault) -> None:
        """Call `on_failure`, if nothing was said yet."""
        if not self.heard:
            self.heard = True
            self.on_failure(error)


class LoadedScript:
    """A script as the server knows it."""

    __slots__ = ("error", "load", "loading", "name", "sha")

    def __init__(self, script: Script) -> None:
        self.name = script.name
        self.sha = hashlib.sha1(script.text.encode(), usedforsecurity=False).hexdigest().encode()
        self.load = pack((b"SCRIPT", b"LOAD", script.text))
        self.error = ""
        self.loading = 0


class ScriptBook:
    """
    The scripts that were called on a lane, and which of them its server knows.

    Attributes:
        on_server: Digests of those that were sent to the server, on this connection.
    """

    __slots__ = ("known", "on_server")

    def __init__(self) -> None:
        self.known: dict[str, LoadedScript] = {}
        self.on_server: set[bytes] = set()

    def find(self, script: Script) -> LoadedScript:
        """Return what is known about *script*."""
        loaded = self.known.get(script.text)
        if loaded is None:
            loaded = self.known[script.text] = LoadedScript(script)
        return loaded

    def load(self, script: LoadedScript) -> bytes:
        """Return the bytes that load *script*; they are sent now, and its reply is owed."""
        self.on_server.add(script.sha)
        script.loading += 1
        return script.load

    def begin_anew(self) -> list[LoadedScript]:
        """There is a new connection: return what is loaded on it first."""
        self.on_server = {script.sha for script in self.known.values()}
        for script in self.known.values():
            script.loading = 1
        return list(self.known.values())


def stopped() -> StoreFault:
    """Why a call after `stop` fails."""
    return StoreUnavailable("this store was stopped")


def fail(done: asyncio.Future[Any], error: StoreFault) -> None:
    """Fail *done*, unless its caller has left; an outcome that nobody awaits is not reported as lost."""
    if not done.done():
        done.set_exception(error)
        done.exception()
