"""
Whatever happens to the server: only StoreFault comes out, waiting is bounded, and it heals by itself.

One table of faults, one set of promises. Real server, real sockets, real time: each wait is for a
condition with a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

import pytest
from tests.stores.shards import general, only

from silence_gateway.core.store_failover import State
from silence_gateway.errors import StoreFault, StoreMisconfigured
from silence_gateway.events import Event, Noticed, StoreFound, StoreLost
from silence_gateway.stores.contracts import Script
from silence_gateway.stores.settings import StoreSettings
from silence_gateway.stores.valkey import ValkeyStore
from silence_gateway.testing.fault_proxy import FaultProxy
from silence_gateway.testing.store_checks import eventually
from silence_gateway.testing.valkey import ValkeyServer

pytestmark = pytest.mark.valkey

COUNT = Script(
    "count", "redis.call('PEXPIRE', KEYS[1], 60000); return redis.call('INCRBY', KEYS[1], ARGV[1])"
)
ECHO = Script("echo", "return ARGV[1]")
WRITE = Script("write", "return redis.call('SET', KEYS[1], ARGV[1], 'PX', 60000)")
DEADLINE_S = 0.025
# A call may be late by the loop's own lag on a busy machine; the deadline itself is exact.
BOUND_S = DEADLINE_S + 0.1


@dataclass
class Yard:
    """A server of this test alone, behind a proxy."""

    server: ValkeyServer
    proxy: FaultProxy
    events: list[Event] = field(default_factory=list)

    def store(self, fleet: str) -> ValkeyStore:
        return ValkeyStore(
            StoreSettings(url=self.proxy.url, deadline_s=DEADLINE_S), fleet, observer=self.events.append
        )

    def lost_and_found(self) -> list[type[Event]]:
        return [type(event) for event in self.events if isinstance(event, StoreLost | StoreFound)]


@pytest.fixture
def yard() -> Iterator[Yard]:
    with ValkeyServer() as server, FaultProxy(server.socket) as proxy:
        yield Yard(server, proxy)


def kill_server(yard: Yard) -> None:
    yard.server.kill()


def start_server(yard: Yard) -> None:
    yard.server.start()


def slow_down(yard: Yard) -> None:
    yard.proxy.latency_s = 0.2


FAULTS: dict[str, tuple[Callable[[Yard], None], Callable[[Yard], None]]] = {
    "refused": (lambda yard: yard.proxy.refuse(), lambda yard: yard.proxy.heal()),
    "hung": (lambda yard: yard.server.pause(), lambda yard: yard.server.resume()),
    "killed": (kill_server, start_server),
    "slow": (slow_down, lambda yard: yard.proxy.heal()),
    "black-hole": (lambda yard: yard.proxy.black_hole(), lambda yard: yard.proxy.heal()),
}


async def timed_call(store: ValkeyStore) -> tuple[float, bool]:
    """One call, as a request would make it: how long it took and whether it was answered."""
    begin_s = time.perf_counter()
    try:
        await store.scripts.run(ECHO, [], [b"x"])
    except StoreFault:
        return time.perf_counter() - begin_s, False
    return time.perf_counter() - begin_s, True


@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_of_the_store_costs_more_than_its_deadline(yard: Yard, fleet: str, fault: str) -> None:
    begin, end = FAULTS[fault]

    async def scenario() -> None:
        store = yard.store(fleet)
        await store.start()
        try:
            await eventually(lambda: store.up, "the store is up to begin with")
            heard: list[bytes] = []
            gaps: list[int] = []
            store.bus.subscribe("news", heard.append, lambda: gaps.append(1))
            await store.bus.ready("news")
            board = store.board.watch("room")
            await store.board.put("room", "before", b"1", ttl_s=60)
            assert all(
                answered for _, answered in await asyncio.gather(*(timed_call(store) for _ in range(50)))
            )

            begin(yard)
            broke_s = time.perf_counter()
            slowest_s = 0.0
            while store.state is not State.OPEN:
                results = await asyncio.gather(*(timed_call(store) for _ in range(10)))
                slowest_s = max(slowest_s, *(took_s for took_s, _ in results))
                assert time.perf_counter() - broke_s < 1.0, "the breaker opens within a second"
            assert slowest_s < BOUND_S, "waiting is bounded by the deadline"
            assert not store.up

            took_s = [(await timed_call(store))[0] for _ in range(50)]
            assert sorted(took_s)[45] < 0.001, "an open breaker adds nothing"
            with pytest.raises(StoreFault):
                await store.board.put("room", "meanwhile", b"2", ttl_s=60)
            assert dict(board) == {"before": b"1", "meanwhile": b"2"}

            end(yard)
            healed_s = time.perf_counter()
            await eventually(lambda: store.up, "the store is found again")
            assert time.perf_counter() - healed_s < 2.0, "recovery is noticed within two seconds"
            assert (await timed_call(store))[1]
            await eventually(
                lambda: yard.lost_and_found() == [StoreLost, StoreFound], "one line down, one up"
            )
            other = ValkeyStore(yard.server.url, fleet)
            await other.start()
            seen = other.board.watch("room")
            await eventually(lambda: seen.get("meanwhile") == b"2", "what was written meanwhile is shared")
            await eventually(lambda: seen.get("before") == b"1", "what was there before is there again")

            async def said() -> None:
                await store.bus.ready("news")
                await other.bus.publish("news", b"again")

            end_s = time.perf_counter() + 5
            while not heard:
                assert time.perf_counter() < end_s, "the bus delivers again"
                with contextlib.suppress(StoreFault):
                    await said()
                await asyncio.sleep(0.02)
            if fault in {"refused", "killed"}:  # elsewhere what was held back has arrived late
                assert gaps, "an interruption is told"
            await other.stop()
        finally:
            await store.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize("fault", ["refused", "black-hole"])
def test_starting_without_a_store_is_no_fault(yard: Yard, fleet: str, fault: str) -> None:
    begin, end = FAULTS[fault]

    async def scenario() -> None:
        begin(yard)
        store = yard.store(fleet)
        begin_s = time.perf_counter()
        await store.start()
        assert time.perf_counter() - begin_s < 0.2, "start returns at once"
        try:
            took_s, answered = await timed_call(store)
            assert not answered
            assert took_s < BOUND_S
            await eventually(lambda: store.state is State.OPEN, "the breaker opens")
            end(yard)
            await eventually(lambda: store.up, "the store is found when it appears")
            assert (await timed_call(store))[1]
            assert yard.lost_and_found() == [StoreLost, StoreFound]
        finally:
            await store.stop()

    asyncio.run(scenario())


def test_an_idle_store_notices_an_outage_too(yard: Yard, fleet: str) -> None:
    async def scenario() -> None:
        store = yard.store(fleet)
        await store.start()
        try:
            yard.proxy.black_hole()
            await eventually(lambda: not store.up, "nobody needs to call for an outage to be seen")
        finally:
            await store.stop()

    asyncio.run(scenario())


def test_ten_thousand_calls_half_of_them_cancelled_shift_no_reply(yard: Yard, fleet: str) -> None:
    """Some leave before they are sent, some while they wait; each answer names the request it is for."""
    draw = Random(20_230_320)

    async def scenario() -> None:
        store = ValkeyStore(StoreSettings(url=yard.proxy.url, deadline_s=5, failures=1000), fleet)
        await store.start()
        answered: list[tuple[bytes, bytes]] = []
        cancelled = 0

        async def caller(name: bytes) -> None:
            answered.append((name, await store.scripts.run(ECHO, [], [name])))

        try:
            await eventually(lambda: all(lane.connected for lane in only(store).lanes), "every lane stands")
            before = yard.proxy.accepted
            yard.proxy.latency_s = 0.03
            for first in range(0, 10_000, 500):
                tasks = [asyncio.create_task(caller(b"%d" % number)) for number in range(first, first + 500)]
                for task in draw.sample(tasks, 250):
                    if draw.random() < 0.05:
                        await asyncio.sleep(draw.random() * 0.0005)
                    cancelled += task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            assert len(answered) + cancelled == 10_000
            assert cancelled > 4000, "most of the half left while answers were on their way"
            assert [pair for pair in answered if pair[0] != pair[1]] == []
            assert yard.proxy.accepted - before <= 2
        finally:
            await store.stop()

    asyncio.run(scenario())


def test_a_lost_reply_runs_no_script_twice(yard: Yard, fleet: str) -> None:
    async def scenario() -> None:
        store = ValkeyStore(StoreSettings(url=yard.proxy.url, deadline_s=1, failures=1000), fleet)
        await store.start()
        key = f"{fleet}:count".encode()
        try:
            assert await store.scripts.run(COUNT, [key], [1]) == 1
            for _ in range(10):
                asked = asyncio.ensure_future(store.scripts.run(COUNT, [key], [1]))
                yard.proxy.reset_at_answer(1)
                await asyncio.gather(asked, return_exceptions=True)
            yard.proxy.heal()
            await eventually(lambda: store.up and only(store).hot.connected, "it reconnects")
            total = await store.scripts.run(COUNT, [key], [0])
            assert total <= 11
        finally:
            await store.stop()

    asyncio.run(scenario())


def test_a_server_that_forgets_its_scripts_is_reminded_unnoticed(yard: Yard, fleet: str) -> None:
    async def scenario() -> None:
        store = ValkeyStore(StoreSettings(url=yard.proxy.url, deadline_s=2), fleet)
        await store.start()
        key = f"{fleet}:count".encode()
        try:
            asked = 0
            for _ in range(20):
                flush = general(store).call(b"SCRIPT", b"FLUSH")
                calls = [asyncio.ensure_future(store.scripts.run(COUNT, [key], [1])) for _ in range(50)]
                asked += len(calls)
                await flush
                await asyncio.gather(*calls)
            assert await store.scripts.run(COUNT, [key], [0]) == asked
            assert only(store).hot.counts.loads <= 22, "one load per flush"
        finally:
            await store.stop()

    asyncio.run(scenario())


def test_replies_in_single_bytes_are_replies(yard: Yard, fleet: str) -> None:
    async def scenario() -> None:
        yard.proxy.slice_bytes = 1
        store = ValkeyStore(StoreSettings(url=yard.proxy.url, deadline_s=2), fleet)
        await store.start()
        try:
            await eventually(lambda: store.up, "bytes one by one are slow, not wrong")
            assert await store.scripts.run(ECHO, [], [b"word" * 50]) == b"word" * 50
        finally:
            await store.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize("url", ["valkey://:wrong@", "valkey://somebody:wrong@", "valkey://"])
def test_wrong_credentials_are_the_operators_to_mend(fleet: str, url: str) -> None:
    async def scenario(address: str) -> None:
        events: list[Event] = []
        store = ValkeyStore(address, fleet, observer=events.append)
        await store.start()
        try:
            await eventually(lambda: store.state is State.OPEN, "wrong credentials open the breaker")
            with pytest.raises(StoreMisconfigured, match=r"WRONGPASS|NOAUTH|invalid|AUTH"):
                await store.scripts.run(ECHO, [], [b"x"])
            lost = [event for event in events if isinstance(event, StoreLost)]
            assert len(lost) == 1
            assert "wrong" not in str(lost[0]).lower().replace("wrongpass", "")
            assert only(store).failover.cool_down_us(0.5) == 1_000_000, "twice the wait for a restart"
        finally:
            await store.stop()

    with ValkeyServer("--requirepass", "right") as server, FaultProxy(server.socket) as proxy:
        asyncio.run(scenario(f"{url}127.0.0.1:{proxy.port}"))


def test_a_full_queue_refuses_at_once(yard: Yard, fleet: str) -> None:
    async def scenario() -> None:
        store = yard.store(fleet)
        lane = only(store).hot
        lane.capacity = 100
        await store.start()
        try:
            await eventually(lambda: not lane.queue and not lane.owed, "nothing else is on its way")
            calls = [asyncio.ensure_future(store.scripts.run(ECHO, [], [b"x"])) for _ in range(150)]
            refused = sum(call.done() for call in calls)
            await asyncio.gather(*calls, return_exceptions=True)

            assert refused == 50
            assert lane.counts.overflowed == 50
        finally:
            await store.stop()

    asyncio.run(scenario())


def test_a_script_that_cannot_work_blames_nobody_else(yard: Yard, fleet: str) -> None:
    async def scenario() -> None:
        store = yard.store(fleet)
        await store.start()
        try:
            for script in (
                Script("broken", "this is no Lua"),
                Script("raises", "return redis.call('NOSUCH')"),
            ):
                for _ in range(6):
                    with pytest.raises(StoreMisconfigured, match=script.name):
                        await store.scripts.run(script, [], [])
            assert store.up
            assert await store.scripts.run(ECHO, [], [b"x"]) == b"x"
        finally:
            await store.stop()

    asyncio.run(scenario())


def test_a_replica_is_no_store(yard: Yard, fleet: str) -> None:
    async def scenario() -> None:
        store = yard.store(fleet)
        await store.start()
        try:
            await general(store).call(b"REPLICAOF", b"127.0.0.1", b"1")
            await eventually(lambda: not store.up, "READONLY opens the breaker, if only by the probe's write")
            await promote(yard.server.socket)
            await eventually(lambda: store.up, "a promoted server is a store again")
            assert yard.lost_and_found() == [StoreLost, StoreFound]
        finally:
            await store.stop()

    asyncio.run(scenario())


async def promote(path: str) -> None:
    """Speak to the server past the proxy, with a client that is not ours."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"REPLICAOF NO ONE\r\n")
    assert await reader.readline() == b"+OK\r\n"
    writer.close()
    await writer.wait_closed()


def test_a_full_store_is_up_and_says_that_it_takes_no_writes(yard: Yard, fleet: str) -> None:
    async def scenario() -> None:
        store = yard.store(fleet)
        await store.start()
        try:
            assert store.refuses_writes == ""
            await general(store).call(b"CONFIG", b"SET", b"maxmemory", b"1")
            await eventually(lambda: "OOM" in store.refuses_writes, "the next beat is refused")
            assert store.up
            assert await store.scripts.run(ECHO, [], [b"x"]) == b"x"
            with pytest.raises(StoreFault, match="OOM"):
                await store.scripts.run(WRITE, [b"key"], [1])

            await general(store).call(b"CONFIG", b"SET", b"maxmemory", b"0")
            await eventually(lambda: not store.refuses_writes, "the next beat is taken")
            assert Noticed(what="the store takes writes again") in yard.events
            assert yard.lost_and_found() == []
        finally:
            await store.stop()

    asyncio.run(scenario())


def test_one_good_moment_of_a_stalling_store_is_not_its_return(yard: Yard, fleet: str) -> None:
    """Every second answer of a probe is late: until three in a row are not, the store stays away."""

    async def scenario() -> None:
        store = yard.store(fleet)
        await store.start()
        beats = 0
        real_beat = only(store).beat

        async def stalls_again() -> bool:
            nonlocal beats
            beats += 1
            yard.proxy.latency_s = 0.0 if beats % 2 else 0.2
            return await real_beat()

        try:
            await eventually(lambda: store.up, "the store is up to begin with")
            yard.proxy.latency_s = 0.2
            await eventually(lambda: not store.up, "a slow store is left alone")
            only(store).beat = stalls_again  # type: ignore[method-assign] # slow exactly when a probe asks
            await eventually(lambda: beats >= 6, "it is probed")
            assert yard.lost_and_found() == [StoreLost]

            only(store).beat = real_beat  # type: ignore[method-assign]
            yard.proxy.heal()
            await eventually(lambda: store.up, "it is back when it answers every time")
            assert yard.lost_and_found() == [StoreLost, StoreFound]
        finally:
            await store.stop()

    asyncio.run(scenario())
