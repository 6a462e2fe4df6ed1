"""What operators say holds in the whole fleet, the later word counts, and everybody can read who said it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from silence_gateway.core.breaker import State
from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError
from silence_gateway.events import EndpointDown, EndpointVetoed, EndpointVetoEnded, Event, OperatorSaid
from silence_gateway.stores.contracts import Board
from silence_gateway.stores.memory import MemoryHub, MemoryStore
from silence_gateway.testing.clock import FakeClock, settle
from silence_gateway.testing.scripted_endpoints import ScriptedEndpoints
from silence_gateway.testing.scripted_upstream import Failure
from silence_gateway.upstreams.balancing_settings import BalancingSettings
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.guarded import WHOLE
from silence_gateway.upstreams.settings import (
    EndpointSettings,
    HealthSettings,
    UpstreamSettings,
)

A, B = "10.0.0.1:1", "10.0.0.2:1"
ROOM = "operators/shop"
HOUR_S = 3600.0
INTERVAL_S = 2.0


class Fleet:
    """Instances on one board, each with a hub of its own while it is cut off."""

    def __init__(self, *addresses: str, subset: int = 0, health: HealthSettings | None = None) -> None:
        self.clock = FakeClock()
        self.hub = MemoryHub(self.clock)
        self.settings = UpstreamSettings(
            name="shop",
            endpoints=tuple(EndpointSettings(address=one) for one in addresses),
            health=health,
            balancing=BalancingSettings(subset=subset),
        )
        self.worlds: list[ScriptedEndpoints] = []
        self.pools: list[GrpcUpstream] = []
        self.events: list[list[Event]] = []

    async def join(self, *, alone: bool = False) -> GrpcUpstream:
        number = len(self.pools)
        world, events = ScriptedEndpoints(self.clock), list[Event]()
        board: Board | None = None if alone else MemoryStore(self.hub, instance_id=f"i{number}").board
        pool = GrpcUpstream(
            UpstreamSettings(
                name="shop",
                endpoints=self.settings.endpoints,
                health=self.settings.health,
                balancing=BalancingSettings(
                    subset=self.settings.balancing.subset, instance=f"instance {number}"
                ),
            ),
            clock=self.clock,
            connector=world.connect,
            board=board,
            observer=events.append,
        )
        self.worlds.append(world)
        self.pools.append(pool)
        self.events.append(events)
        await pool.start()
        await settle()
        return pool

    def drained(self, address: str = A) -> list[bool]:
        return [not one.active for one in self.standings(address)]

    def breakers(self, address: str = A) -> list[str]:
        return [one.breaker for one in self.standings(address)]

    def standings(self, address: str) -> list[Any]:
        return [
            next(one for one in pool.statistics.endpoints if one.address == address) for pool in self.pools
        ]

    def said(self, number: int) -> list[OperatorSaid]:
        return [event for event in self.events[number] if isinstance(event, OperatorSaid)]

    async def hold(self, number: int, state: State, ttl_s: float = HOUR_S, address: str = A) -> bool:
        told = await self.pools[number].hold_breaker(address, state, "moving house", ttl_s)
        await settle()
        return told

    async def drain(self, number: int, *, drained: bool = True) -> bool:
        told = await self.pools[number].drain_everywhere(A, drained=drained)
        await settle()
        return told

    async def come_back(self, *, empty: bool) -> None:
        if empty:
            self.hub.rooms.clear()
        self.hub.come_back()
        await settle()


@asynccontextmanager
async def fleet_of(count: int, *addresses: str, **more: Any) -> AsyncIterator[Fleet]:
    fleet = Fleet(*(addresses or (A, B)), **more)
    for _ in range(count):
        await fleet.join()
    try:
        yield fleet
    finally:
        for pool in fleet.pools:
            await pool.stop(drain_s=0)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 20))


# -- what was taken back ----------------------------------------------------------------------------------


@pytest.mark.parametrize("empty", [False, True], ids=["with-its-data", "empty"])
@pytest.mark.parametrize("who", [0, 1], ids=["by-who-said-it", "by-another"])
def test_what_is_taken_back_while_the_store_is_away_stays_taken_back(empty: bool, who: int) -> None:
    async def scenario() -> None:
        async with fleet_of(3) as fleet:
            assert await fleet.hold(0, State.HELD_OPEN)
            assert await fleet.drain(0)
            assert (fleet.breakers(), fleet.drained()) == (["held_open"] * 3, [True] * 3)
            fleet.hub.go_away()

            assert not await fleet.hold(who, State.CLOSED)
            assert not await fleet.drain(who, drained=False)
            assert (fleet.breakers()[who], fleet.drained()[who]) == ("closed", False)
            await fleet.come_back(empty=empty)

            assert (fleet.breakers(), fleet.drained()) == (["closed"] * 3, [False] * 3)
            await fleet.join()
            assert (fleet.breakers(), fleet.drained()) == (["closed"] * 4, [False] * 4)

    run(scenario)


@pytest.mark.parametrize("empty", [False, True], ids=["with-its-data", "empty"])
def test_the_later_of_two_words_counts_whoever_reaches_the_store_first(empty: bool) -> None:
    async def scenario() -> None:
        async with fleet_of(3) as fleet:
            fleet.hub.go_away()
            await fleet.hold(2, State.HELD_OPEN)
            await fleet.drain(2)
            await fleet.clock.advance(1)
            await fleet.hold(0, State.HELD_CLOSED)
            await fleet.drain(0, drained=False)
            assert fleet.breakers() == ["held_closed", "closed", "held_open"]
            # Boards bring what they kept in the order of their instances: the older word comes last.
            await fleet.come_back(empty=empty)

            assert (fleet.breakers(), fleet.drained()) == (["held_closed"] * 3, [False] * 3)

    run(scenario)


def test_an_older_word_does_not_come_into_force_when_a_later_one_ends() -> None:
    async def scenario() -> None:
        async with fleet_of(2) as fleet:
            fleet.hub.go_away()
            await fleet.hold(1, State.HELD_OPEN)
            await fleet.clock.advance(1)
            await fleet.hold(0, State.HELD_CLOSED, 60)
            await fleet.come_back(empty=False)
            assert fleet.breakers() == ["held_closed"] * 2

            await fleet.clock.advance(60)

            assert fleet.breakers() == ["closed"] * 2
            await fleet.join()
            assert fleet.breakers() == ["closed"] * 3

    run(scenario)


def test_what_is_in_force_is_given_back_to_a_store_that_lost_it() -> None:
    async def scenario() -> None:
        async with fleet_of(2) as fleet:
            await fleet.hold(0, State.HELD_OPEN)
            await fleet.drain(1)
            fleet.hub.go_away()
            await fleet.clock.advance(60)
            await fleet.come_back(empty=True)
            await fleet.join()

            assert (fleet.breakers(), fleet.drained()) == (["held_open"] * 3, [True] * 3)
            await fleet.clock.advance(HOUR_S - 60)
            assert fleet.breakers() == ["closed"] * 3

    run(scenario)


def test_a_store_that_went_back_in_time_is_told_what_was_said_since() -> None:
    async def scenario() -> None:
        async with fleet_of(2) as fleet:
            await fleet.hold(0, State.HELD_OPEN)
            await fleet.drain(0)
            before = {room: dict(cells) for room, cells in fleet.hub.rooms.items()}
            await fleet.hold(1, State.CLOSED)
            await fleet.drain(1, drained=False)
            fleet.hub.go_away()
            fleet.hub.rooms = before
            await fleet.come_back(empty=False)
            await fleet.join()

            assert (fleet.breakers(), fleet.drained()) == (["closed"] * 3, [False] * 3)

    run(scenario)


def test_a_word_replaces_those_before_it_so_that_the_room_stays_small() -> None:
    async def scenario() -> None:
        async with fleet_of(3) as fleet:
            for number in (0, 1, 2, 0, 2):
                await fleet.drain(number)
                await fleet.hold(number, State.HELD_OPEN)
            kept = fleet.hub.read(ROOM)
            kinds = ("drain", "drain-mark", "hold", "hold-mark")
            assert set(kept) == {f"{kind}/{A}/instance 2" for kind in kinds}
            await fleet.drain(1, drained=False)
            await fleet.hold(1, State.CLOSED)

            kept = fleet.hub.read(ROOM)
            assert set(kept) == {f"{kind}/{A}/instance 1" for kind in ("drain-mark", "hold-mark")}
            assert all(left_s is not None for _, left_s in kept.values())

    run(scenario)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param(f"hold/{A}/x", b"nonsense", id="no-fact"),
        pytest.param(f"drain-mark/{A}/x", b'{"said_us":1}', id="half-a-mark"),
        pytest.param(f"drain/{A}/x", b'{"said_us":1,"by":"y","who":"","reason":""}', id="signed-by-another"),
    ],
)
def test_nonsense_on_the_board_is_counted_and_ignored(name: str, value: bytes) -> None:
    async def scenario() -> None:
        async with fleet_of(1) as fleet:
            board = MemoryStore(fleet.hub).board
            await board.put(ROOM, name, value)
            await board.put(ROOM, "something/else", b"")
            await board.put(ROOM, "hold/nobody", b"")
            await settle()
            await board.remove(ROOM, name)
            await settle()

            assert fleet.pools[0].statistics.board_malformed == 1
            assert (fleet.breakers(), fleet.drained()) == (["closed"], [False])

    run(scenario)


# -- who, what, why ---------------------------------------------------------------------------------------


def test_every_instance_logs_who_said_what_why_and_until_when() -> None:
    async def scenario() -> None:
        async with fleet_of(2) as fleet:
            operators = fleet.pools[0].operators
            held = await operators.hold(A, State.HELD_OPEN, "moving house", 60, who="Ada")
            until_us = fleet.clock.now_us() + 60_000_000
            assert (held.fleet, held.until_us) == (True, until_us)
            await operators.hold(A, State.CLOSED, "moved", 60, who="Bob")
            await operators.drain(A, drained=True, who="Ada", reason="new disk")
            await operators.drain(A, drained=False, who="Bob")
            await settle()

            for number in (0, 1):
                said = [(one.what, one.who, one.reason, one.until_us) for one in fleet.said(number)]
                assert said == [
                    ("breaker open", "Ada", "moving house", until_us),
                    ("breaker auto", "Bob", "moved", None),
                    ("drain", "Ada", "new disk", None),
                    ("activate", "Bob", "", None),
                ]
                assert {one.told for one in fleet.said(number)} == {"instance 0"}
                assert {one.level for one in fleet.said(number)} == {"info"}

    run(scenario)


def test_the_log_says_that_the_fleet_could_not_be_told() -> None:
    async def scenario() -> None:
        async with fleet_of(2) as fleet:
            fleet.hub.go_away()
            await fleet.hold(0, State.HELD_CLOSED)

            assert [one.fleet for one in fleet.said(0)] == [False]
            assert fleet.said(1) == []

    run(scenario)


def test_what_is_said_to_each_worker_of_an_instance_is_logged_once_by_each() -> None:
    async def scenario() -> None:
        async with fleet_of(2) as fleet:
            fleet.hub.go_away()
            for number in (0, 1):
                await fleet.hold(number, State.HELD_OPEN)
                await fleet.drain(number)
            await fleet.come_back(empty=False)

            assert [[one.what for one in fleet.said(number)] for number in (0, 1)] == [
                ["breaker open", "drain"]
            ] * 2

    run(scenario)


def test_the_end_of_a_hold_is_not_taken_for_a_word_of_an_operator() -> None:
    async def scenario() -> None:
        async with fleet_of(2) as fleet:
            await fleet.hold(0, State.HELD_OPEN, 60)
            await fleet.clock.advance(61)

            assert fleet.breakers() == ["closed"] * 2
            assert [len(fleet.said(number)) for number in (0, 1)] == [1, 1]

    run(scenario)


# -- the last one -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_drain", [True, False], ids=["drained", "held-open"])
def test_taking_the_last_endpoint_that_takes_calls_is_warned_of_everywhere(by_drain: bool) -> None:
    async def scenario() -> None:
        async with fleet_of(2) as fleet:
            operators = fleet.pools[0].operators

            async def take(address: str) -> str:
                if by_drain:
                    return (await operators.drain(address, drained=True)).warning
                return (await operators.hold(address, State.HELD_OPEN, "", 60)).warning

            assert not await take(A)
            assert "no endpoint of upstream 'shop' is left" in await take(B)
            await settle()
            for number in (0, 1):
                first, second = fleet.said(number)
                assert (first.level, second.level) == ("info", "warning")
                assert "no endpoint of upstream 'shop' is left" in second.warning

    run(scenario)


def test_closing_the_whole_upstream_is_warned_of() -> None:
    async def scenario() -> None:
        async with fleet_of(1) as fleet:
            told = await fleet.pools[0].operators.hold(WHOLE, State.HELD_OPEN, "", 60)
            assert "every call to upstream 'shop' is refused" in told.warning
            told = await fleet.pools[0].operators.hold(WHOLE, State.HELD_CLOSED, "", 60)
            assert not told.warning

    run(scenario)


def test_ending_a_hold_that_there_is_not_tells_that_the_breaker_stays_open() -> None:
    """`auto` closes nothing that opened by itself, and was taken for done."""

    async def scenario() -> None:
        async with fleet_of(1, A) as fleet:
            (pool,), (world,) = fleet.pools, fleet.worlds
            world[A].follow(Failure(Code.INTERNAL) * 5)
            for _ in range(5):
                with pytest.raises(RpcError):
                    await pool.unary(b"/a.B/C", b"")
            assert fleet.breakers() == ["open"]

            told = await pool.operators.hold(A, State.CLOSED, "", 0)
            assert "hold it closed for 1s" in told.warning
            assert fleet.breakers() == ["open"]

            await fleet.hold(0, State.HELD_CLOSED, 1.0)
            assert not (await pool.operators.hold(A, State.CLOSED, "", 0)).warning
            assert fleet.breakers() == ["closed"]

    run(scenario)


# -- limits of what can be said ---------------------------------------------------------------------------


@pytest.mark.parametrize("ttl_s", [0.0, -1.0, 0.5, 30 * 86_400 + 1.0, float("inf"), float("nan")])
def test_a_hold_lasts_from_a_second_to_thirty_days(ttl_s: float) -> None:
    async def scenario() -> None:
        async with fleet_of(1) as fleet:
            with pytest.raises(ValueError, match="1s to 30d"):
                await fleet.hold(0, State.HELD_OPEN, ttl_s)
            assert fleet.breakers() == ["closed"]
            assert await fleet.hold(0, State.HELD_OPEN, 30 * 86_400)

    run(scenario)


def test_what_the_others_could_not_read_changes_nothing() -> None:
    async def scenario() -> None:
        async with fleet_of(1) as fleet:
            with pytest.raises(ValueError, match="reason"):
                await fleet.pools[0].operators.drain(A, drained=True, reason="x" * 65)
            with pytest.raises(ValueError, match="reason"):
                await fleet.pools[0].operators.drain(A, drained=False, reason="x" * 65)
            with pytest.raises(ValueError, match="nobody holds"):
                await fleet.hold(0, State.OPEN)
            assert (fleet.breakers(), fleet.drained(), fleet.said(0)) == (["closed"], [False], [])
            # Every character of a reason may take twelve bytes on the board.
            assert (await fleet.pools[0].operators.drain(A, drained=True, reason="\U0001f512" * 64)).fleet

    run(scenario)


def test_who_does_not_use_an_endpoint_can_tell_those_who_do() -> None:
    async def scenario() -> None:
        async with fleet_of(3, "a:1", "b:1", "c:1", "d:1", subset=1) as fleet:
            used = [{one.address for one in pool.statistics.endpoints} for pool in fleet.pools]
            address = next(iter(used[0]))
            stranger = next(number for number, names in enumerate(used) if address not in names)

            assert await fleet.pools[stranger].drain_everywhere(address)
            await settle()

            assert [one.active for one in fleet.pools[0].statistics.endpoints] == [False]
            with pytest.raises(KeyError):
                await fleet.pools[0].drain_everywhere("nobody:1")

    run(scenario)


def test_what_was_said_of_an_endpoint_that_has_left_can_be_taken_back() -> None:
    async def scenario() -> None:
        async with fleet_of(2) as fleet:
            await fleet.drain(0)
            for pool in fleet.pools:
                pool.set_endpoints((EndpointSettings(address=B),))
            assert await fleet.drain(1, drained=False)
            with pytest.raises(KeyError):
                await fleet.drain(1, drained=False)
            for pool in fleet.pools:
                pool.set_endpoints((EndpointSettings(address=A), EndpointSettings(address=B)))

            assert fleet.drained() == [False] * 2

    run(scenario)


def test_an_endpoint_that_returns_is_as_was_said_of_it() -> None:
    async def scenario() -> None:
        async with fleet_of(2) as fleet:
            for pool in fleet.pools:
                pool.set_endpoints((EndpointSettings(address=B),))
            await fleet.clock.advance(1)
            for pool in fleet.pools:
                pool.set_endpoints((EndpointSettings(address=A), EndpointSettings(address=B)))
            await fleet.hold(0, State.HELD_OPEN)
            await fleet.drain(0)
            for pool in fleet.pools:
                pool.set_endpoints((EndpointSettings(address=B),))
            await settle()
            for pool in fleet.pools:
                pool.set_endpoints((EndpointSettings(address=A), EndpointSettings(address=B)))

            assert (fleet.breakers(), fleet.drained()) == (["held_open"] * 2, [True] * 2)
            for number in (0, 1):
                # It is the only one that is left at first, but the other has hardly begun to connect.
                assert [one.what for one in fleet.said(number)] == [
                    "breaker open",
                    "drain",
                    "drain",
                    "breaker open",
                ]
                assert {one.warning for one in fleet.said(number)} == {""}

    run(scenario)


def test_without_a_board_words_hold_here() -> None:
    async def scenario() -> None:
        async with fleet_of(0) as fleet:
            await fleet.join(alone=True)
            assert not await fleet.hold(0, State.HELD_OPEN)
            assert not await fleet.drain(0)
            assert (fleet.breakers(), fleet.drained()) == (["held_open"], [True])
            await fleet.hold(0, State.CLOSED)
            await fleet.drain(0, drained=False)
            assert (fleet.breakers(), fleet.drained()) == (["closed"], [False])

    run(scenario)


# -- vetoes -----------------------------------------------------------------------------------------------


def test_an_instance_says_when_it_alone_cannot_reach_an_endpoint_and_when_that_ends() -> None:
    async def scenario() -> None:
        health = HealthSettings(interval_s=INTERVAL_S, timeout_s=0.5, unhealthy_after=2)
        async with fleet_of(2, A, B, health=health) as fleet:
            await fleet.clock.advance(10)
            checks = [len(world[A].health.calls) for world in fleet.worlds]
            cut_off = 1 - checks.index(max(checks))
            fleet.worlds[cut_off][A].die()
            await settle()
            (down,) = [event for event in fleet.events[cut_off] if isinstance(event, EndpointDown)]
            # Nobody has looked since: it may be gone for everybody.
            assert "another instance" not in down.reason
            await fleet.clock.advance(10)

            (vetoed,) = [event for event in fleet.events[cut_off] if isinstance(event, EndpointVetoed)]
            assert (vetoed.endpoint, vetoed.reached_by, vetoed.level) == (
                A,
                f"instance {1 - cut_off}",
                "warning",
            )
            fleet.worlds[cut_off][A].accept()
            await fleet.clock.advance(10)

            (ended,) = [event for event in fleet.events[cut_off] if isinstance(event, EndpointVetoEnded)]
            assert (ended.endpoint, ended.reason) == (A, "connected again")
            others = (EndpointVetoed, EndpointVetoEnded)
            assert not [event for event in fleet.events[1 - cut_off] if isinstance(event, others)]

    run(scenario)


def test_an_endpoint_that_is_gone_for_everybody_is_nobodys_veto() -> None:
    async def scenario() -> None:
        health = HealthSettings(interval_s=INTERVAL_S, timeout_s=0.5, unhealthy_after=2)
        async with fleet_of(2, A, B, health=health) as fleet:
            await fleet.clock.advance(10)
            for world in fleet.worlds:
                world[A].die()
            await fleet.clock.advance(30)

            assert not [
                event for events in fleet.events for event in events if isinstance(event, EndpointVetoed)
            ]
            assert not any(one.vetoed for one in fleet.standings(A))

    run(scenario)
