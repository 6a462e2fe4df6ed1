"""
The store of a fleet: lanes, breaker, bus, board and the register of live instances, tied together.

Four connections, so that no kind of work can starve another: hot (scripts of the request path), general
(everything else), the bus's subscriber, and a probe that nobody shares. Probes never run on the request
path. While the breaker is open every call on the hot and general lanes fails at once.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable

from silence_gateway.clock import Clock, SystemClock, Timer
from silence_gateway.core.store_failover import (
    CALLS_REFUSED,
    Failover,
    FailoverPolicy,
    Fault,
    Move,
    State,
)
from silence_gateway.errors import ConfigError, StoreFault
from silence_gateway.events import Noticed, Observer, StoreFound, StoreLost, nobody
from silence_gateway.stores import keys
from silence_gateway.stores.batching import Pipeline
from silence_gateway.stores.board import ValkeyBoard, read_script
from silence_gateway.stores.bus import ValkeyBus
from silence_gateway.stores.client import Wire, dial, fault_error
from silence_gateway.stores.contracts import Board, Bus, ScriptPoster, ScriptRunner
from silence_gateway.stores.settings import StoreSettings

BEAT = read_script("beat")
BEAT_S = 1.0
# Four missed beats and a bit: an instance that hangs for less stays counted.
LIFETIME_S = 5.0
# While something is suspect, how long until the next look.
SUSPECT_LOOK_S = 0.05
# After an outage this many looks in a row must be answered: one good moment of a store that stalls again
# and again would let requests wait for it anew, and write two log lines each time.
LOOKS_AFTER_OUTAGE = 3
# Troubles of single commands: the store answers, and everything else may go on.
WRITE_FAULTS = frozenset({Fault.CAPACITY, Fault.PERMISSION, Fault.REFUSED})
# A trouble that concerns single commands is worth one line now and then, not one per call.
NOTICE_EVERY_S = 60.0


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


class ValkeyStore:
    """
    A `Store` in Valkey or Redis, shared by every instance of the same *fleet*.

    Attributes:
        scripts: The hot lane: for the request path, bounded by `StoreSettings.deadline_s`.
        general: The general lane: for the rest, bounded by `StoreSettings.general_deadline_s`.
        transitions: How often the breaker moved.
        refuses_writes: Why the store, which answers, takes no writes; empty while it does.
    """

    def __init__(
        self,
        settings: StoreSettings | str,
        fleet: str,
        *,
        clock: Clock | None = None,
        observer: Observer = nobody,
        instance_id: str = "",
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.settings = StoreSettings(url=settings) if isinstance(settings, str) else settings
        self.address = self.settings.address
        if self.address.scheme != "valkey":
            raise ConfigError(f"{self.address} is not the address of a server; use `open_store`")
        self.fleet = fleet
        self.clock: Clock = clock or SystemClock()
        self.observer = observer
        self.id = instance_id or secrets.token_hex(8)
        self.draw = draw
        self.failover = Failover(
            FailoverPolicy(
                failures=self.settings.failures, cool_down_us=round(self.settings.cool_down_s * 1_000_000)
            )
        )
        self.probe_watcher = ProbeWatcher()
        self.hot = self.lane("hot", self, self.settings.deadline_s)
        self.general_lane = self.lane("general", self, self.settings.general_deadline_s)
        self.probe_lane = self.lane("probe", self.probe_watcher, self.settings.deadline_s)
        self.scripts: ScriptPoster = self.hot
        self.general: ScriptRunner = self.general_lane
        self.valkey_bus = ValkeyBus(
            self.opener("subscriber"), self.general_lane, self.clock, draw, fleet=fleet, instance_id=self.id
        )
        self.valkey_board = ValkeyBoard(
            self.general_lane, self.valkey_bus, self.clock, draw, fleet=fleet, instance_id=self.id
        )
        self.bus: Bus = self.valkey_bus
        self.board: Board = self.valkey_board
        self.live = 1
        self.live_seen_s = 0.0
        self.task: asyncio.Task[None] | None = None
        self.first_look = asyncio.Event()
        self.hurry = asyncio.Event()
        self.noticed: dict[Fault, float] = {}
        self.transitions = 0
        self.refuses_writes = ""

    # -- the contract ---------------------------------------------------------------------------------

    @property
    def up(self) -> bool:
        """Whether the store answers, as far as is known."""
        return self.failover.state in (State.UP, State.SUSPECT)

    @property
    def state(self) -> State:
        """Where the breaker stands."""
        return self.failover.state

    @property
    def instance_id(self) -> str:
        """This process's name in the fleet."""
        return self.id

    @property
    def live_instances(self) -> int:
        """How many instances were alive when the store last answered; at least 1."""
        return self.live

    async def start(self) -> None:
        """Begin. A store that is there is usable on return; one that is away costs two deadlines."""
        if self.task is not None:
            return
        self.valkey_bus.start()
        self.valkey_board.start()
        self.task = asyncio.get_running_loop().create_task(self.supervise())
        timer = self.clock.call_later(2 * self.settings.deadline_s, self.first_look.set)
        await self.first_look.wait()
        timer.cancel()

    async def stop(self) -> None:
        """Leave the fleet and close every connection."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        await self.valkey_board.stop()
        if self.up:
            leave = self.probe_lane.run(
                BEAT, [keys.instances(self.fleet)], [b"L", self.id.encode(), micros(LIFETIME_S)]
            )
            await asyncio.gather(leave, return_exceptions=True)
        await self.valkey_bus.stop()
        for lane in (self.hot, self.general_lane, self.probe_lane):
            await lane.stop()

    # -- lanes ----------------------------------------------------------------------------------------

    def opener(self, name: str) -> Callable[[], Awaitable[Wire]]:
        """How to open a connection for the lane *name*."""
        client_name = f"silence:{keys.part(self.fleet)}:{name}:{self.id}"[:100]

        async def open_wire() -> Wire:
            return await dial(
                self.address, deadline_s=self.settings.connect_deadline_s, client_name=client_name
            )

        return open_wire

    def lane(self, name: str, watcher: ValkeyStore | ProbeWatcher, deadline_s: float) -> Pipeline:
        """A lane of its own connection."""
        return Pipeline(
            self.opener(name),
            self.clock,
            watcher,
            deadline_s=deadline_s,
            silence_s=max(self.settings.silence_s, deadline_s),
        )

    # -- what the lanes report ------------------------------------------------------------------------

    def call_succeeded(self) -> None:
        """Answers arrived in time."""
        if self.failover.failures:
            self.after(self.failover.on_success(self.now_us()))

    def call_failed(self, fault: Fault, reason: str) -> None:
        """A call failed, was late, or was refused."""
        self.after(self.failover.on_failure(fault, reason, self.now_us()))
        if fault in WRITE_FAULTS:
            now_s = self.clock.monotonic_s()
            if now_s >= self.noticed.get(fault, 0.0):
                self.noticed[fault] = now_s + NOTICE_EVERY_S
                self.observer(Noticed(what=f"the store refused a command: {reason}", loudness="error"))

    def after(self, move: Move | None) -> None:
        """Carry out what a change of state means."""
        if move is None:
            return
        self.transitions += 1
        refusal = self.refused if move.new in CALLS_REFUSED else None
        self.hot.refusal = self.general_lane.refusal = refusal
        if move.new in (State.SUSPECT, State.OPEN):
            self.hurry.set()
        if move.lost:
            self.observer(StoreLost(reason=self.failover.reason))
        if move.new is State.UP and move.old is not State.SUSPECT:
            self.live_seen_s = self.clock.monotonic_s()
            self.valkey_board.poll()
            self.valkey_bus.on_store_found()
        if move.found:
            self.observer(StoreFound(down_s=(self.now_us() - self.failover.down_since_us) / 1_000_000))

    def refused(self) -> StoreFault:
        """The error of a call while the breaker is open."""
        return fault_error(
            self.failover.fault or Fault.UNREACHABLE, f"the store is away: {self.failover.reason}"
        )

    def now_us(self) -> int:
        """Microseconds on the clock that never steps back."""
        return round(self.clock.monotonic_s() * 1_000_000)

    # -- probing --------------------------------------------------------------------------------------

    async def supervise(self) -> None:
        """Look at the store for ever: often when something is wrong, else once a beat."""
        while True:
            self.hurry.clear()
            await self.look()
            self.first_look.set()
            state = self.failover.state
            if state is State.OPEN:
                await self.clock.sleep(self.failover.cool_down_us(self.draw()) / 1_000_000)
                self.after(self.failover.on_cool_down_over(self.now_us()))
            elif state is State.SUSPECT:
                await self.clock.sleep(SUSPECT_LOOK_S)
            else:
                await self.wait(BEAT_S)

    async def wait(self, delay_s: float) -> None:
        """Wait, unless something becomes suspect meanwhile."""
        timer: Timer = self.clock.call_later(delay_s, self.hurry.set)
        try:
            await self.hurry.wait()
        finally:
            timer.cancel()

    async def look(self) -> None:
        """
        Probe once: a PING, and a script that writes, which is also our sign of life.

        The hot and general lanes must stand as well, and are made to.
        """
        if self.failover.state is State.OPEN:
            return
        watcher = self.probe_watcher
        watcher.reason = ""
        connected = await self.probe_lane.connect()
        if connected:
            if not await self.beat():
                return
            if self.failover.state is State.PROBING:
                for _ in range(LOOKS_AFTER_OUTAGE - 1):
                    await self.clock.sleep(SUSPECT_LOOK_S)
                    if not await self.beat():
                        return
            connected = all(await asyncio.gather(self.hot.connect(), self.general_lane.connect()))
        if connected and self.up:
            # An idle lane that has died is replaced before somebody needs it: unanswered, it counts as
            # silent and is closed.
            self.hot.call(b"PING")
            self.general_lane.call(b"PING")
        if connected:
            self.after(self.failover.on_probe_success(self.now_us()))
        else:
            reason = watcher.reason or "a lane could not connect"
            self.after(self.failover.on_probe_failure(watcher.fault, reason, self.now_us()))

    async def beat(self) -> bool:
        """Ask and write once on the probe lane; False, and reported, when the store does not answer."""
        watcher = self.probe_watcher
        ping = self.probe_lane.call(b"PING")
        beat = self.probe_lane.run(
            BEAT, [keys.instances(self.fleet)], [b"A", self.id.encode(), micros(LIFETIME_S)]
        )
        try:
            await ping
            self.on_beat(int(await beat))
        except StoreFault as exc:
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
                self.observer(Noticed(what="the store takes writes again"))
        return True

    def on_beat(self, count: int) -> None:
        """Count the living: more is believed at once, fewer only when it stays so."""
        now_s = self.clock.monotonic_s()
        if count >= self.live or now_s - self.live_seen_s > LIFETIME_S:
            self.live = max(1, count)
            self.live_seen_s = now_s


def micros(seconds: float) -> int:
    """Whole microseconds."""
    return round(seconds * 1_000_000)
