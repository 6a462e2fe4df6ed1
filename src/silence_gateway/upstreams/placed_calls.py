"""
Unary calls that have a place in a pool: what is written down when one ends, and how it goes on elsewhere.

Hot path: whoever calls awaits the connection's own call, which tells `PlacedCalls` of its end. Neither a
coroutine nor a task stands between the two, unless the call never left and is made again.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable, Coroutine
from functools import partial
from inspect import CORO_CREATED, getcoroutinestate
from typing import Any, TypeAlias

from silence_gateway.core.durations import FINE_S, PUBLISHED
from silence_gateway.core.status import Code
from silence_gateway.upstreams.call import UnaryCall
from silence_gateway.upstreams.contracts import Metadata, Reply
from silence_gateway.upstreams.dialing import Connection
from silence_gateway.upstreams.endpoint import Endpoint
from silence_gateway.upstreams.ledger import Ledger
from silence_gateway.upstreams.places import Places
from silence_gateway.upstreams.tried import Tried

Place: TypeAlias = "tuple[Endpoint, int, float, Connection, Tried | None, bytes, bytes, Metadata]"
"""
What is kept of a call: whom it went to, the breaker's generation then, when it began (monotonic seconds);
and what it is made again with: the connection it was on, where it had been before, and what was asked.

A tuple, because it is made in a fifth of an object's time.
"""

Again: TypeAlias = Callable[
    [bytes, bytes, Metadata, float, float, "Tried | None"], Coroutine[Any, Any, Reply]
]
"""Makes a call where it has not been; takes its deadline and when it began after the metadata."""


class PlacedCalls:
    """The `call.Owner` of all unary calls of a pool. *again* makes those anew that never left."""

    def __init__(self, places: Places, ledger: Ledger, again: Again) -> None:
        self._places = places
        self._ledger = ledger
        self._again = again
        self._monotonic_s = ledger.monotonic_s

    def answered(self, call: UnaryCall) -> None:
        """See `call.Owner`. Does what `Ledger.answered` does for a call that neither waited nor moved on."""
        place, ledger, places, now = call.place, self._ledger, self._places, self._monotonic_s
        endpoint, started_s = place[0], place[2]
        now_s = now()
        if ledger.thinks or endpoint.leaving or not endpoint.breaker.succeeded(place[1], now_s):
            ledger.answered(endpoint, place[1], started_s, started_s)
            return
        elapsed_s = now_s - started_s
        bucket = bisect_left(FINE_S, elapsed_s)
        ledger.latency_counts[PUBLISHED[bucket]] += 1
        ledger.latency_sum_s += elapsed_s
        endpoint.durations[bucket] += 1
        endpoint.codes[0] += 1
        endpoint.heard_s = now_s
        endpoint.in_flight -= 1
        places.in_flight -= 1
        if places.line.waiting:
            places.line.tell_one()

    def failed(self, call: UnaryCall, error: BaseException) -> bool:
        """See `call.Owner`."""
        place: Place = call.place
        tried = self.written_down(place, error)
        if tried is None:
            return False
        _, _, started_s, _, _, method, message, metadata = place
        again = self._again(method, message, metadata, call.deadline_s, started_s, tried)
        task = call.get_loop().create_task(again)
        call.stream_id = 0
        call.owner = _Elsewhere(task, again, self._places)
        task.add_done_callback(partial(_end, call))
        return True

    def cancelled(self, call: UnaryCall) -> None:
        """See `call.Owner`."""
        self.written_down(call.place, asyncio.CancelledError())

    def written_down(self, place: Place, error: BaseException) -> Tried | None:
        """Write down how an attempt ended; return what to mind when the call is made again, if it is."""
        endpoint, generation, started_s, connection, tried, *_ = place
        tried = self._places.next_try(tried, endpoint, connection, error)
        self._ledger.failed(
            endpoint, connection, generation, started_s, error, final=tried is None, sent_s=started_s
        )
        return tried


class _Elsewhere:
    """The `call.Owner` of a call that *task* makes again; its first stream is forgotten and tells nothing."""

    __slots__ = ("_again", "_places", "_task")

    def __init__(self, task: asyncio.Task[Reply], again: Coroutine[Any, Any, Reply], places: Places) -> None:
        self._task = task
        self._again = again
        self._places = places

    def answered(self, _call: UnaryCall) -> None:
        """See `call.Owner`."""

    def failed(self, _call: UnaryCall, _error: BaseException) -> bool:
        """See `call.Owner`."""
        return False

    def cancelled(self, _call: UnaryCall) -> None:
        """See `call.Owner`."""
        if getcoroutinestate(self._again) == CORO_CREATED:
            # It will not begin any more, so nobody else counts the call.
            self._places.codes[Code.CANCELLED] += 1
        self._task.cancel()


def _end(call: UnaryCall, task: asyncio.Task[Reply]) -> None:
    """End *call* as the *task* that made it again did."""
    call.owner = None
    if task.cancelled():
        call.cancel()
        return
    error = task.exception()
    if call.done():
        return
    if error is None:
        call.set_result(task.result())
    else:
        call.set_exception(error)
        call.exception()  # as `UnaryCall.fail` does
