"""
An upstream that does as it is told: the fake to test against where a `Caller` is expected.

Write down what each call shall meet, hand it to the code under test, and look at what it was asked:

    upstream = ScriptedUpstream(Silence() * 20 + Reply(b"ok"), clock=clock)
    ...
    assert [call.method for call in upstream.calls] == [b"/shop.Orders/Get"] * 21

Steps are used in order, one per call, unary or streaming. The last one is used again for every further
call. Delays and deadlines are measured on the clock that is given. Nothing here opens a socket.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable
from dataclasses import dataclass, field

from silence_gateway.clock import Clock, SystemClock
from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError, UpstreamTimeout, UpstreamUnavailable
from silence_gateway.upstreams import contracts
from silence_gateway.upstreams.contracts import Metadata


class Script:
    """
    What the next calls meet, in order. `a + b` is first a, then b; `a * 3` is a three times.

    Raises:
        ValueError: If it is empty where it is used.
    """

    def __init__(self, *steps: Step) -> None:
        self.steps: tuple[Step, ...] = steps

    def __add__(self, other: Script) -> Script:
        return Script(*self.steps, *other.steps)

    def __mul__(self, times: int) -> Script:
        return Script(*(self.steps * times))


class Step(Script, ABC):
    """One call's fate; on its own it is a script of one step."""

    def __init__(self) -> None:
        super().__init__(self)

    @abstractmethod
    async def meet(self, call: Call, clock: Clock) -> tuple[bytes, ...]:
        """Return the messages that the call is answered, when it is time, or raise what it fails with."""


class Reply(Step):
    """
    Answer with messages and an OK status, *after_s* seconds after the call; a unary call takes the first.

    *then* is raised after the last message, for streams that break on the way; a unary call meets it only
    when there is no message.
    """

    def __init__(
        self,
        *answers: bytes,
        after_s: float = 0.0,
        initial_metadata: Metadata = (),
        trailing_metadata: Metadata = (),
        then: Exception | None = None,
    ) -> None:
        super().__init__()
        self.answers = answers
        self.after_s = after_s
        self.initial_metadata = initial_metadata
        self.trailing_metadata = trailing_metadata
        self.then = then

    async def meet(self, call: Call, clock: Clock) -> tuple[bytes, ...]:
        """Return the answers, once *after_s* has passed."""
        await pause(self.after_s, call, clock)
        return self.answers


class Computed(Step):
    """Answer with one message, made from what was sent: for fakes that count or echo."""

    def __init__(self, compute: Callable[[Call], bytes]) -> None:
        super().__init__()
        self.compute = compute

    async def meet(self, call: Call, clock: Clock) -> tuple[bytes, ...]:  # noqa: ARG002 - shape of a step
        """Return the computed answer."""
        return (self.compute(call),)


class Failure(Step):
    """Answer with a gRPC error, *after_s* seconds after the call."""

    def __init__(
        self, code: int, details: str = "", *, after_s: float = 0.0, trailing_metadata: Metadata = ()
    ) -> None:
        super().__init__()
        self.trailing_metadata = trailing_metadata
        self.code = Code(code)
        self.details = details
        self.after_s = after_s

    async def meet(self, call: Call, clock: Clock) -> tuple[bytes, ...]:
        """Raise the error, once *after_s* has passed."""
        await pause(self.after_s, call, clock)
        raise RpcError(self.code, self.details, trailing_metadata=self.trailing_metadata)


class Broken(Step):
    """
    Fail as a connection that breaks: *sent* tells whether the upstream may have seen the call.

    With *refused* the connection stays, and only this call is turned away.
    """

    def __init__(self, *, sent: bool, refused: bool = False) -> None:
        super().__init__()
        self.sent = sent
        self.refused = refused

    async def meet(self, call: Call, clock: Clock) -> tuple[bytes, ...]:  # noqa: ARG002 - shape of a step
        """Raise at once."""
        raise UpstreamUnavailable("the script breaks the call here", sent=self.sent, refused=self.refused)


class Silence(Step):
    """Never answer. The call ends with its deadline, or when its caller leaves."""

    async def meet(self, call: Call, clock: Clock) -> tuple[bytes, ...]:
        """Wait for the deadline; for ever without one."""
        await pause(None, call, clock)
        return ()


async def pause(delay_s: float | None, call: Call, clock: Clock) -> None:
    """
    Wait for *delay_s* (None is for ever), but not past the call's deadline.

    Raises:
        UpstreamTimeout: The deadline came first.
    """
    if call.deadline_s is None:
        if delay_s is None:
            await asyncio.get_running_loop().create_future()
        elif delay_s > 0:
            await clock.sleep(delay_s)
        return
    remaining_s = call.deadline_s - clock.monotonic_s()
    if delay_s is not None and delay_s < remaining_s:
        if delay_s > 0:
            await clock.sleep(delay_s)
        return
    await clock.sleep(max(0.0, remaining_s))
    raise UpstreamTimeout("the script stayed silent until the deadline")


@dataclass(slots=True)
class Call:
    """
    One call, as it reached the fake.

    Attributes:
        method: The full method path.
        message: The request of a unary call, or of a stream with one message; empty otherwise.
        metadata: The pairs sent with it.
        deadline_s: Its deadline in monotonic seconds, or None.
        cancelled: Whether the caller left before the end.
        requests: What a stream of messages has sent so far.
    """

    method: bytes
    message: bytes
    metadata: Metadata
    deadline_s: float | None
    cancelled: bool = False
    requests: list[bytes] = field(default_factory=list)


class ScriptedStream:
    """A streaming call to a `ScriptedUpstream`; see `contracts.CallStream`."""

    def __init__(self, call: Call, step: Step, clock: Clock, messages: bytes | AsyncIterable[bytes]) -> None:
        self.call = call
        self.step = step
        self.clock = clock
        self.sent = messages
        self.answers: deque[bytes] | None = None
        self.over = False
        self.meeting: asyncio.Task[tuple[bytes, ...]] | None = None

    def __aiter__(self) -> ScriptedStream:
        return self

    async def __anext__(self) -> bytes:
        if self.over:
            if self.call.cancelled:
                raise RpcError(Code.CANCELLED, "the call was cancelled here")
            raise StopAsyncIteration
        try:
            answers = await self._met()
            if answers:
                return answers.popleft()
            if isinstance(self.step, Reply) and self.step.then is not None:
                raise self.step.then
            raise StopAsyncIteration
        except BaseException as error:
            if self.over:
                raise RpcError(Code.CANCELLED, "the call was cancelled here") from error
            self.over = True
            self.call.cancelled = isinstance(error, asyncio.CancelledError)
            raise

    async def initial_metadata(self) -> Metadata:
        """Return the pairs of the step at once."""
        return self.step.initial_metadata if isinstance(self.step, Reply) else ()

    async def trailing_metadata(self) -> Metadata:
        """Wait for the end, and return the pairs of the step; messages not taken yet can be taken still."""
        if not self.over:
            await self._met()
        return self.step.trailing_metadata if isinstance(self.step, Reply) else ()

    def cancel(self) -> None:
        """End the call."""
        if not self.over:
            self.over = True
            self.call.cancelled = True
            if self.meeting is not None:
                self.meeting.cancel()

    async def _met(self) -> deque[bytes]:
        """Take the requests, and meet the step; once, however many wait for it."""
        if self.answers is None:
            if self.meeting is None:
                self.meeting = asyncio.ensure_future(self._meet())
            answers = await self.meeting
            if self.answers is None:
                self.answers = deque(answers)
        return self.answers

    async def _meet(self) -> tuple[bytes, ...]:
        if not isinstance(self.sent, bytes):
            async for message in self.sent:
                self.call.requests.append(message)
        return await self.step.meet(self.call, self.clock)


class ScriptedUpstream:
    """
    A `Caller` that follows a script.

    Attributes:
        calls: Every call that reached it, in order.
        in_flight: Unary calls that wait for their answer.
    """

    def __init__(self, script: Script, *, clock: Clock | None = None) -> None:
        if not script.steps:
            raise ValueError("a script needs at least one step")
        self.calls: list[Call] = []
        self.in_flight = 0
        self._script = script
        self._used = 0
        self._clock: Clock = clock or SystemClock()

    def follow(self, script: Script) -> None:
        """Go on with another script from the next call on."""
        if not script.steps:
            raise ValueError("a script needs at least one step")
        self._script, self._used = script, 0

    def unary(
        self, method: bytes, message: bytes, metadata: Metadata = (), deadline_s: float | None = None
    ) -> Awaitable[contracts.Reply]:
        """Meet the next step; see `contracts.Caller.unary`. The call is on record when this returns."""
        call = Call(method, message, metadata, deadline_s)
        return self._answer(call, self._next(call))

    def stream(
        self,
        method: bytes,
        messages: bytes | AsyncIterable[bytes],
        metadata: Metadata = (),
        deadline_s: float | None = None,
    ) -> ScriptedStream:
        """Meet the next step; see `contracts.Caller.stream`."""
        call = Call(method, messages if isinstance(messages, bytes) else b"", metadata, deadline_s)
        return ScriptedStream(call, self._next(call), self._clock, messages)

    def _next(self, call: Call) -> Step:
        self.calls.append(call)
        step = self._script.steps[min(self._used, len(self._script.steps) - 1)]
        self._used += 1
        return step

    async def _answer(self, call: Call, step: Step) -> contracts.Reply:
        self.in_flight += 1
        try:
            answers = await step.meet(call, self._clock)
        except asyncio.CancelledError:
            call.cancelled = True
            raise
        finally:
            self.in_flight -= 1
        if not answers and isinstance(step, Reply) and step.then is not None:
            raise step.then
        if not answers:
            raise RpcError(Code.INTERNAL, "the script has no message for a unary call")
        if isinstance(step, Reply):
            return contracts.Reply(answers[0], step.initial_metadata, step.trailing_metadata)
        return contracts.Reply(answers[0], (), ())
