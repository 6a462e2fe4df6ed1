"""
Calls that may run twice: made again after an error, and on a second endpoint when the first one is late.

One `RepeatedCall` goes through any number of attempts. Whether there is another one is decided in
`core/retry.py`; this file takes places, makes attempts and keeps the counts straight: a call is counted
once in the upstream's codes and durations, however many attempts its endpoints have counted. Attempts at
the same time are `hedging.py`; streams are `pooled_stream.py`.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine
from math import inf
from random import Random
from typing import Any, TypeVar

from silence_gateway.clock import Clock
from silence_gateway.core.retry import (
    Again,
    Ended,
    Over,
    Step,
    Why,
    counting_attempts,
    next_step,
    read_pushback,
)
from silence_gateway.core.status import Code
from silence_gateway.errors import GatewayError, RpcError, UpstreamFault, UpstreamTimeout
from silence_gateway.upstreams.contracts import Metadata, Reply
from silence_gateway.upstreams.hedge_delays import HedgeDelays
from silence_gateway.upstreams.kept_requests import KeptRequests
from silence_gateway.upstreams.ledger import Ledger
from silence_gateway.upstreams.outcomes import code_of
from silence_gateway.upstreams.packing import WithEncoding
from silence_gateway.upstreams.places import Places
from silence_gateway.upstreams.retry_budget import RetryBudget
from silence_gateway.upstreams.retry_settings import RetrySettings
from silence_gateway.upstreams.steering import Steering
from silence_gateway.upstreams.tried import Tried

T = TypeVar("T")

LONGEST_S = 1e9
"""What a call without a deadline has left: thirty years, so that it can be counted in microseconds."""


class RepeatedCall:
    """
    One call on its way through its attempts.

    Attributes:
        begun: Attempts begun so far.
        tried: Who had it.
        shown: Whether somebody has seen a part of an answer, so that no further attempt may begin.
        gone: Whether it was cancelled by somebody else than who waits for it; likewise.
        wake: Called when it is; None while nobody would have to hear of it.
        timed: Whether an answer was, so that how long the call took is written down.
    """

    __slots__ = (
        "begun", "deadline_s", "gone", "message", "metadata", "method", "shown", "started_s", "timed",
        "tried", "wake",
    )  # fmt: skip

    message: bytes | KeptRequests

    def __init__(
        self,
        method: bytes,
        message: bytes | KeptRequests,
        metadata: Metadata,
        started_s: float,
        deadline_s: float,
        steering: Steering | None = None,
    ) -> None:
        self.method = method
        self.message = message
        self.metadata = metadata
        self.started_s = started_s
        self.deadline_s = deadline_s
        self.begun = 0
        self.shown = self.timed = self.gone = False
        self.wake: Callable[[], None] | None = None
        self.tried = Tried(steering)

    @property
    def attempt_metadata(self) -> Metadata:
        """What goes with the attempt begun last: from the second on, how many were begun before it."""
        metadata = self.metadata
        if self.begun <= 1:
            return metadata
        counted = counting_attempts(metadata, self.begun - 1)
        # What the caller chose besides the pairs holds for every attempt.
        return WithEncoding(counted, metadata.encoding) if isinstance(metadata, WithEncoding) else counted

    @property
    def whole(self) -> bool:
        """Whether another attempt may begin: nothing was shown, and all of the request is still here."""
        if self.shown or self.gone:
            return False
        return isinstance(self.message, bytes) or self.message.whole

    def leave(self) -> None:
        """Begin no further attempt; whoever waits for one raises CANCELLED."""
        self.gone = True
        if self.wake is not None:
            self.wake()

    async def pause(self, seconds: float, clock: Clock) -> None:
        """
        Wait before an attempt.

        Raises:
            RpcError: CANCELLED, somebody has had the call leave.
        """
        over = asyncio.Event()
        self.wake = over.set
        timer = clock.call_later(seconds, over.set)
        try:
            await over.wait()
        finally:
            timer.cancel()
            self.wake = None
        if self.gone:
            raise cancelled()


def cancelled() -> RpcError:
    """Return what a call that was cancelled here tells those that wait for it."""
    return RpcError(Code.CANCELLED, "the call was cancelled here")


class Repeats:
    """
    Makes attempts and decides whether there is another one.

    Attributes:
        codes: Attempts that did not end their call, by gRPC code.
        statuses: Those of them that ended with an HTTP answer, by its `counted_status`.
        retries: Attempts made because one before had failed.
        hedges: Attempts made because one before was late.
        hedges_won: Calls that a hedge answered.
        budget: What may be repeated.
    """

    def __init__(
        self,
        settings: RetrySettings,
        places: Places,
        ledger: Ledger,
        budget: RetryBudget,
        *,
        clock: Clock,
        rng: Random,
    ) -> None:
        self.codes = [0] * 17
        self.statuses: defaultdict[int, int] = defaultdict(int)
        self.retries = self.hedges = self.hedges_won = 0
        self.budget = budget
        self.clock = clock
        self.places = places
        self._settings = settings
        self._attempt_timeout_s = settings.attempt_timeout_s
        self._policy = settings.policy()
        self._ledger = ledger
        self._draw = rng.random
        self._monotonic_s = clock.monotonic_s
        self._fixed_after_s = settings.hedge_after_s
        share = settings.hedge_quantile
        self._delays = None if share is None else HedgeDelays(share)

    def hedge_after_s(self, method: bytes) -> float | None:
        """Return after how long a call of *method* without an answer is made anew; None for never."""
        return self._fixed_after_s if self._delays is None else self._delays.after_s(method)

    def stream_hedge_after_s(self, method: bytes) -> float | None:
        """Return the same for a stream without its first message."""
        return self.hedge_after_s(method) if self._settings.streams else None

    def took(self, call: RepeatedCall) -> None:
        """Learn from *call*, which has an answer now, what is late."""
        if self._delays is not None:
            self._delays.took(call.method, self._monotonic_s() - call.started_s)

    @property
    def first_within_s(self) -> float | None:
        """How long the first message of one attempt at a stream may take; None for as long as it likes."""
        return self._attempt_timeout_s if self._settings.streams else None

    @property
    def buffer_bytes(self) -> int:
        """How much of a request stream is kept for another attempt."""
        return self._settings.buffer_bytes

    def tick(self, kept: int) -> None:
        """Learn from the calls of the last *kept* ticks what is late, if that is to be learned."""
        if self._delays is not None:
            self._delays.tick(kept, self._ledger.latency_counts)

    async def attempt(self, call: RepeatedCall) -> Reply:
        """
        Make *call* once, going elsewhere at once as long as it provably never left.

        Raises what the attempt ended with; if that stays the call's last word, tell `settle`.
        """
        call.begun += 1
        message = call.message
        assert isinstance(message, bytes)
        # Others may begin while this one waits for a place, so it is asked for now.
        metadata = call.attempt_metadata
        places, ledger, tried = self.places, self._ledger, call.tried
        while True:
            sent_s, limit_s = self._limits(call)
            taken = places.take(tried, limit_s)
            if taken is None:
                try:
                    taken = await places.wait(call.deadline_s, tried)
                except BaseException as error:
                    self.without_place(error)
                    raise
                sent_s, limit_s = self._limits(call)
            endpoint, connection = taken
            tried.avoid(endpoint, connection)
            endpoint.in_flight += 1
            generation = endpoint.breaker.generation
            try:
                reply = await connection.unary(call.method, message, metadata, limit_s)
            except BaseException as error:
                elsewhere = places.next_try(tried, endpoint, connection, error)
                if elsewhere is None:
                    self.codes[code_of(error)] += 1
                ledger.failed(
                    endpoint, connection, generation, call.started_s, error, final=False, sent_s=sent_s
                )
                if elsewhere is None:
                    raise
                continue
            ledger.answered(endpoint, generation, call.started_s, sent_s, final=not call.timed)
            call.timed = True
            return reply

    def _limits(self, call: RepeatedCall) -> tuple[float, float]:
        """Return the time now, and until when an attempt that begins now may take."""
        now_s = self._monotonic_s()
        return now_s, min(call.deadline_s, now_s + (self._attempt_timeout_s or inf))

    def without_place(self, error: BaseException) -> None:
        """Write down an attempt that ended without a place; that it was not given one is counted there."""
        self.codes[code_of(error)] += 1

    def spare(self, _reply: Reply) -> None:
        """Write down an attempt with an answer that came too late: its call had ended in the same moment."""
        self.codes[Code.OK] += 1

    def settle(self, call: RepeatedCall, error: BaseException) -> None:
        """Write down that *call* has ended with *error*, which an attempt raised."""
        self.codes[code_of(error)] -= 1
        if not call.timed:
            self._ledger.timed(self._monotonic_s() - call.started_s)

    def after(
        self,
        error: BaseException,
        begun: int,
        deadline_s: float,
        *,
        hedged: bool = False,
        paid: bool = False,
    ) -> Step:
        """
        Decide what follows an attempt that ended with *error*; if it is another one, it is paid for.

        It may be *paid* already, when it was to follow another attempt of the call and has not begun. Whoever
        begins it counts it in `retries`: its caller may leave before.

        What provably never left has been offered to everybody already, so nothing follows it; and what is no
        answer of an upstream, such as a caller that leaves, is nobody's to repeat.
        """
        if not isinstance(error, RpcError) and not (isinstance(error, UpstreamFault) and error.sent):
            return Over(Why.FATAL)
        left_us = int(min(deadline_s - self._monotonic_s(), LONGEST_S) * 1e6)
        step = next_step(
            self._policy,
            Ended(
                code_of(error),
                timed_out=isinstance(error, UpstreamTimeout) and self._attempt_timeout_s is not None,
                pushback_ms=read_pushback(error.trailing_metadata) if isinstance(error, RpcError) else None,
            ),
            begun=begun,
            left_us=left_us,
            affordable=paid or self.budget.affordable(),
            draw=self._draw(),
            hedged=hedged,
        )
        if isinstance(step, Again):
            self.budget.repeats += not paid
        elif step.why is Why.BUDGET:
            self.budget.refused += 1
        return step

    def may_hedge(self, call: RepeatedCall) -> bool:
        """Tell whether a second attempt may begin now, beside the one that is late; if so it is paid for."""
        if call.begun >= self._policy.attempts or not self.places.others(call.tried):
            return False
        if not self.budget.spend():
            return False
        self.hedges += 1
        return True


async def made_again(
    repeats: Repeats, call: RepeatedCall, attempt: Callable[[], Coroutine[Any, Any, T]]
) -> T:
    """Make *call* until an *attempt* has an answer, or an error that stays; one after the other."""
    try:
        while True:
            try:
                answer = await attempt()
            except GatewayError as error:
                if not call.whole:
                    raise
                step = repeats.after(error, call.begun, call.deadline_s)
                if isinstance(step, Over):
                    raise
            else:
                repeats.took(call)
                return answer
            if step.after_us:
                await call.pause(step.after_us / 1e6, repeats.clock)
            repeats.retries += 1
    except BaseException as error:
        repeats.settle(call, error)
        raise
