"""
The request messages of a streaming call, kept so that another attempt can send them again.

They are kept until there are more of them than may be, or until nothing could use them any more because the
call has an answer; from then on they only pass through. While they are kept each one is asked for in a task
of its own: an attempt that ends while it waits for the caller's next message must not end the iterator.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator

MESSAGE_BYTES = 64
"""What keeping a message costs beside its content; bounds the number of empty ones."""


class KeptRequests:
    """
    Messages of *source*, up to *max_bytes* of them kept. One attempt reads at a time.

    Attributes:
        whole: Whether all that was taken from *source* is still here, so that another attempt may begin.
    """

    __slots__ = ("_bytes", "_ended", "_failure", "_messages", "_pulling", "_source", "max_bytes", "whole")

    def __init__(self, source: AsyncIterable[bytes], max_bytes: int) -> None:
        self._source = aiter(source)
        self.max_bytes = max_bytes
        self.whole = max_bytes > 0
        self._messages: list[bytes] = []
        self._bytes = 0
        self._ended = False
        self._failure: Exception | None = None
        self._pulling: asyncio.Task[None] | None = None

    def again(self) -> AsyncIterator[bytes]:
        """Return all messages, from the first one on, for an attempt that begins now; only while `whole`."""
        return _Reading(self)

    def release(self) -> None:
        """Keep no further messages: no attempt will follow the one that reads now."""
        self.whole = False

    def close(self) -> None:
        """Ask for no more: the call is over."""
        self.whole = False
        if self._pulling is not None:
            self._pulling.cancel()

    async def at(self, index: int) -> bytes:
        """
        Return one message, whose predecessors have been read.

        Raises:
            StopAsyncIteration: There are no more.

        What *source* raises is raised here too, to every attempt that gets so far.
        """
        while index >= len(self._messages):
            if self._failure is not None:
                raise self._failure
            if self._ended:
                raise StopAsyncIteration
            if self._pulling is None:
                if not self.whole:
                    self._messages.clear()
                    return await anext(self._source)
                self._pulling = asyncio.get_running_loop().create_task(self._pull())
                self._pulling.add_done_callback(self._pulled)
            # The reader may be cancelled here, with its attempt; the caller's iterator is not.
            await asyncio.shield(self._pulling)
        return self._messages[index]

    async def _pull(self) -> None:
        try:
            message = await anext(self._source)
        except StopAsyncIteration:
            self._ended = True
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, it is for whoever reads
            self._failure = error
            return
        self._messages.append(message)
        self._bytes += len(message) + MESSAGE_BYTES
        if self._bytes > self.max_bytes:
            self.whole = False

    def _pulled(self, _task: asyncio.Task[None]) -> None:
        self._pulling = None


class _Reading:
    """What one attempt has read."""

    __slots__ = ("_next", "_requests")

    def __init__(self, requests: KeptRequests) -> None:
        self._requests = requests
        self._next = 0

    def __aiter__(self) -> _Reading:
        return self

    async def __anext__(self) -> bytes:
        message = await self._requests.at(self._next)
        self._next += 1
        return message
