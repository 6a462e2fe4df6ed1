"""
One primary of a store: its lanes, its breaker, and whoever looks after both.

A store of one server is one shard; a cluster has several, each with a breaker of its own, so that the
others go on when one fails. Three connections, so that no kind of work can starve another: hot (scripts
of the request path), general (everything else), and a probe that nobody shares. Probes never run on the
request path. While the breaker is open every call on the hot and general lanes fails at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from silence_gateway.clock import Clock, Timer
from silence_gateway.core.store_failover import (
    CALLS_REFUSED,
    MENDED_BY_HAND,
    Failover,
    FailoverPolicy,
    Fault,
    Move,
    State,
)
from silence_gateway.errors import StoreFault
from silence_gateway.stores.batching import Pipeline, Redirect
from silence_gateway.stores.client import Wire, fault_error
from silence_gateway.stores.dialing import GENERAL, HOT, PROBE, Pace
from silence_gateway.stores.lane_counts import LaneCounts
from silence_gateway.stores.settings import StoreSettings

BEAT_S = 1.0
# While something is suspect, how long until the next look.
SUSPECT_LOOK_S = 0.05
# After an outage this many looks in a row must be answered: one good moment of a store that stalls again
# and again would let requests wait for it anew, and write two log lines each time.
LOOKS_AFTER_OUTAGE = 3
CALLS_SERVED = frozenset({State.UP, State.SUSPECT})
# Troubles of single commands: the store answers, and everything else may go on.
WRITE_FAULTS = frozenset({Fault.CAPACITY, Fault.PERMISSION, Fault.REFUSED})
# What a shard may answer that is healthy, and no longer has what was asked for.
ELSEWHERE = frozenset({Fault.MOVED})


class ShardOwner(Protocol):
    """Whom a shard tells what happens, and who knows what a sign of life looks like."""

    def shard_moved(self, shard: Shard, move: Move) -> None:
        """The breaker has changed its state."""

    def shard_noticed(self, shard: Shard, fault: Fault, reason: str) -> None:
        """One command was refused, while everything else may go on."""

    def shard_takes_writes(self, shard: Shard) -> None:
        """The primary, which took no writes, takes them again."""

    def shard_beat(self, shard: Shard) -> Awaitable[int] | None:
        """Send this instance's sign of life on the probe lane; None where the shard has no place for it."""

    def shard_alive(self, shard: Shard, instances: int) -> None:
        """The sign of life was taken, and so many instances are alive."""

    def proof_changed(self) -> bool:
        """Whether credentials or certificates are others than at the last look."""


class ProbeWatcher:
    """Remembers what the probe lane ran into; the verdict is the supervisor's."""

    def __init__(self) -> None:
        self.fault = Fault.UNREACHABLE
        self.reason = ""

    def call_succeeded(self) -> None:
        """The supervisor sees for itself."""

    def call_failed(self, fault: Fault, reason: str) -> None:
        """Keep the last trouble."""
        self.fault, self.reason = fault, reason


class Shard:
    """
    One primary.

    Args:
        name: How people call it; empty where there is only one.
        open_wire: Connects a lane, by the lane's name.
        pace: When a lane may make a new connection.
        owner: Whom to tell.
        draw: Returns a random number in [0, 1), for waits.
        redirect: Takes over calls that the server says are another's.
        counts: Where each kind of lane counts what it does.

    Attributes:
        hot: The lane of the request path, bounded by `StoreSettings.deadline_s`.
        general: The lane of everything else, bounded by `StoreSettings.general_deadline_s`.
        up: Whether the primary answers, as far as is known. A plain attribute, because every request looks.
        refuses_writes: Why the server, which answers, takes no writes; empty while it does.
    """

    def __init__(
        self,
        name: str,
        open_wire: Callable[[str], Awaitable[Wire]],
        pace: Pace,
        settings: StoreSettings,
        clock: Clock,
        owner: ShardOwner,
        draw: Callable[[], float],
        redirect: Redirect | None = None,
        counts: Mapping[str, LaneCounts] | None = None,
    ) -> None:
        self.name = name
        self.open_wire = open_wire
        self.pace = pace
        self.settings = settings
        self.clock = clock
        self.owner = owner
        self.draw = draw
        self.failover = Failover(
            FailoverPolicy(failures=settings.failures, cool_down_us=round(settings.cool_down_s * 1_000_000))
        )
        self.up = False
        self.opened_s = 0.0
        self.probe_watcher = ProbeWatcher()
        counts = counts or {}
        self.hot = self.lane(HOT, self, settings.deadline_s, redirect, counts)
        self.general = self.lane(GENERAL, self, settings.general_deadline_s, redirect, counts)
        self.probe = self.lane(PROBE, self.probe_watcher, settings.deadline_s, None, counts)
        self.task: asyncio.Task[None] | None = None
        self.first_look = asyncio.Event()
        self.hurry = asyncio.Event()
        self.mended = asyncio.Event()
        self.refuses_writes = ""

    def lane(
        self,
        kind: str,
        watcher: Shard | ProbeWatcher,
        deadline_s: float,
        redirect: Redirect | None,
        counts: Mapping[str, LaneCounts],
    ) -> Pipeline:
        """A lane with a connection of its own."""
        full_name = f"{self.name}/{kind}" if self.name else kind
        return Pipeline(
            lambda: self.open_wire(full_name),
            self.clock,
            watcher,
            deadline_s=deadline_s,
            silence_s=max(self.settings.silence_s, deadline_s),
            turn=lambda: self.pace.wait(full_name),
            redirect=redirect,
            counts=counts.get(kind),
        )

    @property
    def lanes(self) -> Sequence[Pipeline]:
        """Every lane."""
        return (self.hot, self.general, self.probe)

    def start(self) -> None:
        """Begin to look after the lanes."""
        if self.task is None:
            self.task = asyncio.get_running_loop().create_task(self.supervise())

    async def stop(self) -> None:
        """Close every connection."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        for lane in self.lanes:
            await lane.stop()

    def look_now(self) -> None:
        """While it is away: look at once, because there is reason to think that this is over."""
        self.mended.set()

    def replaced(self) -> float | None:
        """Others have its slots now; returns how long it had been away (seconds), or None if it was not."""
        if not self.failover.down:
            return None
        self.failover.down = False
        return (self.now_us() - self.failover.down_since_us) / 1_000_000

    # -- what the lanes report ------------------------------------------------------------------------

    def call_succeeded(self) -> None:
        """Answers arrived in time."""
        if self.failover.failures:
            self.after(self.failover.on_success(self.now_us()))

    def call_failed(self, fault: Fault, reason: str) -> None:
        """A call failed, was late, or was refused."""
        self.after(self.failover.on_failure(fault, reason, self.now_us()))
        if fault in WRITE_FAULTS:
            self.owner.shard_noticed(self, fault, reason)

    def after(self, move: Move | None) -> None:
        """Carry out what a change of state means."""
        if move is None:
            return
        self.up = move.new in CALLS_SERVED
        if move.new is State.OPEN:
            self.opened_s = self.clock.monotonic_s()
        refusal = self.refused if move.new in CALLS_REFUSED else None
        self.hot.refusal = self.general.refusal = refusal
        if move.new is State.UP:
            # What a lane met when it last tried speaks against the server no more.
            self.hot.refused_for = self.general.refused_for = ""
        self.pace.set_away(refusal is not None)
        if move.new in (State.SUSPECT, State.OPEN):
            self.hurry.set()
        self.owner.shard_moved(self, move)

    def refused(self) -> StoreFault:
        """The error of a call while the breaker is open."""
        fault = self.failover.fault or Fault.UNREACHABLE
        return fault_error(fault, f"the store is away: {self.failover.reason}", sent=False)

    def now_us(self) -> int:
        """Microseconds on the clock that never steps back."""
        return round(self.clock.monotonic_s() * 1_000_000)

    # -- probing --------------------------------------------------------------------------------------

    async def supervise(self) -> None:
        """Look at the primary for ever: often when something is wrong, else once a beat."""
        while True:
            self.hurry.clear()
            self.mended.clear()
            looked_s = self.clock.monotonic_s()
            await self.look()
            self.first_look.set()
            state = self.failover.state
            if state is State.OPEN:
                await self.cool_down()
                self.after(self.failover.on_cool_down_over(self.now_us()))
            elif state is State.SUSPECT:
                await self.clock.sleep(SUSPECT_LOOK_S)
            else:
                await self.wait(self.hurry, BEAT_S)
                # However many calls fail one by one, they are no reason to look more often than this.
                await self.clock.sleep(max(0.0, looked_s + SUSPECT_LOOK_S - self.clock.monotonic_s()))

    async def cool_down(self) -> None:
        """
        Wait before the next probe; what is mended by hand is tried as soon as a hand was seen.

        Counted from when the breaker opened: a look that was under way then may have waited long for its turn
        to connect, and need not wait again.
        """
        left_s = self.failover.cool_down_us(self.draw()) / 1_000_000
        left_s -= self.clock.monotonic_s() - self.opened_s
        while left_s > 0:
            step_s = min(left_s, self.settings.cool_down_s)
            if await self.wait(self.mended, step_s):
                return
            left_s -= step_s
            if self.failover.fault in MENDED_BY_HAND and self.owner.proof_changed():
                return

    async def wait(self, sooner: asyncio.Event, delay_s: float) -> bool:
        """Wait, unless *sooner* is set meanwhile; returns whether it was."""
        over = False

        def on_over() -> None:
            nonlocal over
            over = not sooner.is_set()
            sooner.set()

        timer: Timer = self.clock.call_later(delay_s, on_over)
        try:
            await sooner.wait()
        finally:
            timer.cancel()
            if over:
                sooner.clear()
        return not over

    async def look(self) -> None:
        """
        Probe once: a PING, and a script that writes, which is also our sign of life.

        The hot lane must stand as well, and is made to; the general one follows when it can.
        """
        if self.failover.state is State.OPEN:
            return
        watcher = self.probe_watcher
        watcher.reason = ""
        connected = await self.probe.connect()
        if connected:
            if not await self.beat():
                return
            if self.failover.state is State.PROBING:
                for _ in range(LOOKS_AFTER_OUTAGE - 1):
                    await self.clock.sleep(SUSPECT_LOOK_S)
                    if not await self.beat():
                        return
            connected = await self.hot.connect()
        if connected:
            self.after(self.failover.on_probe_success(self.now_us()))
            for lane in (self.hot, self.general) if self.up else ():
                # An idle lane that has died is replaced before somebody needs it: unanswered, it counts as
                # silent and is closed.
                if lane.connected:
                    lane.call(b"PING")
                else:
                    lane.start_connecting()
        else:
            reason = watcher.reason or "a lane could not connect"
            self.after(self.failover.on_probe_failure(watcher.fault, reason, self.now_us()))

    async def beat(self) -> bool:
        """Ask and write once on the probe lane; False, and reported, when the store does not answer."""
        watcher = self.probe_watcher
        ping = self.probe.call(b"PING")
        beat = self.owner.shard_beat(self)
        try:
            await ping
            if beat is not None:
                self.owner.shard_alive(self, int(await beat))
        except StoreFault as exc:
            if watcher.fault in ELSEWHERE and watcher.reason:
                return True
            if watcher.fault not in WRITE_FAULTS or not watcher.reason:
                reason = watcher.reason or str(exc)
                self.after(self.failover.on_probe_failure(watcher.fault, reason, self.now_us()))
                return False
            # A store that is full, or forbids one command, still answers: calls speak for themselves.
            self.refuses_writes = watcher.reason
            self.call_failed(watcher.fault, watcher.reason)
        else:
            if self.refuses_writes:
                self.refuses_writes = ""
                self.owner.shard_takes_writes(self)
        return True
