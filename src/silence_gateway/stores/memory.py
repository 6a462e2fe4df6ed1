"""
The store for one process, and the reference for every other store.

Stores made with the same `MemoryHub` share it, as instances of a fleet share one Valkey; a test makes
"two instances on one store" that way, and takes the store away with `MemoryHub.go_away`. There is no
I/O here, so there are no locks: nothing awaits between a read and its write.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping

from silence_gateway.clock import Clock, SystemClock
from silence_gateway.errors import StoreUnavailable
from silence_gateway.stores.contracts import Board, Bus
from silence_gateway.stores.rooms import Cell, OnChange, OnEnd, RoomCopy, check_fact

AWAY = "the memory store was taken away"


class MemoryHub:
    """What several memory stores share: the stand-in for a Valkey server."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        self.away = False
        self.rooms: dict[str, dict[str, Cell]] = {}
        self.leases: dict[tuple[str, str], tuple[str, float, int]] = {}
        self.last_fence = 0
        self.subscriptions: dict[str, dict[MemorySubscription, None]] = {}
        self.boards: list[MemoryBoard] = []
        self.stores: list[MemoryStore] = []

    def go_away(self) -> None:
        """Behave as a store that does not answer, until `come_back`."""
        self.away = True

    def come_back(self) -> None:
        """Answer again: boards are reconciled and every subscription is told of its gap."""
        if not self.away:
            return
        self.away = False
        for board in list(self.boards):
            board.reconcile()
        for subscriptions in list(self.subscriptions.values()):
            for subscription in list(subscriptions):
                if subscription.on_gap is not None:
                    asyncio.get_running_loop().call_soon(subscription.on_gap)

    def check(self) -> None:
        """
        Refuse while the store is away.

        Raises:
            StoreUnavailable: It is.
        """
        if self.away:
            raise StoreUnavailable(AWAY)

    def read(self, room: str) -> dict[str, tuple[bytes, float | None]]:
        """Everything alive in *room*, with the seconds that are left."""
        now_s = self.clock.monotonic_s()
        cells = self.rooms.get(room, {})
        for name in [name for name, cell in cells.items() if cell.due_s is not None and cell.due_s <= now_s]:
            del cells[name]
        return {
            name: (cell.value or b"", None if cell.due_s is None else cell.due_s - now_s)
            for name, cell in cells.items()
        }

    def look(self, room: str, name: str) -> tuple[bytes | None, float | None]:
        """One value of *room* with the seconds that are left; None and None if it is not there."""
        cell = self.rooms.get(room, {}).get(name)
        if cell is None:
            return None, None
        return cell.value or b"", None if cell.due_s is None else cell.due_s - self.clock.monotonic_s()

    def write(self, room: str, name: str, value: bytes | None, ttl_s: float | None) -> None:
        """Write or remove one value and push it to every board."""
        cells = self.rooms.setdefault(room, {})
        if value is None:
            cells.pop(name, None)
        else:
            cells[name] = Cell(value, None if ttl_s is None else self.clock.monotonic_s() + ttl_s)
        if not cells:
            del self.rooms[room]
        loop = asyncio.get_running_loop()
        for board in self.boards:
            loop.call_soon(board.pushed, room, name)


class MemorySubscription:
    """One interest in one channel of the memory bus."""

    __slots__ = ("channel", "hub", "on_gap", "on_message", "owner")

    def __init__(
        self,
        owner: MemoryBus,
        channel: str,
        on_message: Callable[[bytes], None],
        on_gap: Callable[[], None] | None,
    ) -> None:
        self.owner = owner
        self.hub = owner.hub
        self.channel = channel
        self.on_message: Callable[[bytes], None] | None = on_message
        self.on_gap = on_gap

    def deliver(self, payload: bytes) -> None:
        """Hand over one payload, unless closed since it was published."""
        if self.on_message is not None:
            self.on_message(payload)

    def close(self) -> None:
        """Hear no more; harmless when closed."""
        self.on_message = self.on_gap = None
        subscriptions = self.hub.subscriptions.get(self.channel, {})
        subscriptions.pop(self, None)
        if not subscriptions:
            self.hub.subscriptions.pop(self.channel, None)
        self.owner.mine.pop(self, None)


class MemoryBus:
    """The `Bus` of one memory store."""

    def __init__(self, hub: MemoryHub) -> None:
        self.hub = hub
        self.mine: dict[MemorySubscription, None] = {}

    def publish(self, channel: str, payload: bytes) -> Awaitable[None]:
        """Deliver *payload* to every subscriber of the hub in the next round of the event loop."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        if self.hub.away:
            done.set_exception(StoreUnavailable(AWAY))
            done.exception()  # publishing without awaiting the outcome is allowed
            return done
        for subscription in self.hub.subscriptions.get(channel, {}):
            loop.call_soon(subscription.deliver, payload)
        done.set_result(None)
        return done

    def subscribe(
        self, channel: str, on_message: Callable[[bytes], None], on_gap: Callable[[], None] | None = None
    ) -> MemorySubscription:
        """Call *on_message* for every payload published from now on."""
        subscription = MemorySubscription(self, channel, on_message, on_gap)
        self.hub.subscriptions.setdefault(channel, {})[subscription] = None
        self.mine[subscription] = None
        return subscription

    async def ready(self, channel: str) -> None:  # noqa: ARG002 - the contract's shape
        """Return at once, or raise StoreUnavailable while the hub is away."""
        self.hub.check()

    def close(self) -> None:
        """End every subscription of this store."""
        for subscription in list(self.mine):
            subscription.close()


class MemoryBoard:
    """The `Board` of one memory store."""

    def __init__(self, hub: MemoryHub, instance_id: str) -> None:
        self.hub = hub
        self.instance_id = instance_id
        self.copies: dict[str, RoomCopy] = {}
        self.back = asyncio.Event()
        if not hub.away:
            self.back.set()
        hub.boards.append(self)

    async def put(self, room: str, name: str, value: bytes, ttl_s: float | None = None) -> None:
        """Write one value; it is seen by this instance even when StoreUnavailable is raised."""
        check_fact(name, value, ttl_s)
        self.write(room, name, value, ttl_s)

    async def remove(self, room: str, name: str) -> None:
        """Remove one value; this instance forgets it even when StoreUnavailable is raised."""
        check_fact(name, None, None)
        self.write(room, name, None, None)

    def write(self, room: str, name: str, value: bytes | None, ttl_s: float | None) -> None:
        """Show the write here, then hand it to the hub."""
        copy = self.copy_of(room)
        cell = copy.write(name, value, ttl_s)
        self.hub.check()
        self.hub.write(room, name, value, ttl_s)
        copy.settle(name, cell, shared=True)

    def watch(
        self, room: str, on_change: OnChange | None = None, on_end: OnEnd | None = None
    ) -> Mapping[str, bytes]:
        """Keep a copy of *room* and return that live, read-only copy."""
        copy = self.copy_of(room)
        if on_change is not None:
            copy.listen(on_change, on_end)
        return copy.public

    async def known(self, room: str) -> None:  # noqa: ARG002 - the contract's shape
        """Return at once; if the hub has been away since this board was made, when it is back."""
        await self.back.wait()

    async def lead(self, room: str, name: str, ttl_s: float) -> int:
        """Hold the lease, or return 0 when another instance does."""
        check_fact(name, None, ttl_s)
        self.hub.check()
        now_s = self.hub.clock.monotonic_s()
        holder, due_s, fence = self.hub.leases.get((room, name), ("", 0.0, 0))
        if due_s > now_s and holder != self.instance_id:
            return 0
        if due_s <= now_s or holder != self.instance_id:
            self.hub.last_fence += 1
            fence = self.hub.last_fence
        self.hub.leases[room, name] = (self.instance_id, now_s + ttl_s, fence)
        return fence

    def copy_of(self, room: str) -> RoomCopy:
        """The copy of *room*, filled from the hub when it is new."""
        copy = self.copies.get(room)
        if copy is None:
            copy = self.copies[room] = RoomCopy(self.hub.clock)
            if not self.hub.away:
                copy.replace(self.hub.read(room))
        return copy

    def pushed(self, room: str, name: str) -> None:
        """A value of *room* has changed."""
        copy = self.copies.get(room)
        if copy is not None and not self.hub.away:
            copy.apply(name, *self.hub.look(room, name))

    def reconcile(self) -> None:
        """The hub is back: give it what was written meanwhile, and take what the others wrote."""
        self.back.set()
        for room, copy in self.copies.items():
            for name, cell, left_s in copy.unsettled():
                self.hub.write(room, name, cell.value, left_s)
                copy.settle(name, cell, shared=True)
            copy.replace(self.hub.read(room))

    def close(self) -> None:
        """Stop watching, and give up every lease."""
        for copy in self.copies.values():
            copy.close()
        if self in self.hub.boards:
            self.hub.boards.remove(self)
        for key in [key for key, lease in self.hub.leases.items() if lease[0] == self.instance_id]:
            del self.hub.leases[key]


class MemoryStore:
    """A `Store` in this process only, shared by the stores made with the same hub."""

    def __init__(self, hub: MemoryHub | None = None, *, instance_id: str = "") -> None:
        self.hub = hub or MemoryHub()
        self.id = instance_id or secrets.token_hex(8)
        self.memory_bus = MemoryBus(self.hub)
        self.memory_board = MemoryBoard(self.hub, self.id)
        self.bus: Bus = self.memory_bus
        self.board: Board = self.memory_board

    @property
    def up(self) -> bool:
        """Always, unless a test took the hub away."""
        return not self.hub.away

    @property
    def refuses_writes(self) -> str:
        """Never: nothing bounds it but the process."""
        return ""

    @property
    def partly_away(self) -> str:
        """Never: there is only one part."""
        return ""

    @property
    def instance_id(self) -> str:
        """This store's name in its hub."""
        return self.id

    @property
    def live_instances(self) -> int:
        """How many stores of the hub have been started and not stopped; at least 1."""
        return max(1, len(self.hub.stores))

    async def start(self) -> None:
        """Join the hub."""
        if self not in self.hub.stores:
            self.hub.stores.append(self)

    async def stop(self) -> None:
        """Leave the hub; other stores of it go on."""
        if self in self.hub.stores:
            self.hub.stores.remove(self)
        self.memory_bus.close()
        self.memory_board.close()
