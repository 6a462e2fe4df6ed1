"""
Health by `grpc.health.v1.Health/Watch`: the server says when its mind changes, and is not asked meanwhile.

A Watch rightly says nothing for hours, so its silence says nothing either. Whoever needs to know that the
endpoint is still there asks anew, which every server answers at once with what it thinks now: that costs what
a Check costs, and a server that has Watch is never asked by Check.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from silence_gateway.clock import Clock, Timer
from silence_gateway.core.health import Check
from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError, UpstreamFault
from silence_gateway.upstreams.contracts import CallStream
from silence_gateway.upstreams.dialing import Connection
from silence_gateway.upstreams.health_messages import says_not_serving

WATCH = b"/grpc.health.v1.Health/Watch"

WORDS_APART_S = 1.0
"""A server whose mind changes more often than this is heard once in that time, with its latest word."""

Said = tuple[Check, str]
"""How asking ended, and what to show for it."""


class HealthStream:
    """
    The Watch of one endpoint. *on_word* is called when it says something unasked; `take` it then.

    Attributes:
        served: False once the server said that it has no Watch; set it again when another may answer.
    """

    def __init__(self, request: bytes, clock: Clock, on_word: Callable[[], None]) -> None:
        self.served = True
        self._request = request
        self._clock = clock
        self._on_word = on_word
        self._connection: Connection | None = None
        self._reading: asyncio.Task[None] | None = None
        self._word: Check | None = None
        self._next_s = 0.0
        self._waking: Timer | None = None

    @property
    def live(self) -> bool:
        """Whether the server would tell us if its mind changed."""
        reading = self._reading is not None and not self._reading.done()
        return reading and self._connection is not None and self._connection.accepting

    def take(self) -> Check | None:
        """Return what was said unasked since the last time, if anything was."""
        word, self._word = self._word, None
        return word

    async def ask(self, connection: Connection, deadline_s: float) -> Said | None:
        """Watch anew and return the first word, or what came of it; None if the server has no Watch."""
        self.close()
        first: asyncio.Future[Said | None] = asyncio.get_running_loop().create_future()
        stream = connection.stream(WATCH, self._request, (), None)
        self._connection = connection
        self._reading = asyncio.get_running_loop().create_task(self._read(stream, first))

        def too_late() -> None:
            if not first.done():
                first.set_result((Check.SILENT, "health watch: no word in time"))

        timer = self._clock.call_later(max(0.0, deadline_s - self._clock.monotonic_s()), too_late)
        try:
            said = await first
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            timer.cancel()
        if said is None or said[0] is Check.SILENT:
            self.close()
        self.served = said is not None
        return said

    def close(self) -> None:
        """Watch no more; harmless when it does not."""
        if self._reading is not None:
            self._reading.cancel()
        if self._waking is not None:
            self._waking.cancel()
            self._waking = None
        self._reading = self._connection = self._word = None

    async def _read(self, stream: CallStream, first: asyncio.Future[Said | None]) -> None:
        ended: Said | None = None
        try:
            async for message in stream:
                refuses = says_not_serving(message)
                check = Check.REFUSING if refuses else Check.SERVING
                if first.done():
                    self._hear(check)
                else:
                    first.set_result((check, "health watch: NOT_SERVING" if refuses else ""))
        except RpcError as error:
            if error.code == Code.UNAVAILABLE:
                ended = (Check.SILENT, f"health watch: UNAVAILABLE {error.details}")
            elif error.code != Code.UNIMPLEMENTED:
                ended = (Check.SERVING, "")
        except UpstreamFault as error:
            ended = (Check.SILENT, f"health watch: {error}")
        finally:
            stream.cancel()
        # One that ends without a word is of no more use than none at all.
        if not first.done():
            first.set_result(ended)

    def _hear(self, check: Check) -> None:
        self._word = check
        if self._waking is None:
            wait_s = max(0.0, self._next_s - self._clock.monotonic_s())
            self._waking = self._clock.call_later(wait_s, self._wake)

    def _wake(self) -> None:
        self._waking = None
        self._next_s = self._clock.monotonic_s() + WORDS_APART_S
        self._on_word()
