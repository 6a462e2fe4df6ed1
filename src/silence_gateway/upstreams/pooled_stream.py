"""
A streaming call through the pool: a place, the connection's own stream, and one entry in the ledger.

The call begins when it is made if there is a place, and otherwise when somebody waits for it. Until the
first message or metadata has come, a call with one request message that provably never left may be offered
to another endpoint, and one that may run twice is made again as `repeating.py` has it; after that, and for
request streams, what breaks is broken. In the ledger a stream is
timed to its first message, because how long it lives says nothing about the endpoint; and it never serves
as the probe of a half-open breaker, because its end may be hours away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from math import inf

from silence_gateway.clock import Clock
from silence_gateway.core.retry import Over
from silence_gateway.core.status import Code
from silence_gateway.errors import GatewayError, RpcError
from silence_gateway.upstreams.contracts import CallStream, Metadata
from silence_gateway.upstreams.dialing import Connection
from silence_gateway.upstreams.endpoint import Endpoint
from silence_gateway.upstreams.ledger import Ledger
from silence_gateway.upstreams.outcomes import code_of
from silence_gateway.upstreams.places import Places, Tried
from silence_gateway.upstreams.repeating import Repeats
from silence_gateway.upstreams.steering import Steering


class PooledStream:
    """See `contracts.CallStream`."""

    __slots__ = (
        "_beginning",
        "_begun_times",
        "_clock",
        "_committed",
        "_deadline_s",
        "_ended",
        "_first_s",
        "_generation",
        "_gone",
        "_iterator",
        "_ledger",
        "_messages",
        "_metadata",
        "_method",
        "_pause_s",
        "_place",
        "_places",
        "_repeats",
        "_started_s",
        "_stream",
        "_timeout_s",
        "_tried",
        "_waiting",
    )

    def __init__(
        self,
        places: Places,
        ledger: Ledger,
        clock: Clock,
        timeout_s: float,
        *,
        method: bytes,
        messages: bytes | AsyncIterable[bytes],
        metadata: Metadata,
        deadline_s: float | None,
        repeats: Repeats | None = None,
        steering: Steering | None = None,
    ) -> None:
        self._places = places
        self._ledger = ledger
        self._clock = clock
        self._timeout_s = timeout_s
        self._method = method
        self._messages = messages
        self._metadata = metadata
        self._deadline_s = deadline_s
        self._started_s = clock.monotonic_s()
        self._first_s: float | None = None
        self._generation = 0
        self._repeats = repeats
        self._begun_times = 0
        self._pause_s = 0.0
        self._tried = None if steering is None else Tried(steering)
        self._committed = not isinstance(messages, bytes)
        self._ended = False
        self._beginning: asyncio.Event | None = None
        self._waiting: asyncio.Task[None] | None = None
        self._gone = False
        self._place: tuple[Endpoint, Connection] | None = None
        self._stream: CallStream | None = None
        self._iterator: AsyncIterator[bytes] | None = None
        taken = places.take_ready(self._tried)
        if taken is not None:
            self._begin(taken)

    def __aiter__(self) -> PooledStream:
        return self

    async def __anext__(self) -> bytes:
        while True:
            stream = await self._begun()
            assert self._iterator is not None
            try:
                message = await anext(self._iterator)
            except StopAsyncIteration:
                self._end(None)
                raise
            except BaseException as error:
                if not self._goes_on(stream, error):
                    raise
                continue
            if self._first_s is None:
                self._first_s = self._clock.monotonic_s()
                self._committed = True
            return message

    async def initial_metadata(self) -> Metadata:
        """Wait for and return the header pairs sent before the first message."""
        while True:
            stream = await self._begun()
            try:
                metadata = await stream.initial_metadata()
            except BaseException as error:
                if not self._goes_on(stream, error):
                    raise
                continue
            self._committed = True
            return metadata

    async def trailing_metadata(self) -> Metadata:
        """Wait for and return the header pairs sent with the status."""
        while True:
            stream = await self._begun()
            metadata = await stream.trailing_metadata()
            if stream is self._stream:
                return metadata

    async def begun(self) -> None:
        """Wait until the call has a place and is on its way; raises as reading does if it gets none."""
        await self._begun()

    def cancel(self) -> None:
        """Tell the upstream that nobody waits any more; harmless when finished."""
        self._gone = self._committed = True
        if self._stream is not None:
            self._stream.cancel()
        elif self._waiting is not None:
            self._waiting.cancel()
        self._end(asyncio.CancelledError())

    async def _begun(self) -> CallStream:
        """Return the stream that carries the call, begun once, however many wait for it."""
        while self._stream is None:
            if self._beginning is not None:
                await self._beginning.wait()
                continue
            self._beginning = beginning = asyncio.Event()
            try:
                await self._wait()
            finally:
                self._beginning = self._waiting = None
                beginning.set()
        return self._stream

    async def _wait(self) -> None:
        # A task, so that `cancel` can end the wait without cancelling whoever waits. It begins the call as
        # well: a place is good for the turn of the loop in which it was found, and may be gone in the next.
        self._waiting = waiting = asyncio.get_running_loop().create_task(self._begin_in_line())
        try:
            await waiting
        except asyncio.CancelledError:
            if self._gone:
                raise RpcError(Code.CANCELLED, "the call was cancelled here") from None
            if self._stream is not None:
                self.cancel()  # it began in the moment in which we were cancelled
            raise

    async def _begin_in_line(self) -> None:
        if self._pause_s:
            pause_s, self._pause_s = self._pause_s, 0.0
            await self._clock.sleep(pause_s)
        limit_s = self._clock.monotonic_s() + self._timeout_s
        if self._deadline_s is not None:
            limit_s = min(limit_s, self._deadline_s)
        place = await self._places.wait(limit_s, self._tried, may_probe=False)
        try:
            self._begin(place)
        except BaseException:
            self._places.give_back()
            raise

    def _goes_on(self, stream: CallStream, error: BaseException) -> bool:
        """Return whether the call, of which *stream* ended with *error*, is made again."""
        if isinstance(error, GatewayError) and stream is not self._stream:
            return True
        return self._end(error)

    def _begin(self, place: tuple[Endpoint, Connection]) -> None:
        endpoint, connection = place
        self._begun_times += 1
        self._generation = endpoint.breaker.generation
        self._stream = connection.stream(self._method, self._messages, self._metadata, self._deadline_s)
        self._iterator = aiter(self._stream)
        self._place = place
        self._ended = False
        endpoint.in_flight += 1
        endpoint.streaming += 1
        self._places.streaming += 1

    def _end(self, error: BaseException | None) -> bool:
        """Write the end down, once; return whether the call is to be begun again elsewhere."""
        if self._place is None or self._ended:
            return False
        self._ended = True
        endpoint, connection = self._place
        endpoint.streaming -= 1
        self._places.streaming -= 1
        started_s = self._started_s
        if self._first_s is not None:
            started_s += self._clock.monotonic_s() - self._first_s
        if error is None:
            self._ledger.answered(endpoint, self._generation, started_s)
            return False
        tried = None
        if not self._committed:
            tried = self._places.next_try(self._tried, endpoint, connection, error)
            if tried is None and self._repeats is not None:
                tried = self._made_again(self._repeats, endpoint, connection, error)
        self._ledger.failed(endpoint, connection, self._generation, started_s, error, final=tried is None)
        if tried is None:
            return False
        self._tried, self._stream, self._iterator, self._place = tried, None, None, None
        return True

    def _made_again(
        self, repeats: Repeats, endpoint: Endpoint, connection: Connection, error: BaseException
    ) -> Tried | None:
        """Return what to mind when the call is made once more after *error*; None if it is not."""
        deadline_s = inf if self._deadline_s is None else self._deadline_s
        step = repeats.after(error, self._begun_times, deadline_s)
        if isinstance(step, Over):
            return None
        repeats.codes[code_of(error)] += 1
        self._pause_s = step.after_us / 1e6
        tried = self._tried or Tried()
        tried.avoid(endpoint, connection)
        return tried
