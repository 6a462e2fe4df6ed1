"""The pipeline's promises, against a wire that the test holds in its hands and a clock it moves."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import hiredis
from hypothesis import given, settings
from hypothesis import strategies as st

from silence_gateway.core.store_failover import Fault
from silence_gateway.errors import StoreUnavailable
from silence_gateway.stores.batching import Pipeline
from silence_gateway.stores.calls import Call
from silence_gateway.stores.client import StoreRefused, Wire
from silence_gateway.stores.contracts import Script
from silence_gateway.testing import FakeClock, settle

ECHO = Script("echo", "return ARGV[1]")


class HeldWire(Wire):
    """Keeps what is written; the test answers."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def commands(self) -> list[list[bytes]]:
        """What was written since the last look."""
        reader = hiredis.Reader()
        reader.feed(b"".join(self.writes))
        self.writes.clear()
        found: list[list[bytes]] = []
        while (command := reader.gets()) is not False:
            found.append(command)
        return found

    def answer(self, *replies: bytes) -> None:
        self.data_received(b"".join(replies))


class Witness:
    """Remembers what a pipeline reports."""

    def __init__(self) -> None:
        self.successes = 0
        self.faults: list[Fault] = []

    def call_succeeded(self) -> None:
        self.successes += 1

    def call_failed(self, fault: Fault, _reason: str) -> None:
        self.faults.append(fault)


class Bench:
    """A pipeline, its wires, its clock and its witness."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.witness = Witness()
        self.wires: list[HeldWire] = []
        self.refuse = False
        self.lane = Pipeline(self.open, self.clock, self.witness, deadline_s=0.025, silence_s=0.25)

    @property
    def wire(self) -> HeldWire:
        return self.wires[-1]

    async def open(self) -> Wire:
        if self.refuse:
            raise StoreRefused(Fault.UNREACHABLE, "refused")
        self.wires.append(HeldWire())
        return self.wires[-1]


def bulk(value: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value)


NOSCRIPT = b"-NOSCRIPT No matching script.\r\n"


def test_calls_of_one_tick_leave_in_one_write_with_each_script_loaded_once() -> None:
    async def scenario() -> None:
        bench = Bench()
        await bench.lane.connect()
        calls = [bench.lane.run(ECHO, [b"k"], [number]) for number in range(5)]
        await settle()

        assert len(bench.wire.writes) == 1
        commands = bench.wire.commands()
        assert [command[0] for command in commands] == [b"SCRIPT"] + [b"EVALSHA"] * 5
        bench.wire.answer(bulk(b"sha"), *(bulk(b"%d" % number) for number in range(5)))
        assert await asyncio.gather(*calls) == [b"0", b"1", b"2", b"3", b"4"]
        bench.lane.run(ECHO, [], [9])
        await settle()
        assert [command[0] for command in bench.wire.commands()] == [b"EVALSHA"]

    asyncio.run(scenario())


def test_what_has_waited_for_a_connection_and_left_may_have_run_whichever_tick_it_came_from() -> None:
    async def scenario() -> None:
        bench = Bench()
        may_connect = asyncio.Event()

        async def open_later() -> Wire:
            await may_connect.wait()
            return await bench.open()

        bench.lane.open_wire = open_later
        first = bench.lane.call(b"SET", b"a", b"1")
        await settle()
        second = bench.lane.call(b"SET", b"b", b"1")
        await settle()
        may_connect.set()
        await settle()
        assert len(bench.wire.commands()) == 2
        await bench.clock.advance(0.03)

        for call in (first, second):
            error = call.exception()
            assert isinstance(error, StoreUnavailable)
            assert error.sent

    asyncio.run(scenario())


def test_only_entries_that_failed_with_noscript_are_replayed_behind_one_load() -> None:
    async def scenario() -> None:
        bench = Bench()
        await bench.lane.connect()
        calls = [bench.lane.run(ECHO, [], [number]) for number in range(4)]
        await settle()
        bench.wire.commands()
        bench.wire.answer(bulk(b"sha"), bulk(b"0"), NOSCRIPT, NOSCRIPT, bulk(b"3"))

        again = bench.wire.commands()
        assert [command[0] for command in again] == [b"SCRIPT", b"EVALSHA", b"EVALSHA"]
        assert [command[-1] for command in again[1:]] == [b"1", b"2"]
        bench.wire.answer(bulk(b"sha"), bulk(b"1"), bulk(b"2"))
        assert await asyncio.gather(*calls) == [b"0", b"1", b"2", b"3"]

    asyncio.run(scenario())


def test_a_missed_deadline_fails_the_call_and_keeps_the_connection() -> None:
    async def scenario() -> None:
        bench = Bench()
        await bench.lane.connect()
        late = bench.lane.call(b"GET", b"a")
        await bench.clock.advance(0.024)
        assert not late.done()
        await bench.clock.advance(0.002)
        assert isinstance(late.exception(), StoreUnavailable)
        assert bench.witness.faults == [Fault.SLOW]

        next_call = bench.lane.call(b"GET", b"b")
        await settle()
        bench.wire.answer(bulk(b"for a"), bulk(b"for b"))

        assert await next_call == b"for b"
        assert len(bench.wires) == 1

    asyncio.run(scenario())


def test_a_connection_that_owes_and_says_nothing_is_closed_and_one_that_talks_is_not() -> None:
    async def scenario() -> None:
        bench = Bench()
        await bench.lane.connect()
        for number in range(10):
            bench.lane.call(b"GET", b"%d" % number)
            await bench.clock.advance(0.1)
            bench.wire.answer(bulk(b"late"))
        assert len(bench.wires) == 1, "slow, but alive"
        bench.lane.call(b"GET", b"x")
        await bench.clock.advance(0.6)

        assert bench.wires[0].closed
        assert len(bench.wires) == 2, "and a new one is open"

    asyncio.run(scenario())


def test_calls_on_a_connection_that_breaks_fail_and_are_never_sent_again() -> None:
    async def scenario() -> None:
        bench = Bench()
        await bench.lane.connect()
        lost = bench.lane.run(ECHO, [], [1])
        await settle()
        bench.wire.close("cut")
        await settle()

        assert "may have run" in str(lost.exception())
        assert len(bench.wires) == 2
        assert [command[0] for command in bench.wire.commands()] == [b"SCRIPT"], (
            "scripts are loaded, calls are not"
        )

    asyncio.run(scenario())


def test_a_call_that_waits_for_a_connection_is_sent_unless_its_caller_left() -> None:
    async def scenario() -> None:
        bench = Bench()
        stays, leaves = bench.lane.call(b"GET", b"stays"), bench.lane.call(b"GET", b"leaves")
        leaves.cancel()
        await settle()

        assert [command[1] for command in bench.wire.commands()] == [b"stays"]
        bench.wire.answer(bulk(b"v"))
        assert await stays == b"v"

    asyncio.run(scenario())


def test_a_refused_connection_fails_what_waits_at_once() -> None:
    async def scenario() -> None:
        bench = Bench()
        bench.refuse = True
        call = bench.lane.call(b"GET", b"a")
        await settle()

        assert isinstance(call.exception(), StoreUnavailable)
        assert bench.witness.faults == [Fault.UNREACHABLE]

    asyncio.run(scenario())


def test_a_lane_that_may_not_connect_soon_speaks_against_the_server_and_one_that_soon_may_does_not() -> None:
    async def scenario() -> None:
        bench = Bench()
        await bench.lane.connect()
        turn = asyncio.Event()

        async def wait() -> None:
            await turn.wait()

        bench.lane.turn = wait
        bench.wire.close("cut")
        await settle()
        early = bench.lane.call(b"GET", b"a")
        await settle()
        assert isinstance(early.exception(), StoreUnavailable)
        assert bench.witness.faults == [], "a moment without a connection is no trouble yet"
        await bench.clock.advance(0.025)
        late = bench.lane.call(b"GET", b"a")
        await settle()
        assert isinstance(late.exception(), StoreUnavailable)
        assert bench.witness.faults == [Fault.UNREACHABLE]
        turn.set()
        await settle()
        fine = bench.lane.call(b"GET", b"a")
        await settle()
        bench.wire.answer(bulk(b"v"))
        assert await fine == b"v"
        assert bench.witness.faults == [Fault.UNREACHABLE]

    asyncio.run(scenario())


def test_an_answer_nobody_asked_for_ends_the_connection() -> None:
    async def scenario() -> None:
        bench = Bench()
        await bench.lane.connect()
        bench.wire.answer(bulk(b"surprise"))

        assert bench.wires[0].closed

    asyncio.run(scenario())


def test_a_full_socket_holds_calls_back_until_it_drains() -> None:
    async def scenario() -> None:
        bench = Bench()
        await bench.lane.connect()
        bench.wire.pause_writing()
        held = bench.lane.call(b"GET", b"a")
        await settle()
        assert bench.wire.writes == []
        bench.wire.resume_writing()
        bench.wire.answer(bulk(b"v"))

        assert await held == b"v"

    asyncio.run(scenario())


@settings(max_examples=100, deadline=None)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("call"), st.integers(1, 5)),
            st.tuples(st.just("cancel"), st.integers(0, 50)),
            st.tuples(st.just("answer"), st.integers(1, 8)),
            st.tuples(st.just("forget"), st.integers(1, 3)),
            st.tuples(st.just("wait"), st.integers(1, 20)),
            st.tuples(st.just("cut"), st.just(0)),
        ),
        max_size=40,
    )
)
def test_whatever_happens_an_answer_is_ones_own_and_every_call_ends(steps: list[tuple[str, int]]) -> None:
    async def scenario() -> None:
        bench = Bench()
        await bench.lane.connect()
        calls: list[tuple[bytes, asyncio.Future[Any]]] = []
        asked: dict[HeldWire, list[list[bytes]]] = {}

        def answer(number: int, *, forget: bool) -> None:
            wire = bench.wire
            waiting = asked.setdefault(wire, [])
            waiting += wire.commands()
            for _ in range(min(number, len(waiting))):
                command = waiting.pop(0)
                if command[0] == b"SCRIPT":
                    wire.answer(bulk(b"sha"))
                elif forget:
                    wire.answer(NOSCRIPT)
                else:
                    wire.answer(bulk(command[-1]))

        for what, number in steps:
            if what == "call":
                for _ in range(number):
                    token = b"%d" % len(calls)
                    calls.append((token, bench.lane.run(ECHO, [], [token])))
            elif what == "cancel" and number < len(calls):
                calls[number][1].cancel()
            elif what == "cut":
                bench.wire.close("cut")
            elif what == "wait":
                await bench.clock.advance(number / 1000)
            elif what in ("answer", "forget"):
                answer(number, forget=what == "forget")
            await settle(3)
        await bench.clock.advance(0.03)
        for token, call in calls:
            assert call.done()
            if not call.cancelled() and call.exception() is None:
                assert call.result() == token
            elif not call.cancelled():
                assert isinstance(call.exception(), StoreUnavailable)
        await bench.lane.stop()

    asyncio.run(scenario())


def test_what_was_answered_is_let_go_without_the_garbage_collector() -> None:
    """It looks seldom in a running gateway, and a publication may be half a megabyte."""

    async def scenario() -> None:
        bench = Bench()
        await bench.lane.connect()
        for number in range(100):
            call = bench.lane.call(b"PUBLISH", b"news", b"%d" % number)
            await settle()
            bench.wire.commands()
            bench.wire.answer(b":1\r\n")
            assert await call == 1
        assert sum(isinstance(each, Call) for each in gc.get_objects()) <= 1

    gc.collect()
    gc.disable()
    try:
        asyncio.run(scenario())
    finally:
        gc.enable()
