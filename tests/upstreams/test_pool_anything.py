"""Whatever endpoints do, in whatever order: every call ends in time, and nothing is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from random import Random

from hypothesis import example, given, settings
from hypothesis import strategies as st

from silence_gateway.core.status import Code
from silence_gateway.errors import GatewayError
from silence_gateway.testing.clock import FakeClock, settle
from silence_gateway.testing.scripted_endpoints import (
    NOT_SERVING,
    SERVING,
    ScriptedEndpoint,
    ScriptedEndpoints,
)
from silence_gateway.testing.scripted_upstream import Broken, Failure, Reply, Silence
from silence_gateway.upstreams.balancing_settings import BALANCERS
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.settings import (
    BreakerSettings,
    EndpointSettings,
    HealthSettings,
    PoolSettings,
    UpstreamSettings,
)

NAMES = ("10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1")
TIMEOUT_S = 2.0


def say_goodbye(endpoint: ScriptedEndpoint) -> None:
    for connection in tuple(endpoint.connections):
        connection.stop()


def lose(endpoint: ScriptedEndpoint) -> None:
    for connection in tuple(endpoint.connections):
        connection.lose()


FATES: dict[str, Callable[[ScriptedEndpoint], object]] = {
    "answers": lambda endpoint: endpoint.follow(Reply(b"ok")),
    "answers late": lambda endpoint: endpoint.follow(Reply(b"ok", after_s=0.7)),
    "is silent": lambda endpoint: endpoint.follow(Silence()),
    "fails": lambda endpoint: endpoint.follow(Failure(Code.UNAVAILABLE)),
    "breaks unsent": lambda endpoint: endpoint.follow(Broken(sent=False)),
    "breaks sent": lambda endpoint: endpoint.follow(Broken(sent=True)),
    "dies": ScriptedEndpoint.die,
    "refuses": ScriptedEndpoint.refuse,
    "hangs": ScriptedEndpoint.hang,
    "accepts": ScriptedEndpoint.accept,
    "says goodbye": say_goodbye,
    "is lost": lose,
    "is sick": lambda endpoint: endpoint.health.follow(NOT_SERVING),
    "is well": lambda endpoint: endpoint.health.follow(SERVING),
    "checks are silent": lambda endpoint: endpoint.health.follow(Silence()),
}

steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(NAMES), st.sampled_from(sorted(FATES))),
        st.tuples(st.just("calls"), st.integers(1, 8)),
        st.tuples(st.just("time"), st.sampled_from([0.05, 0.5, 3.0])),
        st.tuples(st.just("leaves"), st.integers(0, 50)),
    ),
    max_size=40,
)


# One that is doubted gets no calls while others are well: it must not fall asleep before it is asked again.
@example(
    trace=[("10.0.0.2:1", "checks are silent"), *[("calls", 1)] * 3, ("time", 0.05), ("calls", 1)],
    seed=0,
    balancer="least_request",
    least=0,
    idle_s=2.0,
    age_s=None,
    checked=True,
)
@settings(max_examples=80, deadline=None)
@given(
    trace=steps,
    seed=st.integers(0, 99),
    balancer=st.sampled_from(BALANCERS),
    least=st.integers(0, 2),
    idle_s=st.sampled_from([2.0, 300.0]),
    age_s=st.sampled_from([None, 1.0, 5.0]),
    checked=st.booleans(),
)
def test_every_call_ends_by_its_deadline_and_the_pool_recovers(
    trace: list[tuple[str, str | int | float]],
    seed: int,
    balancer: str,
    least: int,
    idle_s: float,
    age_s: float | None,
    *,
    checked: bool,
) -> None:
    kept = PoolSettings(
        min_connections=least,
        max_connections=2,
        max_streams=2,
        max_waiting=5,
        idle_timeout_s=idle_s,
        max_connection_age_s=age_s,
    )
    health = HealthSettings(interval_s=1, timeout_s=0.5, unhealthy_after=2, healthy_after=1)
    work = scenario(trace, seed, balancer, kept, health if checked else None)
    # The clock is a fake: what waits for it although nobody turns it on would wait for ever.
    asyncio.run(asyncio.wait_for(work, 5))


async def scenario(
    trace: list[tuple[str, str | int | float]],
    seed: int,
    balancer: str,
    kept: PoolSettings,
    health: HealthSettings | None,
) -> None:
    clock = FakeClock()
    endpoints = ScriptedEndpoints(clock)
    pool = GrpcUpstream(
        UpstreamSettings(
            name="shop",
            endpoints=tuple(EndpointSettings(address=name) for name in NAMES),
            balancer=balancer,
            timeout_s=TIMEOUT_S,
            health=health,
            breaker=BreakerSettings(consecutive=2, cool_down_s=1),
            pool=kept,
        ),
        clock=clock,
        rng=Random(seed),
        connector=endpoints.connect,
    )
    took_s: list[float] = []
    begun: list[asyncio.Task[None]] = []

    async def call() -> None:
        began_s = clock.monotonic_s()
        try:
            with suppress(GatewayError):
                await pool.unary(b"/shop.Orders/Get", b"")
        finally:
            took_s.append(clock.monotonic_s() - began_s)

    await pool.start()
    for who, what in trace:
        if who == "calls":
            begun += [asyncio.ensure_future(call()) for _ in range(int(what))]
        elif who == "time":
            await clock.advance(float(what))
        elif who == "leaves" and begun:
            begun[int(what) % len(begun)].cancel()
        elif isinstance(what, str):
            FATES[what](endpoints[who])
        await settle()
    await clock.advance(TIMEOUT_S + 0.01)

    assert all(task.done() for task in begun)
    assert all(seconds <= TIMEOUT_S + 1e-6 for seconds in took_s)
    told = pool.statistics
    assert told.waiting == 0
    assert [one.in_flight for one in told.endpoints] == [0, 0, 0]
    assert min(told.calls_by_code.values(), default=0) >= 0

    for name in NAMES:
        for fate in ("answers", "is well", "accepts"):
            FATES[fate](endpoints[name])
    await clock.advance(30)
    assert [one.state for one in pool.statistics.endpoints] == ["ready"] * 3
    assert all(len(endpoints[name].connections) >= kept.min_connections for name in NAMES)
    assert (await pool.unary(b"/shop.Orders/Get", b"")).message == b"ok"
    await pool.stop()
    assert [endpoints[name].connections for name in NAMES] == [[], [], []]
