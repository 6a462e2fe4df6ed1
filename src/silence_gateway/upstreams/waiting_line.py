"""
Calls that wait for a place: bounded in number, each in time.

A call waits only while there is hope (a connection is on the way, or all streams are taken), and is told
to look again; it is not handed a place. Nobody's deadline is outlived here. With shedding
(`core/shedding.py`) the important are told first, and who has waited longer than makes sense is refused.
"""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum
from typing import TypeAlias

from silence_gateway.clock import Clock
from silence_gateway.core.shedding import Importance, LineWatch, SheddingRules
from silence_gateway.errors import UpstreamTimeout, UpstreamUnavailable


class Told(Enum):
    """What somebody in line was told."""

    LOOK_AGAIN = "look again"
    TOO_LATE = "too late"
    SHED = "shed"


Turn: TypeAlias = "tuple[int, asyncio.Future[Told]]"
"""The number of somebody in line, smaller for who came earlier, and what is told."""


class WaitingLine:
    """
    First come, first told; with *shedding*, among those of one importance.

    Attributes:
        waiting: How many wait. Looked at for every call, so it is a plain number.
        shed: How many were refused to keep the line short, by importance.
    """

    __slots__ = ("_clock", "_interval_s", "_last", "_lines", "_longest", "_watch", "_what", "shed", "waiting")

    def __init__(self, what: str, longest: int, clock: Clock, shedding: SheddingRules | None = None) -> None:
        self._what = what
        self._longest = longest
        self._clock = clock
        self._lines: tuple[deque[Turn], ...] = tuple(deque() for _ in Importance)
        self._watch = None if shedding is None else LineWatch(shedding, self._now_us())
        # Sooner the line can hardly have gone; whoever obeys comes a second later, as HTTP counts in seconds.
        self._interval_s = None if shedding is None else shedding.interval_us / 1e6
        self._last = 0
        self.waiting = 0
        self.shed = [0] * len(Importance)

    def __len__(self) -> int:
        return self.waiting

    def patience_ends_s(self, importance: Importance) -> float | None:
        """Return until when a call that comes now may wait for others to end; None without shedding."""
        if self._watch is None:
            return None
        now_us = self._now_us()
        self._saw(now_us)
        return (now_us + self._watch.patience_us(importance, now_us)) / 1e6

    async def wait(
        self,
        deadline_s: float,
        *,
        number: int | None = None,
        importance: Importance = Importance.NORMAL,
        patience_ends_s: float | None = None,
    ) -> int:
        """
        Return a number when it is worth looking again; who found nothing keeps its place by that *number*.

        Cancelling it leaves the line; if its turn had just come, the turn goes to the next.

        Raises:
            UpstreamTimeout: *deadline_s* passed first; the call was never sent.
            UpstreamUnavailable: The line is full, or *patience_ends_s* passed first, or somebody more
                important needed the room.
        """
        if self._watch is None:
            importance = Importance.NORMAL
        now_s = self._clock.monotonic_s()
        if deadline_s <= now_s:
            raise UpstreamTimeout(
                f"{self._what}: the deadline passed before the call had a place", sent=False
            )
        if number is None and self.waiting >= self._longest and not self._make_room(importance):
            raise UpstreamUnavailable(
                f"{self._what}: there is no place, and {self._longest} calls wait for one already",
                sent=False,
                overloaded=True,
            )
        if number is None:
            self._last = number = self._last + 1
        answer: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        turn, line = (number, answer), self._lines[importance]
        _join(line, turn)
        self.waiting += 1
        until_s, outcome = deadline_s, Told.TOO_LATE
        if patience_ends_s is not None and patience_ends_s < deadline_s:
            until_s, outcome = patience_ends_s, Told.SHED

        def too_late() -> None:
            if not answer.done():
                self._leave(line, turn)
                answer.set_result(outcome)

        timer = self._clock.call_later(max(0.0, until_s - now_s), too_late)
        try:
            told = await answer
        except asyncio.CancelledError:
            # The caller left. If it was told to look in the same tick, that place is somebody else's now.
            if turn in line:
                self._leave(line, turn)
            else:
                self.tell_one()
            raise
        finally:
            timer.cancel()
        if told is Told.TOO_LATE:
            raise UpstreamTimeout(f"{self._what}: no place for the call within its deadline", sent=False)
        if told is Told.SHED:
            self.shed[importance] += 1
            raise UpstreamUnavailable(
                f"{self._what}: overloaded; a call of {importance.name.lower()} importance was shed",
                sent=False,
                overloaded=True,
                retry_after_s=self._interval_s,
            )
        return number

    def tell_one(self) -> None:
        """Tell the first in line to look again."""
        for line in reversed(self._lines):
            while line:
                _, answer = line.popleft()
                self._left()
                # One that was cancelled in this very tick has not left the line yet.
                if not answer.done():
                    answer.set_result(Told.LOOK_AGAIN)
                    return

    def tell_all(self) -> None:
        """Tell everybody to look again."""
        for _ in range(self.waiting):
            self.tell_one()

    def _make_room(self, importance: Importance) -> bool:
        """Shed the last of those who matter least, if they matter less than *importance*."""
        for line in self._lines[:importance]:
            while line:
                _, answer = line.pop()
                self._left()
                if not answer.done():
                    answer.set_result(Told.SHED)
                    return True
        return False

    def _leave(self, line: deque[Turn], turn: Turn) -> None:
        line.remove(turn)
        self._left()

    def _left(self) -> None:
        self.waiting -= 1
        if self._watch is not None:
            self._saw(self._now_us())

    def _saw(self, now_us: int) -> None:
        assert self._watch is not None
        self._watch.saw([len(line) for line in self._lines], now_us)

    def _now_us(self) -> int:
        return int(self._clock.monotonic_s() * 1e6)


def _join(line: deque[Turn], turn: Turn) -> None:
    """Put *turn* where it belongs: first if it was told alone and came back, last if it is new."""
    if line and turn[0] < line[0][0]:
        line.appendleft(turn)
        return
    at = len(line)
    # Those that were told together come back one after the other, behind each other and before newcomers.
    while at and line[at - 1][0] > turn[0]:
        at -= 1
    line.insert(at, turn)
