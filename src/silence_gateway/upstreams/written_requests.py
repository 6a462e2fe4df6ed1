"""The request stream of a `channel` call: from an iterator of either kind, or written by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Any


class WrittenRequests:
    """
    Requests as bytes, one at a time.

    Args:
        source: Where requests come from; None if `write` gives them.
        serialize: Turns one into bytes.
    """

    def __init__(
        self, source: AsyncIterable[Any] | Iterable[Any] | None, serialize: Callable[[Any], bytes]
    ) -> None:
        self._source = source
        self._serialize = serialize
        self._taken = asyncio.Event()
        self._given = asyncio.Event()
        self._waiting: list[bytes] = []
        self._ended = False

    async def write(self, request: Any) -> None:
        """
        Hand over one request; returns once the one before it has been taken.

        Raises:
            asyncio.InvalidStateError: The call is over, has ended its requests, or has an iterator.
        """
        if self._source is not None:
            raise asyncio.InvalidStateError("the requests of this call come from its iterator")
        while self._waiting and not self._ended:
            await self._taken.wait()
        if self._ended:
            raise asyncio.InvalidStateError("this call takes no more requests")
        self._waiting.append(self._serialize(request))
        self._taken.clear()
        self._given.set()

    async def end(self) -> None:
        """Say that there are no more requests, after what was written."""
        while self._waiting and not self._ended:
            await self._taken.wait()
        self.stop()

    def stop(self) -> None:
        """Take no more requests, because the call is over."""
        self._ended = True
        self._taken.set()
        self._given.set()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if isinstance(self._source, AsyncIterable):
            async for request in self._source:
                yield self._serialize(request)
        elif self._source is not None:
            for request in self._source:
                yield self._serialize(request)
        else:
            while True:
                await self._given.wait()
                if not self._waiting:
                    return
                message = self._waiting.pop()
                if not self._ended:
                    self._given.clear()
                self._taken.set()
                yield message
