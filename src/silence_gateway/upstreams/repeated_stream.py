"""
A streaming call that may run twice: made again, and beside itself, until something of its answer was shown.

Each attempt is a `PooledStream`; which one follows, and what it costs, is said where it is for unary calls
(`repeating.py`, `hedging.py`). The first attempt that has a message, or a good end, becomes the call: the
others are cancelled, and nothing is repeated any more. That is gRFC A6's commitment, except that headers
alone do not commit until somebody has asked for them.

A call whose request is a stream is repeated as long as its messages were kept, and neither hedged nor given
a time per attempt: how long its first answer takes is up to its caller as much as to its endpoint.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from silence_gateway.errors import GatewayError
from silence_gateway.upstreams.contracts import Metadata
from silence_gateway.upstreams.hedging import hedged
from silence_gateway.upstreams.kept_requests import KeptRequests
from silence_gateway.upstreams.pooled_stream import PooledStream
from silence_gateway.upstreams.repeating import RepeatedCall, Repeats, made_again

Begun = tuple[PooledStream, bytes | None]
"""An attempt, and its first message; None if it ended well without any."""


class RepeatedStream:
    """
    See `contracts.CallStream`.

    Args:
        repeats: Who decides about attempts.
        call: The call.
        begin: Begins one attempt.
        hedge_after_s: When to begin another one beside it; None never.
    """

    __slots__ = (
        "_begin",
        "_call",
        "_fresh",
        "_hedge_after_s",
        "_moved",
        "_repeats",
        "_shown",
        "_stream",
        "_turn",
    )

    def __init__(
        self,
        repeats: Repeats,
        call: RepeatedCall,
        begin: Callable[[], PooledStream],
        hedge_after_s: float | None,
    ) -> None:
        self._repeats = repeats
        self._call = call
        self._begin = begin
        self._hedge_after_s = hedge_after_s
        self._shown = False
        self._turn = asyncio.Lock()
        self._moved = asyncio.Event()  # another attempt has begun, or there will be none
        # The first attempt begins now, if there is a place for it, and not when somebody looks.
        call.begun += 1
        self._stream = begin()
        self._fresh = True

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._shown:
            async with self._turn:
                if not self._shown:
                    message = await self._first()
                    if message is None:
                        raise StopAsyncIteration
                    return message
        return await anext(self._stream)

    async def initial_metadata(self) -> Metadata:
        """Wait for and return the header pairs sent before the first message; nothing is hedged for them."""
        if self._shown or self._turn.locked():
            # Somebody reads already, and its message may have to wait for what follows these headers.
            metadata = await self._headers_of_who_reads()
            self._call.shown = True
            return metadata
        async with self._turn:
            try:
                self._stream, metadata = await made_again(self._repeats, self._call, self._headed)
            except BaseException:
                self._over()
                raise
            self._show()
            return metadata

    async def _headers_of_who_reads(self) -> Metadata:
        while True:
            stream = self._stream
            try:
                return await stream.initial_metadata()
            except GatewayError:
                # Whether another attempt follows is found out by who reads.
                while stream is self._stream and not self._shown:
                    self._moved.clear()
                    await self._moved.wait()
                if stream is self._stream:
                    raise

    async def trailing_metadata(self) -> Metadata:
        """Wait for and return the header pairs sent with the status."""
        while True:
            stream = self._stream
            metadata = await stream.trailing_metadata()
            if stream is self._stream:
                return metadata

    async def begun(self) -> None:
        """Wait until the call has a place and is on its way; raises as reading does if it gets none."""
        await self._stream.begun()

    def cancel(self) -> None:
        """Tell the upstream that nobody waits any more; harmless when finished."""
        if not self._shown and not self._turn.locked():
            self._show()
        # Somebody who waits learns of it and sees to the rest: to other attempts, and that none follows.
        self._call.leave()
        self._stream.cancel()

    async def _first(self) -> bytes | None:
        """Wait for the first message, or for a good end; raise what ends the call."""
        repeats, call = self._repeats, self._call
        try:
            if self._hedge_after_s is None:
                self._stream, message = await made_again(repeats, call, self._attempt)
            else:
                self._stream, message = await hedged(repeats, call, self._hedge_after_s, self._attempt, _drop)
        except BaseException:
            self._over()
            raise
        self._show()
        return message

    async def _attempt(self) -> Begun:
        stream = self._next()
        try:
            return stream, await anext(stream, None)
        except GatewayError:
            # It has ended by itself; cancelling would give up the request that is kept for the next one.
            raise
        except BaseException:
            stream.cancel()
            raise

    async def _headed(self) -> tuple[PooledStream, Metadata]:
        stream = self._next()
        return stream, await stream.initial_metadata()

    def _next(self) -> PooledStream:
        if self._fresh:
            self._fresh = False
        else:
            self._call.begun += 1
            self._stream = self._begin()
            self._moved.set()
        return self._stream

    def _show(self) -> None:
        """Something of the answer is out: there is only this attempt now."""
        self._shown = True
        self._moved.set()
        self._stream.settle()

    def _over(self) -> None:
        """The call has ended with an error, which `Repeats` has written down."""
        self._shown = True
        self._moved.set()
        if isinstance(self._call.message, KeptRequests):
            self._call.message.close()


def _drop(begun: Begun) -> None:
    begun[0].cancel()
