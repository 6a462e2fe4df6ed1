"""
A thousand random schedules of kill, pause, delay and clock skew over several instances and one endpoint.

What must hold in each: no two probes of the half-open state are under way at the endpoint at the same time,
and once the faults are over every instance alive has its breaker closed again. As many again are
about the breaker of an upstream as a whole.

Each instance has a clock of its own: it can be set wrong, and it stands still while the instance is paused.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from random import Random

import pytest

from silence_gateway.clock import Timer
from silence_gateway.core.breaker import State
from silence_gateway.core.status import Code
from silence_gateway.errors import GatewayError, RpcError, UpstreamTimeout
from silence_gateway.stores.contracts import Board
from silence_gateway.stores.memory import MemoryHub, MemoryStore
from silence_gateway.testing.clock import FakeClock
from silence_gateway.upstreams.contracts import CallStream, Metadata, Reply
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.settings import (
    BreakerSettings,
    EndpointSettings,
    UpstreamBreakerSettings,
    UpstreamSettings,
)
from silence_gateway.upstreams.statistics import ConnectionStatistics

ADDRESS = "10.0.0.1:1"
TIMEOUT_S = 1.0
SETTINGS = UpstreamSettings(
    name="shop",
    endpoints=(EndpointSettings(address=ADDRESS),),
    health=None,
    timeout_s=TIMEOUT_S,
    breaker=BreakerSettings(consecutive=2, cool_down_s=1.5),
)
WHOLE_SETTINGS = replace(
    SETTINGS,
    endpoints=tuple(EndpointSettings(address=f"10.0.0.{number}:1") for number in (1, 2)),
    # Endpoints' own breakers have no part in these.
    breaker=BreakerSettings(consecutive=1_000_000, min_calls=1_000_000),
    upstream_breaker=UpstreamBreakerSettings(min_calls=2, cool_down_s=1.5),
)
HEALING_S = 25.0
"""Longest time from the last fault to a closed breaker: several rounds of right, probe and cool-down."""


class World:
    """
    The endpoints, which are well or not together, and what is going on there.

    Attributes:
        answers: Whether calls go well.
        healed: Whether they are also quick, so that no caller's short deadline ends them.
        probes: Instances whose probe is under way.
        violations: Times a second probe came while one was under way.
        probed: Probes in all, so that the test is known to test something.
    """

    def __init__(self, clock: FakeClock, rng: Random) -> None:
        self.clock = clock
        self.rng = rng
        self.answers = True
        self.healed = False
        self.probes: list[Instance] = []
        self.violations = 0
        self.probed = 0

    async def serve(self, caller: Instance, deadline_s: float) -> None:
        """Take a call: it ends when it is done or its deadline, which was sent along, has passed."""
        probe = caller.breaker == State.HALF_OPEN.value
        if probe:
            self.probed += 1
            self.violations += bool(self.probes)
            self.probes.append(caller)
        takes_s = self.rng.choice((0.01, 0.1) if self.healed else (0.01, 0.1, 0.8, 30.0))
        try:
            await self.clock.sleep(min(takes_s, max(0.0, deadline_s - self.clock.monotonic_s())))
        finally:
            if probe:
                self.probes.remove(caller)
        if self.clock.monotonic_s() >= deadline_s:
            raise UpstreamTimeout("nobody answered in time")
        if not self.answers:
            raise RpcError(Code.UNAVAILABLE, "broken")


class OwnClock:
    """An instance's clock: wrong by some seconds, and without timers that fire while it is paused."""

    def __init__(self, world: FakeClock) -> None:
        self.world = world
        self.wrong_by_us = 0
        self.runs = asyncio.Event()
        self.runs.set()
        self.due: list[Callable[[], None]] = []

    def now_us(self) -> int:
        return self.world.now_us() + self.wrong_by_us

    def monotonic_s(self) -> float:
        return self.world.monotonic_s()

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        def fire() -> None:
            if self.runs.is_set():
                callback()
            elif not timer.cancelled:
                self.due.append(callback)

        timer = self.world.call_later(delay_s, fire)
        return timer

    async def sleep(self, delay_s: float) -> None:
        await self.world.sleep(delay_s)
        await self.runs.wait()

    def pause(self) -> None:
        self.runs.clear()

    def go_on(self) -> None:
        self.runs.set()
        due, self.due = self.due, []
        for callback in due:
            callback()


class SlowBoard:
    """A board whose every answer takes its time, and that a paused instance does not hear."""

    def __init__(self, board: Board, clock: OwnClock, rng: Random) -> None:
        self.board = board
        self.clock = clock
        self.rng = rng
        self.free_s = 0.0

    async def delay(self) -> None:
        await self.clock.world.sleep(self.rng.choice((0.0, 0.001, 0.05, 0.6)))

    async def put(self, room: str, name: str, value: bytes, ttl_s: float | None = None) -> None:
        await self.delay()
        await self.board.put(room, name, value, ttl_s)
        await self.clock.runs.wait()

    async def remove(self, room: str, name: str) -> None:
        await self.delay()
        await self.board.remove(room, name)

    async def known(self, room: str) -> None:
        await self.delay()
        await self.board.known(room)

    async def lead(self, room: str, name: str, ttl_s: float) -> int:
        await self.delay()
        fence = await self.board.lead(room, name, ttl_s)
        await self.delay()
        await self.clock.runs.wait()
        return fence

    def watch(
        self,
        room: str,
        on_change: Callable[[str, bytes | None], None] | None = None,
        on_end: Callable[[str], None] | None = None,
    ) -> Mapping[str, bytes]:
        def later(name: str, value: bytes | None) -> None:
            # Pushes come late, and still in the order in which they were sent.
            now_s = self.clock.monotonic_s()
            self.free_s = max(self.free_s, now_s + self.rng.choice((0.0, 0.01, 0.4)))
            assert on_change is not None
            self.clock.call_later(self.free_s - now_s, partial(on_change, name, value))

        return self.board.watch(room, later, on_end)


class Line:
    """An instance's connection to the endpoint; what it says is heard when the instance runs."""

    max_streams = 1000
    open_streams = 0
    sockets = 1

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.accepting = True
        self.statistics = ConnectionStatistics()

    async def unary(
        self, method: bytes, message: bytes, metadata: Metadata = (), deadline_s: float | None = None
    ) -> Reply:
        del method, message, metadata
        assert deadline_s is not None
        serving = asyncio.ensure_future(self.instance.world.serve(self.instance, deadline_s))
        self.instance.calls.add(serving)
        try:
            await serving
        finally:
            self.instance.calls.discard(serving)
            serving.cancel()
            await self.instance.clock.runs.wait()
        return Reply(b"ok", (), ())

    def stream(
        self,
        method: bytes,
        messages: bytes | AsyncIterable[bytes],
        metadata: Metadata = (),
        deadline_s: float | None = None,
    ) -> CallStream:
        raise NotImplementedError

    async def close(self, *, graceful: bool = False) -> None:
        del graceful
        self.accepting = False


class Instance:
    """A gateway: its pool, its clock, and callers that call without end."""

    def __init__(self, world: World, hub: MemoryHub, number: int, settings: UpstreamSettings) -> None:
        self.world = world
        self.settings = settings
        self.rng = Random(world.rng.getrandbits(64))
        self.clock = OwnClock(world.clock)
        self.alive = True
        self.calls: set[asyncio.Future[None]] = set()
        store = MemoryStore(hub, instance_id=f"i{number}")
        self.pool = GrpcUpstream(
            settings,
            clock=self.clock,
            rng=self.rng,
            board=SlowBoard(store.board, self.clock, self.rng),
            connector=self.connect,
        )
        self.caller: asyncio.Task[None] | None = None

    @property
    def breaker(self) -> str:
        """The state of the breaker that this is about."""
        told = self.pool.statistics
        return told.endpoints[0].breaker if self.settings is SETTINGS else told.breaker

    async def connect(
        self, address: str, *, on_lost: Callable[[str], None], on_capacity: Callable[[], None]
    ) -> Line:
        del address, on_lost, on_capacity
        return Line(self)

    async def start(self) -> None:
        await self.pool.start()
        self.caller = asyncio.create_task(self.keep_calling())

    async def keep_calling(self) -> None:
        begun: set[asyncio.Task[None]] = set()
        try:
            while True:
                await self.clock.sleep(0.05 + self.rng.random())
                task = asyncio.create_task(self.call())
                begun.add(task)
                task.add_done_callback(begun.discard)
        finally:
            for task in begun:
                task.cancel()

    async def call(self) -> None:
        deadline_s = self.clock.monotonic_s() + self.rng.choice((0.2, TIMEOUT_S, 6.0))
        with suppress(GatewayError):
            await self.pool.unary(b"/shop.Orders/Get", b"", (), deadline_s)

    def kill(self) -> None:
        """End as by SIGKILL: nothing runs any more, and the endpoint sees its calls go."""
        self.alive = False
        self.clock.pause()
        for call in tuple(self.calls):
            call.cancel()

    async def clean_up(self) -> None:
        assert self.caller is not None
        self.caller.cancel()
        self.clock.go_on()
        await asyncio.gather(self.caller, return_exceptions=True)
        await self.pool.stop(drain_s=0)


async def one_schedule(seed: int, settings: UpstreamSettings) -> World:
    """Live through the schedule of *seed*, and check that everybody is well in the end."""
    rng = Random(seed)
    clock = FakeClock()
    world = World(clock, rng)
    hub = MemoryHub(clock)
    instances = [Instance(world, hub, number, settings) for number in range(rng.randint(2, 4))]
    for instance in instances:
        await instance.start()
    world.answers = False
    for _ in range(rng.randint(5, 15)):
        await clock.advance(rng.random() * 2)
        instance = rng.choice(instances)
        match rng.choice(("break", "mend", "pause", "pause", "go on", "skew", "kill", "new")):
            case "break":
                world.answers = False
            case "mend":
                world.answers = True
            case "pause":
                instance.clock.pause()
            case "go on" if instance.alive:
                instance.clock.go_on()
            case "skew":
                instance.clock.wrong_by_us = rng.randint(-3_600_000_000, 3_600_000_000)
            case "kill" if sum(one.alive for one in instances) > 1:
                instance.kill()
            case "new" if len(instances) < 6:
                instances.append(Instance(world, hub, len(instances), settings))
                await instances[-1].start()
            case _:
                pass
    world.answers = world.healed = True
    for instance in instances:
        if instance.alive:
            instance.clock.go_on()
    try:
        await clock.advance(HEALING_S)
        states = [one.breaker for one in instances if one.alive]
        assert set(states) == {"closed"}, f"schedule {seed}: {states}"
        assert world.violations == 0, f"schedule {seed}: {world.violations} second probes"
    finally:
        for instance in instances:
            await instance.clean_up()
    return world


def live_through(seeds: range, settings: UpstreamSettings) -> int:
    """Live through every schedule of *seeds* and return how many probes there were."""

    async def all_of_them() -> int:
        return sum([(await one_schedule(seed, settings)).probed for seed in seeds])

    return asyncio.run(all_of_them())


@pytest.mark.parametrize("settings", [SETTINGS, WHOLE_SETTINGS], ids=["endpoint", "upstream"])
@pytest.mark.parametrize("seed", range(4))
def test_a_schedule_of_faults_sees_one_probe_at_a_time_and_ends_closed(
    seed: int, settings: UpstreamSettings
) -> None:
    live_through(range(seed, seed + 1), settings)


@pytest.mark.system
@pytest.mark.parametrize("settings", [SETTINGS, WHOLE_SETTINGS], ids=["endpoint", "upstream"])
@pytest.mark.parametrize("first", range(0, 1000, 100))
def test_a_thousand_schedules_see_one_probe_at_a_time_and_end_closed(
    first: int, settings: UpstreamSettings
) -> None:
    assert live_through(range(first, first + 100), settings) > 100
