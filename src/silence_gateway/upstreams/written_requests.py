"""The request stream of a channel's call: from an iterator of either kind, or written by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Any


class WrittenRequests:
    """
    Requests as bytes, one at a time. May be iterated over again as long as none has been taken.

    Args:
        source: Where requests come from; None if `write` gives them.
        serialize: Turns one into bytes.

    Attributes:
        by_hand: Whether `write` gives them.

    Raises:
        TypeError: *source* cannot be iterated over.
    """

    def __init__(
        self, source: AsyncIterable[Any] | Iterable[Any] | None, serialize: Callable[[Any], bytes]
    ) -> None:
        if source is not None and not isinstance(source, AsyncIterable | Iterable):
            kind = type(source).__name__
            raise TypeError(f"this method takes an iterator of requests, sync or async, not one {kind}")
        self.by_hand = source is None
        self._source = source
        self._serialize = serialize
        self._taken = asyncio.Event()
        self._given = asyncio.Event()
        self._waiting: list[bytes] = []
        self._ended = False

    @property
    def full(self) -> bool:
        """Whether the next request has to wait until the one before it has been taken."""
        return bool(self._waiting)

    def check_open(self) -> None:
        """
        Do nothing if requests are still taken.

        Raises:
            asyncio.InvalidStateError: The call is over, or has ended its requests.
        """
        if self._ended:
            raise asyncio.InvalidStateError("this call takes no more requests: it is over, or done writing")

    async def write(self, request: Any) -> None:
        """
        Hand over one request; returns once the one before it has been taken.

        Raises:
            asyncio.InvalidStateError: The call is over, or has ended its requests.
        """
        while self._waiting and not self._ended:
            await self._taken.wait()
        self.check_open()
        self._waiting.append(self._serialize(request))
        self._taken.clear()
        self._given.set()

    async def end(self) -> None:
        """Say that there are no more requests, after what was written."""
        while self._waiting and not self._ended:
            await self._taken.wait()
        self.stop()

    def stop(self) -> None:
        """Take no more requests, because the call is over; an iterator is let go of."""
        self._ended = True
        self._source = None
        self._taken.set()
        self._given.set()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self.by_hand:
            while True:
                await self._given.wait()
                if not self._waiting:
                    return
                message = self._waiting.pop()
                if not self._ended:
                    self._given.clear()
                self._taken.set()
                yield message
        elif isinstance(self._source, AsyncIterable):
            async for request in self._source:
                yield self._serialize(request)
        elif self._source is not None:
            for request in self._source:
                yield self._serialize(request)
