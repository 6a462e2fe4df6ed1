"""
Calls that wait until somebody can take them (`wait_for_ready`), instead of failing at once.

A call without a timeout waits as long as it takes. One that found a place after all and lost it again before
anything was sent goes on waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine
from typing import Any

from silence_gateway.clock import Clock
from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError, UpstreamTimeout, UpstreamUnavailable
from silence_gateway.upstreams.connectivity import Connectivity, KnowsConnectivity
from silence_gateway.upstreams.contracts import Caller, CallStream, Metadata, Reply

_NO_USE_IN_WAITING = (Connectivity.READY, Connectivity.SHUTDOWN)
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 1.0


class WhenReady:
    """A `Caller` over *caller* whose calls wait for it. One that knows of no connectivity is always ready."""

    def __init__(self, caller: Caller, clock: Clock) -> None:
        self._caller = caller
        self._clock = clock

    async def unary(
        self, method: bytes, message: bytes, metadata: Metadata = (), deadline_s: float | None = None
    ) -> Reply:
        """See `Caller.unary`."""
        pause_s = _FIRST_PAUSE_S
        while True:
            await self.ready(deadline_s)
            try:
                return await self._caller.unary(method, message, metadata, deadline_s)
            except UpstreamUnavailable as error:
                if error.sent or self._gone():
                    raise
            await self._clock.sleep(min(pause_s, self._left_s(deadline_s)))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def stream(
        self,
        method: bytes,
        messages: bytes | AsyncIterable[bytes],
        metadata: Metadata = (),
        deadline_s: float | None = None,
    ) -> CallStream:
        """See `Caller.stream`."""

        async def begin() -> CallStream:
            await self.ready(deadline_s)
            return self._caller.stream(method, messages, metadata, deadline_s)

        return LateStream(begin)

    async def ready(self, deadline_s: float | None) -> None:
        """
        Wait until a call can be taken, or never will be.

        Raises:
            UpstreamTimeout: Not within *deadline_s*.
        """
        caller = self._caller
        if not isinstance(caller, KnowsConnectivity) or caller.connectivity in _NO_USE_IN_WAITING:
            return
        task = asyncio.current_task()
        assert task is not None
        late = False

        def on_deadline() -> None:
            nonlocal late
            late = True
            waiting.cancel()

        waiting = asyncio.get_running_loop().create_task(_usable(caller))
        timer = None
        if deadline_s is not None:
            timer = self._clock.call_later(self._left_s(deadline_s), on_deadline)
        try:
            await waiting
        except asyncio.CancelledError:
            if not late or task.cancelling():
                raise
            raise UpstreamTimeout(
                "the deadline passed while the call waited for an endpoint to be ready", sent=False
            ) from None
        finally:
            if timer is not None:
                timer.cancel()

    def _gone(self) -> bool:
        caller = self._caller
        return not isinstance(caller, KnowsConnectivity) or caller.connectivity is Connectivity.SHUTDOWN

    def _left_s(self, deadline_s: float | None) -> float:
        return _LONGEST_PAUSE_S if deadline_s is None else max(0.0, deadline_s - self._clock.monotonic_s())


async def _usable(caller: KnowsConnectivity) -> None:
    while caller.connectivity not in _NO_USE_IN_WAITING:
        await caller.connectivity_changed()


class LateStream:
    """A `CallStream` that begins by itself as soon as it can."""

    def __init__(self, begin: Callable[[], Coroutine[Any, Any, CallStream]]) -> None:
        self._task = asyncio.get_running_loop().create_task(begin())
        self._iterator: AsyncIterator[bytes] | None = None

    def __aiter__(self) -> LateStream:
        return self

    async def __anext__(self) -> bytes:
        if self._iterator is None:
            self._iterator = aiter(await self._begun())
        return await anext(self._iterator)

    async def begun(self) -> None:
        """Wait until it is on its way."""
        stream = await self._begun()
        further = getattr(stream, "begun", None)
        if further is not None:
            await further()

    async def initial_metadata(self) -> Metadata:
        """See `CallStream`."""
        return await (await self._begun()).initial_metadata()

    async def trailing_metadata(self) -> Metadata:
        """See `CallStream`."""
        return await (await self._begun()).trailing_metadata()

    def cancel(self) -> None:
        """See `CallStream`."""
        task = self._task
        if not task.done():
            task.cancel()
        elif not task.cancelled() and task.exception() is None:
            task.result().cancel()

    async def _begun(self) -> CallStream:
        task = self._task
        if not task.done():
            await asyncio.wait((task,))
        if task.cancelled():
            raise RpcError(Code.CANCELLED, "the call was cancelled here")
        return task.result()
