"""
How a call goes through a pool: a place is taken, the call made there, and its end written down.

Hot path: `unary` runs for every request and adds one coroutine to the connection's own call, no task and
no lock: about 2 us of CPython 3.11, counts included. Everything that may change the choice is worked out
when it happens (`places.py`). Calls that may run twice take the longer way (`repeating.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Collection

from silence_gateway.clock import Clock
from silence_gateway.upstreams.connectivity import Connectivity
from silence_gateway.upstreams.contracts import CallStream, Metadata, Reply
from silence_gateway.upstreams.hedging import hedged
from silence_gateway.upstreams.ledger import Ledger
from silence_gateway.upstreams.places import Places, Tried
from silence_gateway.upstreams.pooled_stream import PooledStream
from silence_gateway.upstreams.repeating import RepeatedCall, Repeats, made_again
from silence_gateway.upstreams.steering import Steering


class MethodSet:
    """Methods by their paths, from names such as `shop.v1.Shop/Get` and `shop.v1.Shop/*`."""

    __slots__ = ("_paths", "_services")

    def __init__(self, names: Collection[str]) -> None:
        self._paths = frozenset(f"/{name}".encode() for name in names if not name.endswith("/*"))
        self._services = frozenset(f"/{name[:-2]}".encode() for name in names if name.endswith("/*"))

    def __bool__(self) -> bool:
        return bool(self._paths or self._services)

    def __contains__(self, path: bytes) -> bool:
        return path in self._paths or (bool(self._services) and path.rpartition(b"/")[0] in self._services)


class OverPlaces:
    """What callers over the places of a pool have in common: they know what a call can hope for."""

    _places: Places

    @property
    def connectivity(self) -> Connectivity:
        """What a call can hope for now."""
        return self._places.connectivity

    def connectivity_changed(self) -> asyncio.Future[None]:
        """Return what is done as soon as that may have changed, from now on."""
        return self._places.news.wait()


class RepeatingCaller(OverPlaces):
    """
    A `contracts.Caller` for calls that may run twice, on the same pool.

    A call is made again when it fails with one of `retry.on`, when its connection breaks, and when an
    attempt takes longer than it may; and on a second endpoint when hedging is asked for. A stream with one
    request message is made again as long as nothing has come back; it is not hedged.
    """

    def __init__(
        self, places: Places, ledger: Ledger, repeats: Repeats, clock: Clock, timeout_s: float
    ) -> None:
        self._places = places
        self._ledger = ledger
        self._repeats = repeats
        self._clock = clock
        self._monotonic_s = clock.monotonic_s
        self._timeout_s = timeout_s

    def unary(
        self,
        method: bytes,
        message: bytes,
        metadata: Metadata = (),
        deadline_s: float | None = None,
        steering: Steering | None = None,
    ) -> Awaitable[Reply]:
        """Call *method* as `Caller.unary` says, more than once if that helps; await it at once."""
        started_s = self._monotonic_s()
        if deadline_s is None:
            deadline_s = started_s + self._timeout_s
        call = RepeatedCall(method, message, metadata, started_s, deadline_s, steering)
        after_s = self._repeats.hedge_after_s
        if after_s is None:
            return made_again(self._repeats, call)
        return hedged(self._repeats, call, after_s)

    def stream(
        self,
        method: bytes,
        messages: bytes | AsyncIterable[bytes],
        metadata: Metadata = (),
        deadline_s: float | None = None,
        steering: Steering | None = None,
    ) -> CallStream:
        """Call *method* as `Caller.stream` says, more than once if that helps."""
        return PooledStream(
            self._places,
            self._ledger,
            self._clock,
            self._timeout_s,
            method=method,
            messages=messages,
            metadata=metadata,
            deadline_s=deadline_s,
            steering=steering,
            repeats=self._repeats,
        )


class PooledCalls(OverPlaces):
    """
    A `contracts.Caller` over the places of a pool.

    Attributes:
        repeating: The same for calls that the caller knows may run twice.
    """

    def __init__(
        self,
        places: Places,
        ledger: Ledger,
        repeats: Repeats,
        *,
        clock: Clock,
        timeout_s: float,
        repeatable: Collection[str],
    ) -> None:
        self._places = places
        self._ledger = ledger
        self._repeats = repeats
        self._clock = clock
        self._monotonic_s = clock.monotonic_s
        self._timeout_s = timeout_s
        self._repeatable = MethodSet(repeatable)
        # An upstream without such methods, which is most, does not pay for looking.
        self._some_repeat = bool(self._repeatable)
        self.repeating = RepeatingCaller(places, ledger, repeats, clock, timeout_s)

    async def unary(
        self,
        method: bytes,
        message: bytes,
        metadata: Metadata = (),
        deadline_s: float | None = None,
        steering: Steering | None = None,
    ) -> Reply:
        """
        Call *method* once, as `Caller.unary` says.

        A call that provably never left is offered to another endpoint, within its deadline and at most
        `retry.attempts` times in all. One that may have left is repeated if it is of `retry.methods`.
        *steering* says where it belongs (`steering.SteeredCaller` fills it in).
        """
        if self._some_repeat and method in self._repeatable:
            return await self.repeating.unary(method, message, metadata, deadline_s, steering)
        started_s = sent_s = self._monotonic_s()
        if deadline_s is None:
            deadline_s = started_s + self._timeout_s
        tried = None if steering is None else Tried(steering)
        places, ledger = self._places, self._ledger
        while True:
            taken = places.take(tried, deadline_s)
            if taken is None:
                taken = await places.wait(deadline_s, tried)
                sent_s = self._monotonic_s()
            endpoint, connection = taken
            endpoint.in_flight += 1
            generation = endpoint.breaker.generation
            try:
                reply = await connection.unary(method, message, metadata, deadline_s)
            except BaseException as error:
                tried = places.next_try(tried, endpoint, connection, error)
                ledger.failed(
                    endpoint, connection, generation, started_s, error, final=tried is None, sent_s=sent_s
                )
                if tried is None:
                    raise
                sent_s = self._monotonic_s()
                continue
            ledger.answered(endpoint, generation, started_s, sent_s)
            return reply

    def stream(
        self,
        method: bytes,
        messages: bytes | AsyncIterable[bytes],
        metadata: Metadata = (),
        deadline_s: float | None = None,
        steering: Steering | None = None,
    ) -> CallStream:
        """
        Call *method* for a stream of messages, as `Caller.stream` says.

        The call begins at once where there is a place for it, else when the first message or the metadata is
        asked for. One with a single message that provably never left is offered to another endpoint, like
        a unary call.
        """
        if self._some_repeat and method in self._repeatable:
            return self.repeating.stream(method, messages, metadata, deadline_s, steering)
        return PooledStream(
            self._places,
            self._ledger,
            self._clock,
            self._timeout_s,
            method=method,
            messages=messages,
            metadata=metadata,
            deadline_s=deadline_s,
            steering=steering,
        )
