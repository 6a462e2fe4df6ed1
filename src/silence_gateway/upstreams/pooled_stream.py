"""
A streaming call through the pool: a place, the connection's own stream, and one entry in the ledger.

The call begins when it is made if there is a place, and otherwise when somebody waits for it. Until the first
message or metadata has come, a call that provably never left is offered to another endpoint, with its request
messages as far as they were kept (`kept_requests.py`); after that what breaks is broken. Calls that may run
twice are made of these, one for each attempt (`repeated_stream.py`). In the ledger a stream is timed to its
first message, because how long it lives says nothing about the endpoint; and it never serves as the probe of
a half-open breaker, because its end may be hours away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator

from silence_gateway.clock import Clock, Timer
from silence_gateway.errors import GatewayError, RpcError, UpstreamTimeout
from silence_gateway.upstreams.contracts import CallStream, Metadata
from silence_gateway.upstreams.dialing import Connection
from silence_gateway.upstreams.endpoint import Endpoint
from silence_gateway.upstreams.kept_requests import KeptRequests
from silence_gateway.upstreams.ledger import Ledger
from silence_gateway.upstreams.outcomes import code_of
from silence_gateway.upstreams.places import Places
from silence_gateway.upstreams.repeating import Repeats, cancelled
from silence_gateway.upstreams.tried import Tried


class PooledStream:
    """See `contracts.CallStream`."""

    __slots__ = (
        "_attempt_of",
        "_beginning",
        "_begun_s",
        "_clock",
        "_committed",
        "_deadline_s",
        "_ended",
        "_failure",
        "_first_s",
        "_first_within_s",
        "_generation",
        "_gone",
        "_iterator",
        "_late",
        "_ledger",
        "_messages",
        "_metadata",
        "_method",
        "_place",
        "_places",
        "_started_s",
        "_stream",
        "_timeout_s",
        "_timer",
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
        messages: bytes | KeptRequests,
        metadata: Metadata,
        deadline_s: float | None,
        tried: Tried | None = None,
        attempt_of: Repeats | None = None,
        started_s: float | None = None,
        first_within_s: float | None = None,
    ) -> None:
        """
        Begin the call, if there is a place for it.

        Args:
            places: Where to take it from.
            ledger: Where its end is written down.
            clock: For its duration.
            timeout_s: The longest it may wait for a place.
            method: The full method path.
            messages: The request.
            metadata: Pairs to send with it.
            deadline_s: When to give up, in monotonic seconds; None never.
            tried: Who had the call already, and where it belongs.
            attempt_of: Where the end is written down as well, as that of a mere attempt, until `settle`.
            started_s: When the call began, if that was not now.
            first_within_s: How long the first message of an attempt may take; None for as long as it likes.
        """
        self._places = places
        self._ledger = ledger
        self._clock = clock
        self._timeout_s = timeout_s
        self._method = method
        self._messages = messages
        self._metadata = metadata
        self._deadline_s = deadline_s
        self._begun_s = clock.monotonic_s()
        self._started_s = self._begun_s if started_s is None else started_s
        self._first_s: float | None = None
        self._first_within_s = first_within_s
        self._generation = 0
        self._attempt_of = attempt_of
        self._tried = tried
        self._committed = False
        self._ended = False
        self._late = False
        self._timer: Timer | None = None
        self._beginning: asyncio.Event | None = None
        self._waiting: asyncio.Task[None] | None = None
        self._gone = False
        self._failure: GatewayError | None = None
        self._place: tuple[Endpoint, Connection] | None = None
        self._stream: CallStream | None = None
        self._iterator: AsyncIterator[bytes] | None = None
        taken = places.take_ready(tried)
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
                self._commit()
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
            self._commit()
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
        self._gone = True
        if self._stream is not None:
            self._stream.cancel()
        elif self._waiting is not None:
            self._waiting.cancel()
        self._commit()
        self._end(asyncio.CancelledError())

    def settle(self) -> None:
        """Be the call itself from now on, and no mere attempt."""
        self._attempt_of = None

    async def _begun(self) -> CallStream:
        """Return the stream that carries the call, begun once, however many wait for it."""
        while self._stream is None:
            # Whoever else waited must not begin what was cancelled meanwhile, or has failed.
            if self._gone:
                raise cancelled()
            if self._failure is not None:
                raise self._failure
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
                raise cancelled() from None
            if self._stream is not None:
                self.cancel()  # it began in the moment in which we were cancelled
            raise

    async def _begin_in_line(self) -> None:
        limit_s = self._clock.monotonic_s() + self._timeout_s
        if self._deadline_s is not None:
            limit_s = min(limit_s, self._deadline_s)
        try:
            place = await self._places.wait(limit_s, self._tried, may_probe=False, limited=False)
        except BaseException as error:
            if isinstance(error, GatewayError):
                self._failure = error
            if self._attempt_of is not None:
                self._attempt_of.without_place(error)
            raise
        try:
            self._begin(place)
        except BaseException:
            self._places.give_back()
            raise

    def _begin(self, place: tuple[Endpoint, Connection]) -> None:
        endpoint, connection = place
        if self._tried is not None and self._attempt_of is not None:
            # Attempts at the same time are to go to different endpoints.
            self._tried.avoid(endpoint, connection)
        self._begun_s = self._clock.monotonic_s()
        self._generation = endpoint.breaker.generation
        messages: bytes | AsyncIterable[bytes] = (
            self._messages if isinstance(self._messages, bytes) else self._messages.again()
        )
        self._stream = connection.stream(self._method, messages, self._metadata, self._deadline_s)
        self._iterator = aiter(self._stream)
        self._place = place
        self._ended = False
        endpoint.in_flight += 1
        endpoint.streaming += 1
        self._places.streaming += 1
        if self._first_within_s is not None:
            self._timer = self._clock.call_later(self._first_within_s, self._give_up)

    def _give_up(self) -> None:
        """The first message takes longer than it may."""
        assert self._stream is not None
        self._late = True
        self._stream.cancel()

    def _commit(self) -> None:
        """Something of the answer has been shown: there is no other endpoint from now on."""
        self._committed = True
        if not isinstance(self._messages, bytes):
            self._messages.release()
        if self._timer is not None:
            self._timer.cancel()

    def _goes_on(self, stream: CallStream, error: BaseException) -> bool:
        """
        Write down that *stream* ended with *error*; return whether the call goes on in another one.

        Raises:
            UpstreamTimeout: That is what *error* really is: the attempt took too long and was ended here.
        """
        if isinstance(error, GatewayError) and stream is not self._stream:
            return True
        if self._late and isinstance(error, RpcError):
            assert self._first_within_s is not None
            late = UpstreamTimeout(f"no message within the {self._first_within_s:g} s of an attempt")
            self._end(late)
            raise late from error
        return self._end(error)

    def _end(self, error: BaseException | None) -> bool:
        """Write the end down, once; return whether the call is to be begun again elsewhere."""
        if self._place is None or self._ended:
            return False
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        endpoint, connection = self._place
        endpoint.streaming -= 1
        self._places.streaming -= 1
        started_s = self._started_s
        if self._first_s is not None:
            started_s += self._clock.monotonic_s() - self._first_s
        if error is None:
            self._ledger.answered(endpoint, self._generation, started_s, begun_s=self._begun_s)
            self._close()
            return False
        tried = None
        if not self._committed and (isinstance(self._messages, bytes) or self._messages.whole):
            tried = self._places.next_try(self._tried, endpoint, connection, error)
        attempt_of = self._attempt_of
        final = tried is None and attempt_of is None
        self._ledger.failed(
            endpoint,
            connection,
            self._generation,
            started_s if final else self._begun_s,
            error,
            final=final,
            begun_s=self._begun_s,
        )
        if tried is None:
            if attempt_of is None:
                self._close()
            else:
                attempt_of.codes[code_of(error)] += 1
            return False
        self._tried, self._stream, self._iterator, self._place = tried, None, None, None
        return True

    def _close(self) -> None:
        if not isinstance(self._messages, bytes):
            self._messages.close()
