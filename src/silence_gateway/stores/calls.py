"""
What travels on a lane: a call, the batch it left in, the script it needs, and who is told how it went.

Data and three-line rules only; sending, matching and deadlines are in `batching.py`.
"""

from __future__ import annotations

import asyncio
import hashlib
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
    """The calls of one loop tick, which share a deadline."""

    __slots__ = ("calls", "due_s", "left")

    def __init__(self, calls: list[Call], due_s: float) -> None:
        self.calls = calls
        self.due_s = due_s
        self.left = len(calls)
        for call in calls:
            call.batch = self


class Call:
    """One command and whoever waits for its reply."""

    __slots__ = ("batch", "done", "packed", "replays", "script")

    def __init__(self, done: asyncio.Future[Any], packed: bytes, script: LoadedScript | None) -> None:
        self.done = done
        self.packed = packed
        self.script = script
        self.batch: Batch | None = None
        self.replays = 0


class LoadedScript:
    """A script as the server knows it."""

    __slots__ = ("error", "load", "loading", "name", "sha")

    def __init__(self, script: Script) -> None:
        self.name = script.name
        self.sha = hashlib.sha1(script.text.encode(), usedforsecurity=False).hexdigest().encode()
        self.load = pack((b"SCRIPT", b"LOAD", script.text))
        self.error = ""
        self.loading = 0


def stopped() -> StoreFault:
    """Why a call after `stop` fails."""
    return StoreUnavailable("this store was stopped")


def fail(done: asyncio.Future[Any], error: StoreFault) -> None:
    """Fail *done*, unless its caller has left; an outcome that nobody awaits is not reported as lost."""
    if not done.done():
        done.set_exception(error)
        done.exception()
