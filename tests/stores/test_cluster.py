"""Which shard has which key: how the map is kept, and what is said when there is none."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from silence_gateway.core.slots import SLOTS
from silence_gateway.core.store_failover import Fault, Move, State
from silence_gateway.stores.client import StoreRefused, Wire
from silence_gateway.stores.cluster import KEPT_S, Cluster, SlotRange
from silence_gateway.stores.dialing import Pace
from silence_gateway.stores.settings import StoreSettings
from silence_gateway.stores.shard import Shard
from silence_gateway.stores.url import Node
from silence_gateway.testing.clock import FakeClock, settle

ONE, TWO, THREE = (Node(name, 1) for name in ("one", "two", "three"))
HALVES = [SlotRange(0, 8191, ONE), SlotRange(8192, SLOTS - 1, TWO)]


class Owner:
    """Whom shards tell; these are up when a test says so."""

    def shard_moved(self, shard: Shard, move: Move) -> None:
        pass

    def shard_noticed(self, shard: Shard, fault: Fault, reason: str) -> None:
        pass

    def shard_takes_writes(self, shard: Shard) -> None:
        pass

    def shard_beat(self, shard: Shard) -> None:
        return None

    def shard_alive(self, shard: Shard, instances: int) -> None:
        pass

    def proof_changed(self) -> bool:
        return False


class Still(Shard):
    """A shard that looks at nothing by itself."""

    def start(self) -> None:
        pass


class Scene:
    """A cluster that says what a test wants."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.says: list[SlotRange] | StoreRefused = list(HALVES)
        self.whom: list[list[Node]] = []
        self.replaced: list[str] = []
        self.lost: list[str] = []
        self.found: list[float] = []
        self.cluster = Cluster(
            [ONE, TWO],
            self.find,
            self.make_shard,
            self.clock,
            lambda: 0.5,
            lambda shard: self.replaced.append(shard.name),
            self.lost.append,
            self.found.append,
        )

    async def find(self, nodes: Sequence[Node]) -> list[SlotRange]:
        self.whom.append(list(nodes))
        if isinstance(self.says, StoreRefused):
            raise self.says
        return self.says

    def make_shard(self, node: Node) -> Shard:
        async def nowhere(_lane: str) -> Wire:
            raise StoreRefused(Fault.UNREACHABLE, "nobody is there")

        pace = Pace(self.clock, lambda: 0.5)
        return Still(node.host, nowhere, pace, StoreSettings(), self.clock, Owner(), lambda: 0.5)

    def owner_of(self, slot: int) -> str:
        shard = self.cluster.slots[slot]
        return shard.name if shard is not None else ""

    def all_up(self) -> None:
        for shard in self.cluster.shards.values():
            shard.failover.state, shard.up = State.UP, True


def with_cluster(scenario: Callable[[Scene], Awaitable[None]], *, away: bool = False) -> None:
    async def run() -> None:
        scene = Scene()
        if away:
            scene.says = StoreRefused(Fault.UNTRUSTED, "one:1 is not trusted")
        scene.cluster.start()
        await settle()
        try:
            await scenario(scene)
        finally:
            await scene.cluster.stop()

    asyncio.run(run())


def test_every_slot_has_the_shard_of_its_range() -> None:
    async def scenario(scene: Scene) -> None:
        assert [scene.owner_of(slot) for slot in (0, 8191, 8192, SLOTS - 1)] == ["one", "one", "two", "two"]
        assert scene.lost == []
        assert scene.found == []

    with_cluster(scenario)


def test_slots_that_nobody_serves_have_nobody() -> None:
    async def scenario(scene: Scene) -> None:
        scene.says = [SlotRange(0, 99, ONE)]
        await scene.cluster.ask()
        assert scene.owner_of(99) == "one"
        assert scene.owner_of(100) == ""
        assert str(scene.cluster.missing()).startswith("the store is away")
        scene.all_up()
        assert str(scene.cluster.missing()) == "no primary of the cluster has this key"

    with_cluster(scenario)


def test_a_cluster_that_is_never_found_is_told_once_and_its_return_once() -> None:
    async def scenario(scene: Scene) -> None:
        assert scene.lost == ["one:1 is not trusted"]
        await scene.clock.advance(3)
        assert scene.lost == ["one:1 is not trusted"]
        assert "the cluster is away: one:1 is not trusted" in str(scene.cluster.missing())
        scene.says = list(HALVES)
        await scene.clock.advance(2)
        [lost_s] = scene.found
        assert 3 <= lost_s <= 5
        await scene.clock.advance(5)
        assert len(scene.found) == 1

    with_cluster(scenario, away=True)


def test_a_hand_that_is_wanted_is_asked_for_once_whatever_was_said_before() -> None:
    async def scenario(scene: Scene) -> None:
        untrusted = scene.says
        assert isinstance(untrusted, StoreRefused)
        scene.cluster.lost_since_s = None
        scene.cluster.hand_wanted = False
        scene.lost.clear()
        for why in (StoreRefused(Fault.SLOW, "no answer in time"), untrusted, untrusted):
            scene.says = why
            await scene.cluster.ask()

        assert scene.lost == ["no answer in time", "one:1 is not trusted"]

    with_cluster(scenario, away=True)


def test_while_nobody_answers_the_map_stays_and_its_shards_speak_for_themselves() -> None:
    async def scenario(scene: Scene) -> None:
        scene.says = StoreRefused(Fault.UNREACHABLE, "no answer")
        await scene.cluster.ask()
        assert scene.owner_of(0) == "one"
        assert scene.lost == []
        assert scene.cluster.trouble is not None

    with_cluster(scenario)


def test_a_healthy_map_is_asked_for_every_half_minute_or_when_something_speaks_against_it() -> None:
    async def scenario(scene: Scene) -> None:
        scene.all_up()
        await scene.clock.advance(1)
        calm = len(scene.whom)
        await scene.clock.advance(28)
        assert len(scene.whom) == calm
        await scene.clock.advance(3)
        assert len(scene.whom) == calm + 1
        scene.cluster.stale.set()
        await scene.clock.advance(0)
        assert len(scene.whom) == calm + 2

    with_cluster(scenario)


def test_while_a_shard_is_away_the_map_is_asked_for_four_times_a_second_and_less_after_a_while() -> None:
    async def scenario(scene: Scene) -> None:
        scene.all_up()
        await scene.clock.advance(1)
        scene.cluster.shards[TWO].up = False
        scene.cluster.stale.set()
        before = len(scene.whom)
        await scene.clock.advance(3.5)
        assert 9 <= len(scene.whom) - before <= 12
        await scene.clock.advance(10)
        late = len(scene.whom)
        await scene.clock.advance(11)
        assert 9 <= len(scene.whom) - late <= 11

    with_cluster(scenario)


def test_a_shard_that_has_lost_its_slots_is_kept_for_a_while_and_misses_nobody() -> None:
    async def scenario(scene: Scene) -> None:
        two = scene.cluster.shards[TWO]
        assert scene.cluster.serves(two)
        scene.says = [SlotRange(0, 8191, ONE), SlotRange(8192, SLOTS - 1, THREE)]
        await scene.cluster.ask()
        assert scene.replaced == ["two"]
        assert not scene.cluster.serves(two)
        assert TWO in scene.cluster.shards
        assert scene.owner_of(SLOTS - 1) == "three"
        await scene.clock.advance(KEPT_S + 1)
        await scene.cluster.ask()
        assert TWO not in scene.cluster.shards
        assert set(scene.cluster.shards) == {ONE, THREE}

    with_cluster(scenario)


def test_who_answers_is_asked_first_and_the_seeds_stay_known() -> None:
    async def scenario(scene: Scene) -> None:
        scene.says = [SlotRange(0, SLOTS - 1, THREE)]
        await scene.cluster.ask()
        three = scene.cluster.shards[THREE]
        three.failover.state, three.up = State.UP, True
        nodes = scene.cluster.whom_to_ask()
        assert nodes[0] == THREE
        assert set(nodes) == {ONE, TWO, THREE}

    with_cluster(scenario)


def test_a_tag_leads_to_its_shard() -> None:
    async def scenario(scene: Scene) -> None:
        for shard in scene.cluster.owners:
            tag = scene.cluster.tag_of(shard)
            assert tag is not None
            assert scene.cluster.shard_of(b"fleet:{%d}:key" % tag) is shard
        scene.says = [SlotRange(0, SLOTS - 1, ONE)]
        two = scene.cluster.shards[TWO]
        await scene.cluster.ask()
        assert scene.cluster.tag_of(two) is None

    with_cluster(scenario)
