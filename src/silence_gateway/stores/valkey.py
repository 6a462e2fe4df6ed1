"""
The store of a fleet in Valkey or Redis: shards, bus, board and the register of live instances, tied together.

One server and a primary behind sentinels are one shard, a cluster is several. What others use does not
change with that: `scripts` and `general` send every call to whom its key belongs.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from silence_gateway.clock import Clock, SystemClock
from silence_gateway.core.store_failover import CALLS_REFUSED, Fault, Move, State
from silence_gateway.errors import ConfigError
from silence_gateway.events import Noticed, Observer, StoreFound, StoreLost, nobody
from silence_gateway.stores import keys
from silence_gateway.stores.board import ValkeyBoard, read_script
from silence_gateway.stores.bus import ValkeyBus
from silence_gateway.stores.client import Login, StoreRefused, Wire
from silence_gateway.stores.cluster import Cluster, ClusterLanes, SlotRange
from silence_gateway.stores.contracts import Board, Bus, ScriptPoster, ScriptRunner
from silence_gateway.stores.dialing import GENERAL, HOT, PROBE, SUBSCRIBER, Dialer
from silence_gateway.stores.lane_counts import LaneCounts
from silence_gateway.stores.primary import PrimaryFinder
from silence_gateway.stores.settings import StoreSettings
from silence_gateway.stores.shard import Shard
from silence_gateway.stores.url import Node, Topology

if TYPE_CHECKING:
    from silence_gateway.stores.discovery import Directory

BEAT = read_script("beat")
# Four missed beats and a bit: an instance that hangs for less stays counted.
LIFETIME_S = 5.0
# A trouble that concerns single commands is worth one line now and then, not one per call.
NOTICE_EVERY_S = 60.0


class ValkeyStore:
    """
    A `Store` in Valkey or Redis, shared by every instance of the same *fleet*.

    Attributes:
        scripts: The hot lane: for the request path, bounded by `StoreSettings.deadline_s`.
        general: The general lane: for the rest, bounded by `StoreSettings.general_deadline_s`.
        transitions: How often a breaker moved.
        counts: What the lanes of each kind have done, over all shards that ever were.
        cluster: The shards of a cluster; None for a store of one server.
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
        self.dialer = Dialer(self.settings, self.clock, draw, fleet=fleet, instance_id=self.id)
        self.proof: tuple[tuple[int, int], ...] = ()
        self.transitions = 0
        self.live = 1
        self.live_seen_s = 0.0
        self.noticed: dict[Fault, float] = {}
        self.counts = {kind: LaneCounts() for kind in (HOT, GENERAL, PROBE)}
        self.cluster: Cluster | None = None
        self.finder: PrimaryFinder | None = None
        self.only: Shard | None = None
        self.scripts: ScriptPoster
        self.general: ScriptRunner
        pace = self.dialer.pace()
        self.directory: Directory | None = None
        caller: Any
        if self.address.topology is Topology.CLUSTER:
            self.cluster = Cluster(
                self.address.nodes,
                self.find_slots,
                self._cluster_shard,
                self.clock,
                draw,
                self.on_shard_replaced,
                lambda reason: observer(StoreLost(reason=reason)),
                lambda lost_s: observer(StoreFound(down_s=lost_s)),
            )
            self.scripts = ClusterLanes(self.cluster, HOT)
            self.general = caller = ClusterLanes(self.cluster, GENERAL)
        else:
            if self.address.topology is Topology.SENTINEL:
                self.finder = PrimaryFinder(self.find_primary, self.clock, draw, self.on_replaced)
            self.only = Shard(
                "", self.open_only, pace, self.settings, self.clock, self, draw, counts=self.counts
            )
            self.scripts, self.general = self.only.hot, self.only.general
            caller = self.only.general
        self.valkey_bus = ValkeyBus(
            self.open_subscriber,
            lambda: pace.wait(SUBSCRIBER),
            caller,
            self.clock,
            draw,
            fleet=fleet,
            instance_id=self.id,
            spread=self.cluster is not None,
        )
        self.valkey_board = ValkeyBoard(
            self.general,
            self.valkey_bus,
            self.clock,
            draw,
            fleet=fleet,
            instance_id=self.id,
            compress_over=self.settings.compress_over,
        )
        self.bus: Bus = self.valkey_bus
        self.board: Board = self.valkey_board
        self.subscribed_at: Node | None = None
        self.on_their_way: list[str] = []  # lanes that may connect, and ask whereto
        self.started = False

    # -- the contract ---------------------------------------------------------------------------------

    @property
    def shards(self) -> Sequence[Shard]:
        """Every primary; in a cluster those that have slots."""
        return (self.only,) if self.only is not None else self._cluster().owners

    @property
    def up(self) -> bool:
        """Whether the store answers, as far as is known; a cluster does while any of its shards does."""
        only = self.only
        if only is not None:
            return only.up
        return any(shard.up for shard in self.shards)

    @property
    def partly_away(self) -> str:
        """Which shards do not answer, while others do; empty when all or none do."""
        away = [shard for shard in self.shards if not shard.up]
        if not away or not self.up:
            return ""
        return ", ".join(f"{shard.name} ({shard.failover.reason})" for shard in away)

    @property
    def refuses_writes(self) -> str:
        """Why the store, which answers, takes no writes; empty while it does."""
        return "; ".join(shard.refuses_writes for shard in self.shards if shard.refuses_writes)

    @property
    def state(self) -> State:
        """Where the breaker stands; of several, the one that has the most to do."""
        states = [shard.failover.state for shard in self.shards]
        order = (State.OPEN, State.PROBING, State.STARTING, State.SUSPECT, State.UP)
        return next((state for state in order if state in states), State.STARTING)

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
        if self.started:
            return
        self.started = True
        self.valkey_bus.start()
        self.valkey_board.start()
        if self.finder is not None:
            self.finder.start()
        if self.only is not None:
            self.only.start()
            patience_s = 2 * self.settings.deadline_s
        else:
            self._cluster().start()
            # A cluster is found in two steps, and its first map is worth a little more patience.
            patience_s = 2 * self.dialer.deadline_s
        enough = asyncio.Event()
        timer = self.clock.call_later(patience_s, enough.set)
        looking = asyncio.get_running_loop().create_task(self._look_at_all(enough))
        try:
            await enough.wait()
        finally:
            timer.cancel()
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _look_at_all(self, enough: asyncio.Event) -> None:
        """Set *enough* once every shard has been looked at."""
        if self.cluster is not None:
            await self.cluster.first.wait()
        await asyncio.gather(*(shard.first_look.wait() for shard in self.shards))
        enough.set()

    async def stop(self) -> None:
        """Leave the fleet and close every connection."""
        await self.valkey_board.stop()
        leaving = [self._say(shard, b"L") for shard in self.shards if shard.up]
        await asyncio.gather(*(one for one in leaving if one is not None), return_exceptions=True)
        await self.valkey_bus.stop()
        if self.only is not None:
            await self.only.stop()
        if self.cluster is not None:
            await self.cluster.stop()
        if self.finder is not None:
            await self.finder.stop()
        if self.directory is not None:
            await self.directory.close()

    def _cluster(self) -> Cluster:
        assert self.cluster is not None
        return self.cluster

    # -- finding and connecting -----------------------------------------------------------------------

    async def _directory(self) -> Directory:
        if self.directory is not None:
            return self.directory
        make = await asyncio.to_thread(_import_directory)
        if self.directory is not None:  # another question was quicker
            return self.directory
        sentinels = self.address.topology is Topology.SENTINEL
        login: Callable[[], Login] = self.dialer.credentials.current
        if sentinels:
            own = Login(self.settings.sentinel_username, self.settings.sentinel_password)
            login = lambda: own  # noqa: E731 - one of two ways to the same thing, side by side
        self.directory = make(
            login,
            self.dialer.context,
            server_name=self.settings.tls.server_name,
            deadline_s=self.dialer.deadline_s,
        )
        return self.directory

    async def find_primary(self) -> Node:
        """Ask the sentinels; raises StoreRefused."""
        return await (await self._directory()).primary(self.address.nodes, self.address.service)

    async def find_slots(self, nodes: Sequence[Node]) -> list[SlotRange]:
        """Ask the cluster; raises StoreRefused."""
        return await (await self._directory()).slots(nodes)

    async def open_only(self, lane: str) -> Wire:
        """Connect a lane of the only shard; raises StoreRefused."""
        if self.finder is None:
            return await self.dialer.open(self.address.node, lane)
        self.on_their_way.append(lane)
        try:
            node = await self.finder.current()
        finally:
            self.on_their_way.remove(lane)
        return await self.dialer.open(node, lane, primary=True)

    async def open_subscriber(self) -> Wire:
        """Connect the subscriber: in a cluster to any primary that answers, best another than the last."""
        if self.cluster is None:
            return await self.open_only(SUBSCRIBER)
        nodes = [node for node, shard in self.cluster.primaries.items() if shard.up]
        others = [node for node in nodes if node != self.subscribed_at] or nodes
        if not others:
            raise StoreRefused(Fault.UNREACHABLE, "no primary of the cluster answers")
        node = others[int(self.draw() * len(others))]
        await self.cluster.primaries[node].pace.wait(SUBSCRIBER)
        wire = await self.dialer.open(node, SUBSCRIBER)
        self.subscribed_at = node
        return wire

    def _cluster_shard(self, node: Node) -> Shard:
        pace = self.dialer.pace(joins=self._cluster().first.is_set())
        return Shard(
            str(node),
            lambda lane: self.dialer.open(node, lane),
            pace,
            self.settings,
            self.clock,
            self,
            self.draw,
            redirect=self._cluster().on_turned_away,
            counts=self.counts,
        )

    def on_replaced(self, node: Node) -> None:
        """The sentinels name another primary: leave the old one, which may go on answering."""
        self.observer(Noticed(what=f"the sentinels name a new primary: {node}"))
        assert self.only is not None
        self.only.pace.begin_anew(self.on_their_way)
        for lane in self.only.lanes:
            if lane.wire is not None:
                lane.wire.close(f"the primary is now {node}")
        self.valkey_bus.leave(f"the primary is now {node}")
        self.only.look_now()

    def on_shard_replaced(self, shard: Shard) -> None:
        """Others serve what *shard* had: if it was away, that is over."""
        down_s = shard.replaced()
        if down_s is not None:
            self.observer(StoreFound(down_s=down_s, shard=f"{shard.name} (others have its slots)"))

    # -- what shards report -----------------------------------------------------------------------------

    def shard_moved(self, shard: Shard, move: Move) -> None:
        """A breaker has changed its state."""
        self.transitions += 1
        if self.cluster is not None and not self.cluster.serves(shard):
            # It is only kept for its last answers: whether it is away is nobody's outage.
            shard.failover.down = False
            return
        if self.finder is not None:
            self.finder.set_away(move.new in CALLS_REFUSED)
        where = f"{shard.name}: " if shard.name else ""
        if move.lost:
            self.observer(StoreLost(reason=where + shard.failover.reason))
            if self.cluster is not None:
                self.cluster.stale.set()
                if self.subscribed_at is not None and str(self.subscribed_at) == shard.name:
                    self.valkey_bus.leave(f"{shard.name} does not answer")
        if move.new is State.UP and move.old is not State.SUSPECT:
            self.live_seen_s = self.clock.monotonic_s()
            self.proof = self.dialer.proof()
            self.valkey_board.poll()
            self.valkey_bus.on_store_found()
        if move.found:
            down_s = (shard.now_us() - shard.failover.down_since_us) / 1_000_000
            self.observer(StoreFound(down_s=down_s, shard=shard.name))

    def shard_noticed(self, shard: Shard, fault: Fault, reason: str) -> None:
        """One command was refused."""
        now_s = self.clock.monotonic_s()
        if now_s >= self.noticed.get(fault, 0.0):
            self.noticed[fault] = now_s + NOTICE_EVERY_S
            where = f"{shard.name}: " if shard.name else ""
            self.observer(Noticed(what=f"the store refused a command: {where}{reason}", loudness="error"))

    def shard_takes_writes(self, shard: Shard) -> None:
        """A primary that was full, say, is so no more."""
        self.observer(Noticed(what=f"the store takes writes again{shard.name and f': {shard.name}'}"))

    def shard_beat(self, shard: Shard) -> Awaitable[int] | None:
        """Say on *shard* that this instance is alive."""
        # Who leaves again and again is counted by nobody, and hears how many there are.
        return self._say(shard, b"L" if self.settings.guest else b"A")

    def _say(self, shard: Shard, what: bytes) -> Awaitable[int] | None:
        tag = None
        if self.cluster is not None:
            tag = self.cluster.tag_of(shard)
            if tag is None:
                return None
        key = keys.instances(self.fleet, tag)
        return shard.probe.run(BEAT, [key], [what, self.id.encode(), micros(LIFETIME_S)])

    def shard_alive(self, _shard: Shard, instances: int) -> None:
        """Count the living: more is believed at once, fewer only when it stays so."""
        now_s = self.clock.monotonic_s()
        if instances >= self.live or now_s - self.live_seen_s > LIFETIME_S:
            self.live = max(1, instances)
            self.live_seen_s = now_s

    def proof_changed(self) -> bool:
        """Whether a file with a password or a certificate is another than at the last look."""
        proof = self.dialer.proof()
        changed, self.proof = proof != self.proof, proof
        return changed


def micros(seconds: float) -> int:
    """Whole microseconds."""
    return round(seconds * 1_000_000)


def _import_directory() -> type[Directory]:
    """
    Return what asks sentinels and clusters; call it in a thread.

    redis-py takes 0.1 s of CPU to import, half a second on a busy machine, and everybody on the event loop
    would wait for it. Whoever has one server needs nothing of it.
    """
    from silence_gateway.stores.discovery import Directory

    return Directory
