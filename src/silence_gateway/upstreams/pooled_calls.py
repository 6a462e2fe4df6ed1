"""
How a call goes through a pool: a place is taken, the call made there, and its end written down.

Hot path: `unary` runs for every request and returns the connection's own call, with who writes down its end
in it (`placed_calls.py`): no coroutine, no task, no lock, 1.6 us of CPython 3.11 with the counts. Everything
that may change the choice is worked out when it happens (`places.py`). Calls that have to wait for a place
or may run twice take the longer way (`repeating.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Collection
from functools import partial
from math import inf

from silence_gateway.clock import Clock
from silence_gateway.core.method_set import MethodSet
from silence_gateway.upstreams.call import UnaryCall
from silence_gateway.upstreams.connectivity import Connectivity
from silence_gateway.upstreams.contracts import CallStream, Metadata, Reply
from silence_gateway.upstreams.hedging import hedged
from silence_gateway.upstreams.kept_requests import KeptRequests
from silence_gateway.upstreams.ledger import Ledger
from silence_gateway.upstreams.placed_calls import PlacedCalls
from silence_gateway.upstreams.places import Places
from silence_gateway.upstreams.pooled_stream import PooledStream
from silence_gateway.upstreams.repeated_stream import RepeatedStream
from silence_gateway.upstreams.repeating import RepeatedCall, Repeats, made_again
from silence_gateway.upstreams.steering import Steering
from silence_gateway.upstreams.tried import Tried


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
    attempt takes longer than it may; and on a second endpoint when hedging is asked for. A stream is made
    again as long as nothing has come back, and with `retry.streams` also when that takes too long.
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
        after_s = self._repeats.hedge_after_s(method)
        attempt = partial(self._repeats.attempt, call)
        if after_s is None:
            return made_again(self._repeats, call, attempt)
        return hedged(self._repeats, call, after_s, attempt, self._repeats.spare)

    def stream(
        self,
        method: bytes,
        messages: bytes | AsyncIterable[bytes],
        metadata: Metadata = (),
        deadline_s: float | None = None,
        steering: Steering | None = None,
    ) -> CallStream:
        """Call *method* as `Caller.stream` says, more than once if that helps."""
        repeats, started_s = self._repeats, self._monotonic_s()
        request = kept(messages, repeats.buffer_bytes)
        call = RepeatedCall(
            method, request, metadata, started_s, inf if deadline_s is None else deadline_s, steering
        )
        one_request = isinstance(request, bytes)
        first_within_s = repeats.first_within_s if one_request else None

        def begin() -> PooledStream:
            return PooledStream(
                self._places,
                self._ledger,
                self._clock,
                self._timeout_s,
                method=method,
                messages=request,
                metadata=call.attempt_metadata,
                deadline_s=deadline_s,
                tried=call.tried,
                attempt_of=repeats,
                started_s=started_s,
                first_within_s=first_within_s,
            )

        return RepeatedStream(
            repeats, call, begin, repeats.stream_hedge_after_s(method) if one_request else None
        )


def kept(messages: bytes | AsyncIterable[bytes], max_bytes: int) -> bytes | KeptRequests:
    """Return the request of a stream in a form that can be sent again, as far as it may be kept."""
    return messages if isinstance(messages, bytes) else KeptRequests(messages, max_bytes)


class PooledCalls(OverPlaces):
    """
    A `contracts.Caller` over the places of a pool, whose connections are ours if calls are *direct*.

    Attributes:
        once: The same for calls that the caller knows may not run twice, whatever `retry.methods` says.
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
        direct: bool,
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
        self._direct = direct
        self._placed = PlacedCalls(places, ledger, self._anywhere)
        self.repeating = RepeatingCaller(places, ledger, repeats, clock, timeout_s)
        self.once: PooledCalls = self
        if self._some_repeat:
            self.once = PooledCalls(
                places, ledger, repeats, clock=clock, timeout_s=timeout_s, repeatable=(), direct=direct
            )

    def unary(
        self,
        method: bytes,
        message: bytes,
        metadata: Metadata = (),
        deadline_s: float | None = None,
        steering: Steering | None = None,
    ) -> Awaitable[Reply]:
        """
        Call *method* once, as `Caller.unary` says; await it at once.

        A call that provably never left is offered to another endpoint, within its deadline and at most
        `retry.attempts` times in all. One that may have left is repeated if it is of `retry.methods`.
        *steering* says where it belongs (`steering.SteeredCaller` fills it in).
        """
        if self._some_repeat and method in self._repeatable:
            return self.repeating.unary(method, message, metadata, deadline_s, steering)
        now = self._monotonic_s
        started_s = now()
        if deadline_s is None:
            deadline_s = started_s + self._timeout_s
        tried = None if steering is None else Tried(steering)
        places, placed, direct = self._places, self._placed, self._direct
        endpoint = places.take_at_once() if direct and tried is None else None
        if endpoint is not None:
            connection = endpoint.current
        else:
            taken = places.take(tried, deadline_s) if direct else None
            if taken is None:
                return self._anywhere(method, message, metadata, deadline_s, started_s, tried)
            endpoint, connection = taken
            endpoint.in_flight += 1
        assert connection is not None
        generation = endpoint.breaker.generation
        place = (endpoint, generation, started_s, connection, tried, method, message, metadata)
        try:
            # Connections of ours take the time as well, and are spared looking at the clock.
            call = connection.unary(method, message, metadata, deadline_s, started_s)  # type: ignore[call-arg]
        except Exception as error:
            placed.written_down(place, error)
            raise
        if type(call) is UnaryCall:
            call.owner = placed
            call.place = place
            return call
        # A connection that cannot take a call says so at once.
        assert isinstance(call, asyncio.Future)
        refusal = call.exception()
        assert refusal is not None
        tried = placed.written_down(place, refusal)
        if tried is None:
            return call
        return self._anywhere(method, message, metadata, deadline_s, started_s, tried)

    async def _anywhere(
        self,
        method: bytes,
        message: bytes,
        metadata: Metadata,
        deadline_s: float,
        started_s: float,
        tried: Tried | None,
    ) -> Reply:
        """Make a call that has no place yet, or no more, wherever there is one."""
        sent_s = self._monotonic_s()
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
        asked for. One that provably never left is offered to another endpoint, like a unary call, as long as
        its requests were kept.
        """
        if self._some_repeat and method in self._repeatable:
            return self.repeating.stream(method, messages, metadata, deadline_s, steering)
        return PooledStream(
            self._places,
            self._ledger,
            self._clock,
            self._timeout_s,
            method=method,
            messages=kept(messages, self._repeats.buffer_bytes),
            metadata=metadata,
            deadline_s=deadline_s,
            tried=None if steering is None else Tried(steering),
        )
