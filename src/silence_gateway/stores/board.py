"""
The board in Valkey: a hash per room, every change pushed, every watcher with a copy.

Correctness rests on the version of a room, not on the pushes: a push says which version it follows, so
a lost one is noticed at the next; and every few seconds each watched room is asked for its version. A room
is read as a whole only if something is missing, and one at a time: 3,000 values take 5 ms of the server.
While the store is away the copies stay, own writes are kept and written on its return if still alive. A
server that lost its data is given back what the copies still hold.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from importlib.resources import files
from typing import Any

from silence_gateway.clock import Clock, Timer
from silence_gateway.errors import StoreFault, StoreMisconfigured, StoreUnavailable
from silence_gateway.stores import keys
from silence_gateway.stores.board_room import Push, Room
from silence_gateway.stores.bus import ValkeyBus
from silence_gateway.stores.compression import Compression, unpack
from silence_gateway.stores.contracts import Script, ScriptRunner
from silence_gateway.stores.rooms import Cell, OnChange, OnEnd, RoomCopy, check_fact

POLL_S = 4.0
# How long the push of a change that was seen at the store may still be on its way.
PUSH_GRACE_S = 0.25
MAX_VALUES = 10_000
# Writes of one room on their way together, where there are many: some milliseconds of the server's time,
# and of ours. A room of thousands would otherwise wait longer than a call may take.
AT_ONCE = 64


def read_script(name: str) -> Script:
    """A script of this package."""
    return Script(name, files("silence_gateway.stores").joinpath(f"scripts/{name}.lua").read_text())


WRITE = read_script("board_write")
READ = read_script("board_read")
LEAD = read_script("board_lead")


class ValkeyBoard:
    """
    The `Board` of one `ValkeyStore`.

    Plain counters: `pushes`, `missed`, `reads`, `restored`, `unreadable`.
    """

    def __init__(
        self,
        general: ScriptRunner,
        bus: ValkeyBus,
        clock: Clock,
        draw: Callable[[], float],
        *,
        fleet: str,
        instance_id: str,
        compress_over: int = 1024,
    ) -> None:
        self.general = general
        self.compression = Compression(compress_over)
        self.bus = bus
        self.clock = clock
        self.draw = draw
        self.fleet = fleet
        self.instance_id = instance_id
        self.rooms: dict[str, Room] = {}
        self.held: dict[tuple[str, str], float] = {}
        self.timer: Timer | None = None
        self.started = False
        self.background: set[asyncio.Task[None]] = set()
        self.one_at_a_time = asyncio.Lock()
        self.pushes = self.missed = self.reads = self.restored = self.unreadable = 0

    # -- the contract ---------------------------------------------------------------------------------

    async def put(self, room: str, name: str, value: bytes, ttl_s: float | None = None) -> None:
        """Write one value; it is seen by this instance even when StoreUnavailable is raised."""
        check_fact(name, value, ttl_s)
        entry = self.room(room)
        await self.send(entry, name, entry.copy.write(name, value, ttl_s), ttl_s)

    async def remove(self, room: str, name: str) -> None:
        """Remove one value; this instance forgets it even when StoreUnavailable is raised."""
        check_fact(name, None, None)
        entry = self.room(room)
        await self.send(entry, name, entry.copy.write(name, None, None), None)

    def watch(
        self, room: str, on_change: OnChange | None = None, on_end: OnEnd | None = None
    ) -> Mapping[str, bytes]:
        """Keep a copy of *room* and return that live, read-only copy."""
        entry = self.room(room)
        if on_change is not None:
            entry.copy.listen(on_change, on_end)
        if not entry.watched:
            entry.watched = True
            entry.forget()
            entry.subscription = self.bus.subscribe(
                self.channel(room),
                lambda payload: self.on_push(entry, payload),
                lambda: self.read_soon(entry),
            )
            if self.started:
                self.read_soon(entry)
        return entry.copy.public

    async def known(self, room: str) -> None:
        """Wait until the copy of *room* is what the store says, the first time."""
        await self.room(room).known.wait()

    async def lead(self, room: str, name: str, ttl_s: float) -> int:
        """Hold the lease, or return 0 when another instance does."""
        check_fact(name, None, ttl_s)
        key = keys.board_lease(self.fleet, room, name)
        asked_s = self.clock.monotonic_s()
        fence = int(await self.general.run(LEAD, [key], [b"T", self.instance_id.encode(), micros(ttl_s)]))
        if fence:
            self.held[room, name] = asked_s + ttl_s
        else:
            self.held.pop((room, name), None)
        return fence

    # -- writing --------------------------------------------------------------------------------------

    def room(self, name: str) -> Room:
        """What is kept about *name*, from now on."""
        entry = self.rooms.get(name)
        if entry is None:
            entry = self.rooms[name] = Room(name, keys.board_room(self.fleet, name), RoomCopy(self.clock))
        return entry

    def channel(self, room: str) -> str:
        """The bus channel of a room's pushes."""
        return f"board/{room}"

    def write(
        self, entry: Room, op: bytes, name: str, value: bytes | None, ttl_s: float | None
    ) -> Awaitable[Any]:
        """Call the writing script for one value."""
        channel = keys.bus_channel(self.fleet, self.channel(entry.name))
        ttl_us = 0 if ttl_s is None else micros(ttl_s)
        stored = self.compression.pack(value) if value else b""
        return self.general.run(WRITE, [entry.key], [channel, op, name.encode(), ttl_us, stored, MAX_VALUES])

    async def send(self, entry: Room, name: str, cell: Cell, ttl_s: float | None) -> None:
        """
        Give one own write to the fleet.

        Until the fleet has confirmed it the write overlays the copy, so that a failed or cancelled one
        is tried again by `poll` for as long as it lives.
        """
        entry.sending.add(cell)
        try:
            answer = await self.write(entry, b"R" if cell.value is None else b"S", name, cell.value, ttl_s)
        except StoreMisconfigured:
            # It will be refused again: an overlay that can never be shared would lie to this instance.
            entry.copy.settle(name, cell, shared=False)
            raise
        finally:
            entry.sending.discard(cell)
        version, before = int(answer[0]), int(answer[1])
        newest = entry.watched and version > entry.tip
        entry.copy.settle(name, cell, shared=newest or (entry.watched and version == before))
        if newest and not entry.hear(name, version, before):
            self.missed += 1
            self.read_soon(entry)

    # -- hearing --------------------------------------------------------------------------------------

    def on_push(self, entry: Room, payload: bytes) -> None:
        """Somebody changed a value."""
        try:
            push = Push(payload)
        except ValueError:
            self.read_soon(entry)
            return
        self.pushes += 1
        if push.version <= entry.tip:
            return
        entry.copy.apply(push.name, push.value, push.left_s)
        if not entry.hear(push.name, push.version, push.before):
            self.missed += 1
            self.read_soon(entry)

    def read_soon(self, entry: Room) -> None:
        """Read the room, once more if it is being read just now."""
        entry.stale = True
        if entry.reading is None and self.started:
            entry.reading = asyncio.get_running_loop().create_task(self.read(entry))

    async def read(self, entry: Room) -> None:
        """Bring the copy of one room up to date; a failure leaves it as it was, until the next poll."""
        try:
            while entry.stale:
                entry.stale = False
                entry.heard.clear()
                try:
                    async with self.one_at_a_time:
                        known = entry.version
                        self.reads += 1
                        answer = await self.general.run(READ, [entry.key], [known])
                except StoreFault:
                    return
                await self.on_read(entry, known, answer)
            # The store answers: what it has not heard from us need not wait for the next poll.
            self.repeat(entry)
        finally:
            entry.reading = None

    async def on_read(self, entry: Room, known: int, answer: list[Any]) -> None:
        """Take over what the store says about a whole room, when *known* was all that we knew of it."""
        version, now_us, born = int(answer[0]), int(answer[1]), int(answer[2])
        if known and (version == 0 or born > known):
            await self.restore(entry)
        elif version < known:
            # The store went back in time: take everything once more.
            entry.forget()
            entry.stale = True
        elif version > known:
            values: dict[str, tuple[bytes, float | None]] = {
                bytes(name).decode(): (value, (expires_us - now_us) / 1_000_000 if expires_us else None)
                for name, expires_us, stored in zip(answer[3::3], answer[4::3], answer[5::3], strict=True)
                if (value := self.unpacked(stored)) is not None
            }
            entry.stale = not entry.take(version, values)
        entry.known.set()

    def unpacked(self, stored: bytes) -> bytes | None:
        """Return the value in what is stored; None, and counted, where nobody can read it."""
        try:
            return unpack(stored)
        except ValueError:
            self.unreadable += 1
            return None

    async def restore(self, entry: Room) -> None:
        """
        The store lost this room, or began it anew, after we knew it: give back what we still hold.

        A room outlives its values in the store, so one that is gone while values live was lost. Values
        are written only where there is none, because every instance does the same.
        """
        alive = list(entry.copy.shared.items())
        for start in range(0, len(alive), AT_ONCE):
            now_s = self.clock.monotonic_s()
            outcomes = await asyncio.gather(
                *(
                    self.write(
                        entry, b"N", name, cell.value, None if cell.due_s is None else cell.due_s - now_s
                    )
                    for name, cell in alive[start : start + AT_ONCE]
                    # What was removed or ran out since we began must not come back.
                    if entry.copy.shared.get(name) is cell and (cell.due_s is None or cell.due_s > now_s)
                ),
                return_exceptions=True,
            )
            if any(isinstance(outcome, BaseException) for outcome in outcomes):
                return
            self.restored += len(outcomes)
        entry.forget()
        entry.stale = True

    # -- time -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to read and to poll."""
        self.started = True
        self.poll()

    def poll(self) -> None:
        """Ask for news of every watched room, and try again what the fleet has not confirmed."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer = self.clock.call_later(POLL_S * (0.75 + self.draw() / 2), self.poll)
        for entry in self.rooms.values():
            self.repeat(entry)
            if entry.watched and not entry.version:
                self.read_soon(entry)
            elif entry.watched:
                self.in_background(self.look(entry))

    def repeat(self, entry: Room) -> None:
        """Try again what the fleet has not confirmed, unless that is under way."""
        if entry.copy.own and not entry.repeating and self.started:
            entry.repeating = True
            self.in_background(self.send_again(entry))

    def in_background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run *work* until it is done or this board stops."""
        task = asyncio.get_running_loop().create_task(work)
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    async def look(self, entry: Room) -> None:
        """Read the room if it has changed and no push has told of that, or is telling just now."""
        known = entry.version
        try:
            answer = await self.general.run(READ, [entry.key], [known, b"V"])
        except StoreFault:
            return
        version, born = int(answer[0]), int(answer[2])
        if version < known or born > known:
            self.read_soon(entry)  # the store lost something: that is found out, and mended, there
        elif version > entry.version:
            await self.clock.sleep(PUSH_GRACE_S)
            if version > entry.version:
                self.read_soon(entry)

    async def send_again(self, entry: Room) -> None:
        """Repeat the writes of a room that failed; what fails again waits for the next poll."""
        try:
            waiting = [one for one in entry.copy.unsettled() if one[1] not in entry.sending]
            for start in range(0, len(waiting), AT_ONCE):
                outcomes = await asyncio.gather(
                    *(
                        self.send_latest(entry, name, cell, left_s)
                        for name, cell, left_s in waiting[start : start + AT_ONCE]
                    ),
                    return_exceptions=True,
                )
                for outcome in outcomes:
                    if isinstance(outcome, BaseException) and not isinstance(outcome, StoreFault):
                        raise outcome
                if any(isinstance(outcome, StoreUnavailable) for outcome in outcomes):
                    return
        finally:
            entry.repeating = False

    async def send_latest(self, entry: Room, name: str, cell: Cell, left_s: float | None) -> None:
        """Send *cell*, unless a later own write has taken its place: it would follow that to the store."""
        if entry.copy.own.get(name) is cell:
            await self.send(entry, name, cell, left_s)

    async def stop(self) -> None:
        """Give up the leases and stop; copies stay as they are."""
        self.started = False
        if self.timer is not None:
            self.timer.cancel()
        now_s = self.clock.monotonic_s()
        held = [lease for lease, due_s in self.held.items() if due_s > now_s]
        self.held.clear()
        await asyncio.gather(
            *(
                self.general.run(
                    LEAD, [keys.board_lease(self.fleet, room, name)], [b"G", self.instance_id.encode(), 0]
                )
                for room, name in held
            ),
            return_exceptions=True,
        )
        tasks = [entry.reading for entry in self.rooms.values() if entry.reading is not None]
        for task in [*tasks, *self.background]:
            task.cancel()
        await asyncio.gather(*tasks, *self.background, return_exceptions=True)
        for entry in self.rooms.values():
            entry.copy.close()
            if entry.subscription is not None:
                entry.subscription.close()


def micros(seconds: float) -> int:
    """Whole microseconds, at least one."""
    return max(1, round(seconds * 1_000_000))
