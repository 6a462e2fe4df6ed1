"""
What the rest of the gateway may ask of a store, and what it may rely on.

Two implementations keep these promises: memory (one process; the reference) and Valkey or Redis (the
fleet). Every call on the request path is bounded by the store's own deadline and raises
StoreUnavailable instead of being late. Every callback runs on the event loop.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from silence_gateway.errors import StoreFault


@dataclass(frozen=True, slots=True)
class Script:
    """
    A Lua script by name and text.

    Scripts declare every key they touch, set a TTL on every key they write, use the server's TIME and
    integer microseconds only, and return integers, bulk strings, or lists of them.
    """

    name: str
    text: str


class ScriptRunner(Protocol):
    """The hot path into Valkey: every call of one loop tick travels in one trip."""

    def run(self, script: Script, keys: Sequence[bytes], args: Sequence[bytes | int]) -> Awaitable[Any]:
        """
        Run *script* atomically.

        Cancelling the awaiting task abandons the answer, never the connection. A script that may have
        run is not sent again.

        Raises:
            StoreUnavailable: No answer in time, or the breaker is open; the script may have run.
            StoreMisconfigured: The server refuses our credentials or lacks what the script needs.
        """


class ScriptPoster(ScriptRunner, Protocol):
    """A runner for those who have gathered a batch of their own."""

    def post(
        self,
        script: Script,
        keys: Sequence[bytes],
        args: Sequence[bytes | int],
        on_answer: Callable[[Any], None],
        on_failure: Callable[[StoreFault], None],
    ) -> None:
        """
        Run *script* as `run` does, and tell functions instead of an awaiting task how it went.

        It leaves at once, together with whatever waits for the end of this loop tick. Exactly one of
        the two functions is called, exactly once, maybe before this returns.
        """


class Subscription(Protocol):
    """One interest in one bus channel."""

    def close(self) -> None:
        """Hear no more; harmless when closed."""


class Bus(Protocol):
    """
    Messages to every instance that listens, at most once.

    A message may be lost when the store or a connection fails; whoever needs more keeps positions and
    reads what was missed. After every interruption `on_gap` of each affected subscription is called.
    """

    def publish(self, channel: str, payload: bytes) -> Awaitable[None]:
        """
        Send *payload* to every subscriber of *channel* in the fleet, this instance included.

        Raises:
            StoreUnavailable: It could not be handed to the store.
        """

    def subscribe(
        self, channel: str, on_message: Callable[[bytes], None], on_gap: Callable[[], None] | None = None
    ) -> Subscription:
        """
        Call *on_message* for every payload published to *channel* from about now on.

        Returns at once and never fails: while the store is away the subscription waits for it. Call
        `ready` to know that it has reached the store.
        """

    def ready(self, channel: str) -> Awaitable[None]:
        """
        Wait until *channel* is subscribed at the store.

        Raises:
            StoreUnavailable: The store is away.
        """


class Board(Protocol):
    """
    Small facts that all instances share: written rarely, each with a time to live, pushed to all.

    A room holds named values. Every instance keeps a copy of the rooms it watches, so that reading
    costs nothing; the copy is at most one push behind, and one poll behind when a push was lost.
    While the store is away the copy stays as it was, and writes of this instance are seen here only.
    """

    async def put(self, room: str, name: str, value: bytes, ttl_s: float | None = None) -> None:
        """
        Write one value; None keeps it until it is removed.

        Raises:
            StoreUnavailable: The fleet does not know it; this instance does.
        """

    async def remove(self, room: str, name: str) -> None:
        """
        Remove one value; harmless when it is not there.

        Raises:
            StoreUnavailable: As for `put`.
        """

    def watch(
        self,
        room: str,
        on_change: Callable[[str, bytes | None], None] | None = None,
        on_end: Callable[[str], None] | None = None,
    ) -> Mapping[str, bytes]:
        """
        Keep a copy of *room* from now on and return that live, read-only copy.

        *on_change* is called with a name and its new value, or None when it was removed or ran out. If it
        ran out, *on_end* (which goes with an *on_change*) is called just before, on every instance.
        """

    async def known(self, room: str) -> None:
        """
        Wait until the copy of a watched *room* is what the store says, the first time.

        While the store is away it waits for it. Returns at once from then on.
        """

    async def lead(self, room: str, name: str, ttl_s: float) -> int:
        """
        Try to hold, or go on holding, the lease *name* for *ttl_s* seconds from now, be it longer or shorter.

        Returns a fencing number above zero that grows with every change of holder, or 0 when another
        instance holds the lease.

        Raises:
            StoreUnavailable: Nobody can say who leads; a holder keeps leading until its own TTL is over.
        """


class Store(Protocol):
    """One connection of this process to the state that the fleet shares."""

    bus: Bus
    board: Board

    @property
    def up(self) -> bool:
        """Whether the store answers, as far as is known; reading it costs nothing."""

    @property
    def refuses_writes(self) -> str:
        """Why the store, which answers, takes no writes (it is full, say); empty while it does."""

    @property
    def partly_away(self) -> str:
        """Which parts of the store do not answer, while others do; empty when all or none do."""

    @property
    def instance_id(self) -> str:
        """This process's name in the fleet: random, new at every start."""

    @property
    def live_instances(self) -> int:
        """How many instances were alive when the store last answered, this one included; at least 1."""

    async def start(self) -> None:
        """Begin; returns at once and never fails, also when the store is away."""

    async def stop(self) -> None:
        """Leave the fleet and close every connection."""
