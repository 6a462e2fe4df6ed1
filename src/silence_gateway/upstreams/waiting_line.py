"""
Calls that wait for a place: bounded in number, each in time.

A call waits only while there is hope (a connection is on the way, or all streams are taken), and is told
to look again; it is not handed a place. Nobody's deadline is outlived here.
"""

from __future__ import annotations

import asyncio
from collections import deque

from silence_gateway.clock import Clock
from silence_gateway.errors import UpstreamTimeout, UpstreamUnavailable


class WaitingLine:
    """First come, first told. True while somebody waits, which costs the hot path one look."""

    __slots__ = ("_clock", "_longest", "_what", "waiters")

    def __init__(self, what: str, longest: int, clock: Clock) -> None:
        self._what = what
        self._longest = longest
        self._clock = clock
        self.waiters: deque[asyncio.Future[bool]] = deque()

    def __len__(self) -> int:
        return len(self.waiters)

    async def wait(self, deadline_s: float, *, first: bool = False) -> None:
        """
        Return when it is worth looking again; *first* is for who looked and found nothing.

        Cancelling it leaves the line; if its turn had just come, the turn goes to the next.

        Raises:
            UpstreamTimeout: *deadline_s* passed first; the call was never sent.
            UpstreamUnavailable: The line is full.
        """
        remaining_s = deadline_s - self._clock.monotonic_s()
        if remaining_s <= 0:
            raise UpstreamTimeout(
                f"{self._what}: the deadline passed before the call had a place", sent=False
            )
        if len(self.waiters) >= self._longest:
            raise UpstreamUnavailable(
                f"{self._what}: all streams are taken and {self._longest} calls wait already", sent=False
            )
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if first:
            self.waiters.appendleft(turn)
        else:
            self.waiters.append(turn)

        def too_late() -> None:
            if not turn.done():
                self.waiters.remove(turn)
                turn.set_result(False)

        timer = self._clock.call_later(remaining_s, too_late)
        try:
            told = await turn
        except asyncio.CancelledError:
            # The caller left. If it was told to look in the same tick, that place is somebody else's now.
            if turn in self.waiters:
                self.waiters.remove(turn)
            else:
                self.tell_one()
            raise
        finally:
            timer.cancel()
        if not told:
            raise UpstreamTimeout(f"{self._what}: no place for the call within its deadline", sent=False)

    def tell_one(self) -> None:
        """Tell the first in line to look again."""
        while self.waiters:
            turn = self.waiters.popleft()
            # One that was cancelled in this very tick has not left the line yet.
            if not turn.done():
                turn.set_result(True)
                return

    def tell_all(self) -> None:
        """Tell everybody to look again."""
        for _ in range(len(self.waiters)):
            self.tell_one()
