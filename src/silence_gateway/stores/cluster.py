"""
A store of many primaries: which of them has which key, and what happens when that changes.

Every primary is a `Shard` with lanes and a breaker of its own. The map of slots is asked for at the
start, every half minute, and as soon as anything speaks against it: a call that was answered MOVED, or a
shard that does not answer. A call that was turned away has certainly not run, so it goes on to whom the
answer named, within the deadline that it came with.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from silence_gateway.clock import Clock, Timer
from silence_gateway.core.slots import SLOTS, number_in, slot_of
from silence_gateway.core.store_failover import MENDED_BY_HAND
from silence_gateway.errors import StoreFault, StoreUnavailable
from silence_gateway.stores.batching import Pipeline
from silence_gateway.stores.calls import Call, fail
from silence_gateway.stores.client import StoreRefused, fault_error
from silence_gateway.stores.contracts import Script
from silence_gateway.stores.dialing import GENERAL, HOT
from silence_gateway.stores.shard import Shard
from silence_gateway.stores.url import Node

ASK_EVERY_S = 30.0
# While a shard is away its slots may get a new primary at any moment: how often to ask then.
ASK_WHEN_AWAY_S = 0.25
# But if that has not helped so many times, nobody is about to take over.
IMPATIENT_ASKS = 20
ASK_WHEN_LONG_AWAY_S = 1.0
# However often calls are turned away, a cluster is not asked more often than this.
SHORTEST_S = 0.1
MAX_MOVES = 5
# A server that is about to hand over some keys of a call: it has them all again in a moment.
TRY_AGAIN_S = 0.005
# A primary that has lost its last slot may still have answers for us.
KEPT_S = 5.0


class SlotRange(NamedTuple):
    """Slots *first* to *last*, both included, and the primary that has them."""

    first: int
    last: int
    node: Node


class Cluster:
    """
    The shards of one store.

    Args:
        seeds: Nodes to begin with; also asked again when nobody else answers.
        find: Asks nodes, the first ones first, for the map of slots, or raises StoreRefused.
        make_shard: Makes the shard of a node; it is started here.
        on_replaced: Told of a shard whose slots others have now.
        on_lost: Told why no map could be had at all: once, and once more if a hand turns out to be
            needed.
        on_found: Told that there is a map after all, and after how many seconds.

    Attributes:
        shards: By node; those that have lost their slots included, for a while.
        primaries: The nodes that have slots.
        slots: Whose each slot is; None if nobody's is known.
        trouble: Why the map could not be had at the last try; None if it could.
        moved: Calls that went on to another shard.
        asked: How often the map was asked for.
    """

    def __init__(
        self,
        seeds: Sequence[Node],
        find: Callable[[Sequence[Node]], Awaitable[list[SlotRange]]],
        make_shard: Callable[[Node], Shard],
        clock: Clock,
        draw: Callable[[], float],
        on_replaced: Callable[[Shard], None] | None = None,
        on_lost: Callable[[str], None] | None = None,
        on_found: Callable[[float], None] | None = None,
    ) -> None:
        self.seeds = tuple(seeds)
        self.find = find
        self.make_shard = make_shard
        self.clock = clock
        self.draw = draw
        self.on_replaced = on_replaced
        self.on_lost = on_lost
        self.on_found = on_found
        self.lost_since_s: float | None = None
        self.hand_wanted = False
        self.shards: dict[Node, Shard] = {}
        self.slots: list[Shard | None] = [None] * SLOTS
        self.primaries: dict[Node, Shard] = {}
        self.idle_since_s: dict[Node, float] = {}
        self.tags: dict[Shard, int | None] = {}
        self.task: asyncio.Task[None] | None = None
        self.first = asyncio.Event()
        self.stale = asyncio.Event()
        self.trouble: StoreRefused | None = None
        self.in_vain = 0
        self.moved = 0
        self.asked = 0

    def start(self) -> None:
        """Begin to ask."""
        self.task = asyncio.get_running_loop().create_task(self.keep_asking())

    async def stop(self) -> None:
        """End every shard."""
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
        await asyncio.gather(*(shard.stop() for shard in self.shards.values()))

    # -- the map --------------------------------------------------------------------------------------

    async def keep_asking(self) -> None:
        """Keep the map current, for ever."""
        while True:
            self.stale.clear()
            await self.ask()
            self.first.set()
            await self.clock.sleep(SHORTEST_S)
            await self.until_worth_asking()

    async def until_worth_asking(self) -> None:
        """Return when the map has aged, or something speaks against it."""
        away = self.trouble is not None or any(not shard.up for shard in self.owners)
        self.in_vain = self.in_vain + 1 if away else 0
        if away:
            wait_s = ASK_WHEN_AWAY_S if self.in_vain <= IMPATIENT_ASKS else ASK_WHEN_LONG_AWAY_S
        else:
            wait_s = KEPT_S if self.idle_since_s else ASK_EVERY_S
        timer: Timer = self.clock.call_later(wait_s * (0.75 + self.draw() / 2), self.stale.set)
        try:
            await self.stale.wait()
        finally:
            timer.cancel()

    async def ask(self) -> None:
        """Ask once; while nobody answers, the map stays as it was."""
        self.asked += 1
        try:
            ranges = await self.find(self.whom_to_ask())
        except StoreRefused as exc:
            self.trouble = exc
            # Once there are shards, each of them tells of its own troubles.
            if not self.primaries:
                self.tell_lost(exc)
            return
        self.trouble = None
        await self.adopt(ranges)
        if self.lost_since_s is not None:
            lost_s, self.lost_since_s = self.clock.monotonic_s() - self.lost_since_s, None
            self.hand_wanted = False
            if self.on_found is not None:
                self.on_found(lost_s)

    def tell_lost(self, why: StoreRefused) -> None:
        """Say why there is no map, and again only if a slow start hid that somebody has to act."""
        wanted = why.fault in MENDED_BY_HAND
        known = self.lost_since_s is not None and (self.hand_wanted or not wanted)
        self.hand_wanted = self.hand_wanted or wanted
        if self.lost_since_s is None:
            self.lost_since_s = self.clock.monotonic_s()
        if not known and self.on_lost is not None:
            self.on_lost(str(why))

    def whom_to_ask(self) -> list[Node]:
        """Return every node: those that answer first, each time in another order, so that nobody gets all."""
        places = {*self.shards, *self.seeds}
        mixed = [(not (node in self.shards and self.shards[node].up), self.draw(), node) for node in places]
        return [node for _, _, node in sorted(mixed)]

    async def adopt(self, ranges: Sequence[SlotRange]) -> None:
        """Make *ranges* the map, with a shard for every primary in it."""
        slots: list[Shard | None] = [None] * SLOTS
        primaries: dict[Node, Shard] = {}
        for first, last, node in ranges:
            shard = primaries[node] = self.shard_at(node)
            slots[first : last + 1] = [shard] * (last + 1 - first)
        replaced = [shard for node, shard in self.primaries.items() if node not in primaries]
        self.slots, self.primaries = slots, primaries
        self.tags.clear()
        if self.on_replaced is not None:
            for shard in replaced:
                self.on_replaced(shard)
        await self.retire()

    def shard_at(self, node: Node) -> Shard:
        """Return the shard of *node*, which may be new."""
        shard = self.shards.get(node)
        if shard is None:
            shard = self.shards[node] = self.make_shard(node)
            shard.start()
        return shard

    async def retire(self) -> None:
        """End the shards that have had no slot for a while."""
        now_s = self.clock.monotonic_s()
        for node in list(self.shards):
            if node in self.primaries:
                self.idle_since_s.pop(node, None)
            elif now_s - self.idle_since_s.setdefault(node, now_s) > KEPT_S:
                del self.idle_since_s[node]
                shard = self.shards.pop(node)
                self.tags.pop(shard, None)
                await shard.stop()

    def tag_of(self, shard: Shard) -> int | None:
        """Return a small number that, as a hash tag, leads to *shard*; None if there is none."""
        if shard not in self.tags:
            self.tags[shard] = number_in(self.slots, shard)
        return self.tags[shard]

    # -- calls ----------------------------------------------------------------------------------------

    @property
    def owners(self) -> list[Shard]:
        """The shards that have slots."""
        return list(self.primaries.values())

    def serves(self, shard: Shard) -> bool:
        """Whether *shard* has slots, as far as is known; without, nobody misses it."""
        return shard in self.primaries.values()

    def shard_of(self, key: bytes) -> Shard | None:
        """Return who has *key*; None if nobody is known to."""
        return self.slots[slot_of(key)]

    def missing(self) -> StoreFault:
        """Why a call has nobody to go to."""
        if self.trouble is not None:
            return fault_error(self.trouble.fault, f"the cluster is away: {self.trouble}", sent=False)
        if self.owners and not any(shard.up for shard in self.owners):
            return self.owners[0].refused()
        return StoreUnavailable("no primary of the cluster has this key", sent=False)

    def on_turned_away(self, lane: Pipeline, call: Call, reply: str, due_s: float) -> bool:
        """A server says that *call* is another's: send it there; False if that makes no sense any more."""
        words = reply.split(" ")
        call.moves += 1
        if words[0] not in ("MOVED", "ASK", "TRYAGAIN"):
            self.stale.set()
            return False
        if call.moves > MAX_MOVES or self.clock.monotonic_s() >= due_s:
            return False
        if words[0] == "TRYAGAIN":
            self.clock.call_later(TRY_AGAIN_S * (0.5 + self.draw()), lambda: lane.readmit(call, due_s))
            return True
        slot = int(words[1]) if len(words) > 2 and words[1].isdigit() else SLOTS
        node = self.node_of(words[2], lane) if slot < SLOTS else None
        if node is None:
            return False
        shard = self.shard_at(node)
        call.asking = words[0] == "ASK"
        self.moved += 1
        if words[0] == "MOVED":
            self.slots[slot] = self.primaries[node] = shard
            self.tags.clear()
            self.stale.set()
        kind = GENERAL if any(lane is one.general for one in self.shards.values()) else HOT
        getattr(shard, kind).readmit(call, due_s)
        return True

    def node_of(self, address: str, lane: Pipeline) -> Node | None:
        """Read `host:port` as servers write it; without a host it is the one that said so."""
        host, _, port = address.rpartition(":")
        if not port.isdigit():
            return None
        if not host:
            host = next((node.host for node, one in self.shards.items() if lane in one.lanes), "")
        return Node(host.strip("[]"), int(port)) if host else None


class ClusterLanes:
    """
    One kind of lane over all shards: a `ScriptPoster` that sends every call to whom its key belongs.

    The keys of one script are in one slot.
    """

    def __init__(self, cluster: Cluster, kind: str) -> None:
        self.cluster = cluster
        self.kind = kind

    def lane(self, keys: Sequence[bytes]) -> Pipeline | None:
        """Return the lane of the shard that has *keys*; where there are none, of one that is up."""
        if keys:
            shard = self.cluster.shard_of(keys[0])
        else:
            shard = next((one for one in self.cluster.owners if one.up), None)
        return None if shard is None else getattr(shard, self.kind)

    def reaches(self, key: bytes) -> bool:
        """Whether whoever has *key* answers, as far as is known."""
        shard = self.cluster.shard_of(key)
        return shard is not None and shard.up

    def run(self, script: Script, keys: Sequence[bytes], args: Sequence[bytes | int]) -> asyncio.Future[Any]:
        """Run *script* where its keys are."""
        lane = self.lane(keys)
        return self.nowhere() if lane is None else lane.run(script, keys, args)

    def post(
        self,
        script: Script,
        keys: Sequence[bytes],
        args: Sequence[bytes | int],
        on_answer: Callable[[Any], None],
        on_failure: Callable[[StoreFault], None],
    ) -> None:
        """Run *script* where its keys are, at the end of this tick: calls are many here, and writes few."""
        lane = self.lane(keys)
        if lane is None:
            on_failure(self.cluster.missing())
        else:
            lane.post_together(script, keys, args, on_answer, on_failure)

    def call(self, *command: bytes | str | int) -> asyncio.Future[Any]:
        """
        Send a command about a pub/sub channel, which any node may have: best the one of its name.

        The others hear of it over the cluster's own bus, and messages of one channel stay in order.
        """
        name = command[1] if len(command) > 1 else b""
        shard = self.cluster.shard_of(name if isinstance(name, bytes) else str(name).encode())
        if shard is None or not shard.up:
            shard = next((one for one in self.cluster.owners if one.up), shard)
        return self.nowhere() if shard is None else getattr(shard, self.kind).call(*command)

    @property
    def refusal(self) -> Callable[[], StoreFault] | None:
        """What every call fails with; None while any shard answers."""
        if any(shard.up for shard in self.cluster.owners):
            return None
        return self.cluster.missing

    def nowhere(self) -> asyncio.Future[Any]:
        """Return the outcome of a call that has nobody to go to."""
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        fail(done, self.cluster.missing())
        return done
