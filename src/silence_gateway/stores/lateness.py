"""
When the calls of a lane are late, and when its connection is silent: two questions, and two timers.

What was sent in one loop tick shares one deadline. A call that missed it fails, and its connection stays:
the answer that comes later belongs to a call that nobody waits for. A connection is closed only when it owes
answers and has said nothing at all for a while.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from silence_gateway.clock import Clock, Timer
from silence_gateway.core.store_failover import Fault
from silence_gateway.errors import StoreUnavailable
from silence_gateway.stores.calls import Batch, Call, Watcher
from silence_gateway.stores.client import Wire
from silence_gateway.stores.lane_counts import LaneCounts

# When the event loop itself was late by this much, answers may lie unread in the socket: read first.
LOOP_LATE_S = 0.004
TIMER_GRAIN_S = 0.001


class Lateness:
    """
    Batches on their way, the earliest deadline first, and the timer that ends them.

    Args:
        clock: When calls are late.
        deadline_s: How long a call may take.
        watcher: Who is told of a late batch.
        counts: Where late calls are counted.
        on_expired: Called after calls have failed for being late.
    """

    __slots__ = (
        "batches",
        "clock",
        "counts",
        "deadline_s",
        "on_expired",
        "postponed",
        "timer",
        "watcher",
    )

    def __init__(
        self,
        clock: Clock,
        deadline_s: float,
        watcher: Watcher,
        counts: LaneCounts,
        on_expired: Callable[[], None],
    ) -> None:
        self.clock = clock
        self.deadline_s = deadline_s
        self.watcher = watcher
        self.counts = counts
        self.on_expired = on_expired
        self.batches: deque[Batch] = deque()
        self.timer: Timer | None = None
        self.postponed = False

    def begin(self, calls: list[Call]) -> None:
        """*calls* leave now, together."""
        batches = self.batches
        while batches and not batches[0].left:
            # A batch and its calls know each other: without this they would wait for the garbage collector.
            batches.popleft().calls.clear()
        batches.append(Batch(calls, self.clock.monotonic_s() + self.deadline_s))
        if self.timer is None:
            self.timer = self.clock.call_later(self.deadline_s, self.on_timer)

    def join(self, call: Call, due_s: float) -> None:
        """*call*, which another server has turned away, goes on with the deadline that it came with."""
        batches = self.batches
        at = len(batches)
        while at and batches[at - 1].due_s > due_s:
            at -= 1
        batches.insert(at, Batch([call], due_s))
        if at == 0:
            if self.timer is not None:
                self.timer.cancel()
            self.timer = self.clock.call_later(
                max(TIMER_GRAIN_S, due_s - self.clock.monotonic_s()), self.on_timer
            )

    def on_timer(self) -> None:
        """Fail the calls whose deadline has passed and wait for the next."""
        self.timer = None
        batches = self.batches
        now_s = self.clock.monotonic_s()
        while batches and not batches[0].left:
            batches.popleft().calls.clear()
        if not batches:
            self.postponed = False
            return
        late_s = now_s - batches[0].due_s
        if late_s >= 0:
            if late_s > LOOP_LATE_S and not self.postponed:
                self.postponed = True
                self.timer = self.clock.call_later(TIMER_GRAIN_S, self.on_timer)
                return
            self.postponed = False
            self.expire(now_s)
        if batches and self.timer is None:
            self.timer = self.clock.call_later(max(TIMER_GRAIN_S, batches[0].due_s - now_s), self.on_timer)

    def expire(self, now_s: float) -> None:
        """Fail every call that is past its deadline."""
        batches = self.batches
        while batches and batches[0].due_s <= now_s:
            batch = batches.popleft()
            for call in batch.calls:
                call.batch = None
                if not call.gone():
                    self.counts.expired += 1
                    said = f"no answer from the store within {self.deadline_s:g} s"
                    call.fail(StoreUnavailable(said, sent=batch.sent))
            if batch.left and batch.sent:
                self.watcher.call_failed(Fault.SLOW, f"no answer within {self.deadline_s:g} s")
        self.on_expired()

    def stop(self) -> None:
        """Wait for nothing any more."""
        if self.timer is not None:
            self.timer.cancel()


class Silence:
    """
    Closes a connection that owes answers and says nothing.

    Args:
        clock: What measures the silence.
        silence_s: How long it may last.
        owes: Whether answers are owed.
    """

    __slots__ = ("clock", "owes", "silence_s", "timer")

    def __init__(self, clock: Clock, silence_s: float, owes: Callable[[], bool]) -> None:
        self.clock = clock
        self.silence_s = silence_s
        self.owes = owes
        self.timer: Timer | None = None

    def watch(self, wire: Wire, wait_s: float) -> None:
        """Close *wire* unless it says something within *wait_s*; harmless while it is watched."""
        if self.timer is not None:
            return
        reads = wire.reads

        def look() -> None:
            self.timer = None
            if not self.owes():
                return
            if wire.reads == reads:
                wire.close(f"silent for {self.silence_s:g} s with answers owed")
            else:
                self.watch(wire, self.silence_s)

        self.timer = self.clock.call_later(wait_s, look)

    def end(self) -> None:
        """There is no connection any more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
