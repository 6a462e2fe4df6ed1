"""
What a caller of a `Channel` holds while a call runs: what all four kinds have in common.

A call ends once, with an `Ended`. Waiting for that never cancels the call, whoever waits and however often
they are cancelled; only reading its messages does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import Any, Generic, Self, TypeVar

from silence_gateway.clock import Clock
from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError, UpstreamFault
from silence_gateway.rpc_words import WirePairs
from silence_gateway.upstreams.channel_words import Words, as_rpc_error, trailers_of
from silence_gateway.upstreams.written_requests import WrittenRequests

T = TypeVar("T")

# The longest that grpc-timeout can say in minutes, so that an infinite timeout is one that can be sent.
_LONGEST_S = 99_999_999.0

# Calls whose end nobody reads are kept until there are more of them than this, beside those that run.
_FEW = 32


class Carried(set["asyncio.Future[Any]"]):
    """
    Calls that are not over, each as what carries it. Who reads the end of one takes it out.

    Attributes:
        sweep_at: With more calls than this it is time to look for those whose end nobody reads.
    """

    __slots__ = ("sweep_at",)

    def __init__(self) -> None:
        super().__init__()
        self.sweep_at = _FEW

    def sweep(self) -> None:
        """Take out what is over."""
        self.difference_update([call for call in self if call.done()])
        self.sweep_at = 2 * len(self) + _FEW


class Terms:
    """
    What a method's calls share: how they are made and told of. One is made for each stub method.

    Attributes:
        path: `/package.Service/Method`.
        serialize: Turns a request into bytes.
        deserialize: Turns the bytes of an answer into a message; None leaves them.
        words: In whose words the caller is told.
        clock: What deadlines are measured by.
        upstream: Who is called, for errors; may be empty.
        running: The channel's calls for one message that are not over, so that closing it can end them.
        carried: The same for calls with one request.
    """

    __slots__ = ("carried", "clock", "deserialize", "path", "running", "serialize", "upstream", "words")

    def __init__(
        self,
        path: bytes,
        serialize: Callable[[Any], bytes],
        deserialize: Callable[[bytes], Any] | None,
        *,
        words: Words,
        clock: Clock,
        upstream: str,
        running: set[Any],
        carried: Carried,
    ) -> None:
        self.path = path
        self.serialize = serialize
        self.deserialize = deserialize
        self.words = words
        self.clock = clock
        self.upstream = upstream
        self.running = running
        self.carried = carried

    def in_words(self, words: Words) -> Terms:
        """Return the same, told in *words*."""
        return self._with(self.deserialize, words)

    def without_deserializing(self) -> Terms:
        """Return the same for messages that are messages already."""
        return self._with(None, self.words)

    def _with(self, deserialize: Callable[[bytes], Any] | None, words: Words) -> Terms:
        return Terms(
            self.path,
            self.serialize,
            deserialize,
            words=words,
            clock=self.clock,
            upstream=self.upstream,
            running=self.running,
            carried=self.carried,
        )

    def told(self, error: RpcError | UpstreamFault) -> RpcError:
        """Return *error* as a status that says what was called."""
        told = as_rpc_error(error)
        if not told.method:
            told.method = self.path[1:].decode()
            told.upstream = self.upstream
        return told


def deadline_of(timeout_s: float | None, clock: Clock) -> float | None:
    """Return when a call is to be given up, in monotonic seconds; what is as good as never is a few years."""
    if timeout_s is None:
        return None
    # Not `min`, which takes 0.1 us more of each call.
    return clock.monotonic_s() + (timeout_s if timeout_s < _LONGEST_S else _LONGEST_S)  # noqa: FURB136


class Ended:
    """How a call ended; *error* is None for OK."""

    __slots__ = ("error", "trailing")

    def __init__(self, error: RpcError | None, trailing: WirePairs = ()) -> None:
        self.error = error
        self.trailing = trailing if error is None else trailers_of(error)


class ChannelCall(Generic[T]):
    """
    One call, as its caller holds it.

    `code`, `details` and the metadata may be awaited at any time, and as often as you like.
    """

    __slots__ = ()

    _terms: Terms
    _deadline_s: float | None
    _requests: WrittenRequests | None

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled() else "over" if self.done() else "running"
        return f"<{type(self).__name__} of {self._terms.path[1:].decode()}: {state}>"

    async def code(self) -> Code:
        """Wait for the end and return the status."""
        error = (await self._ending()).error
        code: Code = self._terms.words.code(Code.OK if error is None else error.code)
        return code

    async def details(self) -> str:
        """Wait for the end and return the text that came with the status."""
        error = (await self._ending()).error
        return "" if error is None else str(error.details)

    async def trailing_metadata(self) -> Any:
        """Wait for the end and return the metadata that came with the status, as pairs."""
        return self._terms.words.metadata((await self._ending()).trailing)

    async def debug_error_string(self) -> str:
        """Wait for the end and return the whole text of the error; empty if there is none."""
        error = (await self._ending()).error
        return "" if error is None else str(error)

    def time_remaining(self) -> float | None:
        """Return the seconds left until the deadline, at least 0; None if there is none."""
        if self._deadline_s is None or self._deadline_s == inf:
            return None
        return max(0.0, self._deadline_s - self._terms.clock.monotonic_s())

    async def write(self, request: Any) -> None:
        """
        Send one more request, if the call was made without an iterator.

        Raises:
            InvalidStateError: The call is over, has ended its requests, or has an iterator.
            RpcError: It has failed while this waited.
        """
        requests = self._written()
        if self.done():
            requests.stop()
        requests.check_open()
        try:
            await self._begun()
            if requests.full:
                self._mind_the_end()
            await requests.write(request)
        except asyncio.CancelledError:
            self.cancel()
            raise
        except asyncio.InvalidStateError:
            self._raise_failure()
            raise

    async def done_writing(self) -> None:
        """Send no more requests, if the call was made without an iterator. Saying so twice is harmless."""
        requests = self._written()
        if not self.done():
            await self._begun()
            if requests.full:
                self._mind_the_end()
            await requests.end()

    def cancel(self) -> bool:
        """Tell the upstream that nobody waits any more; False if the call is over."""
        raise NotImplementedError

    def cancelled(self) -> bool:
        """Tell whether the call ended with CANCELLED."""
        raise NotImplementedError

    def done(self) -> bool:
        """Tell whether the call is over."""
        raise NotImplementedError

    def add_done_callback(self, callback: Callable[[Self], object]) -> None:
        """Call *callback* with this call when it is over; soon, if it is over already."""
        raise NotImplementedError

    async def wait_for_connection(self) -> None:
        """
        Wait until the call is on its way.

        Raises:
            RpcError: It has failed already.
        """
        raise NotImplementedError

    async def _ending(self) -> Ended:
        raise NotImplementedError

    async def _begun(self) -> None:
        """Wait until requests are taken."""

    def _mind_the_end(self) -> None:
        """See to it that requests are told of the end, although nobody may ask for it."""

    def _raise_failure(self) -> None:
        """Raise what the call has failed with, if it has."""
        raise NotImplementedError

    def _written(self) -> WrittenRequests:
        if self._requests is None:
            raise self._terms.words.misuse("this method takes one request, which it was called with")
        if not self._requests.by_hand:
            raise self._terms.words.misuse("the requests of this call come from its iterator")
        return self._requests
