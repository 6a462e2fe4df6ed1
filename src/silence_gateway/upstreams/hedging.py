"""
One call on several endpoints at once: the next is asked when those before are late, the first answer counts.

The others are cancelled, at the upstream too. What an error means is `core/retry.py`'s to say: one that
nothing follows ends the call for all attempts, any other one only its own. Each further attempt comes out
of the retry budget and goes to an endpoint that has not had the call; where there is none, or no budget,
the call goes on as it is. Costs a task per attempt, so only calls that may be hedged come here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from silence_gateway.clock import Timer
from silence_gateway.core.retry import Again, Over, Why
from silence_gateway.errors import GatewayError, UpstreamFault
from silence_gateway.upstreams.repeating import RepeatedCall, Repeats, cancelled

T = TypeVar("T")

Attempt = Callable[[], Coroutine[Any, Any, T]]


async def hedged(
    repeats: Repeats,
    call: RepeatedCall,
    after_s: float,
    attempt: Attempt[T],
    drop: Callable[[T], None] = lambda _answer: None,
) -> T:
    """
    Make an *attempt* at *call*, and one more whenever *after_s* seconds have brought no answer.

    An answer that comes in the same moment as another one, and is not needed, is given to *drop*. Cancelling
    it cancels every attempt.
    """
    race = _Race(repeats, call, after_s, attempt, drop)
    try:
        answer = await race.run()
    except BaseException as error:
        repeats.settle(call, error)
        raise
    else:
        repeats.took(call)
        return answer
    finally:
        race.end()


class _Race(Generic[T]):
    """The attempts of one call that run side by side."""

    def __init__(
        self,
        repeats: Repeats,
        call: RepeatedCall,
        after_s: float,
        attempt: Attempt[T],
        drop: Callable[[T], None],
    ) -> None:
        self._repeats = repeats
        self._call = call
        self._after_s = after_s
        self._attempt = attempt
        self._drop = drop
        self._running: list[asyncio.Task[T]] = []
        self._hedges: list[asyncio.Task[T]] = []
        self._turn = asyncio.Event()
        call.wake = self._turn.set
        self._timer: Timer | None = None
        self._due = False
        self._paid = False

    async def run(self) -> T:
        """Return the first answer; raise the error that leaves none to wait for."""
        self._begin()
        while True:
            await self._turn.wait()
            self._turn.clear()
            if self._call.gone:
                raise cancelled()
            for task in [task for task in self._running if task.done()]:
                self._running.remove(task)
                error = task.exception()
                if error is None:
                    self._repeats.hedges_won += task in self._hedges
                    return task.result()
                if self._is_last_word(error):
                    raise error
            if self._due:
                self._due = False
                if self._paid:
                    # It follows an error, late or not, so it is no hedge.
                    self._repeats.retries += 1
                    self._begin()
                elif self._repeats.may_hedge(self._call):
                    self._hedges.append(self._begin())

    def end(self) -> None:
        """Leave whatever still runs."""
        self._call.wake = None
        self._plan(None)
        for task in self._running:
            if not task.cancel() and not task.cancelled() and task.exception() is None:
                self._drop(task.result())

    def _begin(self) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(self._attempt())
        task.add_done_callback(self._ended)
        self._running.append(task)
        self._plan(self._after_s)
        return task

    def _ended(self, task: asyncio.Task[T]) -> None:
        if not task.cancelled():
            # Read here, because nobody may be left to read it: a loser can fail while it is being cancelled.
            task.exception()
        self._turn.set()

    def _plan(self, after_s: float | None, *, paid: bool = False) -> None:
        """Have the next attempt begin in *after_s* seconds and at no other time; None for never."""
        if self._timer is not None:
            self._timer.cancel()
        self._paid = paid
        self._due = after_s == 0
        self._timer = self._repeats.clock.call_later(after_s, self._on_due) if after_s else None

    def _on_due(self) -> None:
        self._due = True
        self._turn.set()

    def _is_last_word(self, error: BaseException) -> bool:
        """Take note that an attempt has failed; return whether the call has, too."""
        if not isinstance(error, GatewayError):
            return True
        call = self._call
        step = self._repeats.after(error, call.begun, call.deadline_s, hedged=True, paid=self._paid)
        if isinstance(step, Again):
            self._plan(step.after_us / 1e6, paid=True)
            return False
        if not self._running:
            return True
        # No further attempt; but one that never reached anybody says nothing about those that did.
        self._plan(None)
        assert isinstance(step, Over)
        return step.why is Why.FATAL and (not isinstance(error, UpstreamFault) or error.sent)
