"""
Part p: how long after one instance made up its mind another one acts on it, over a Valkey on loopback.

The two are processes, so that neither waits for the other's loop. One moves again and again: its breaker of
an endpoint trips on failed calls, an operator holds its breaker of the upstream open, or an endpoint tells it
that it does not serve. Both write down when they act on that, on the clock that they share
(CLOCK_MONOTONIC), and the difference is one measurement. A move that the other one did not follow makes the
run void.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from bisect import bisect_left
from statistics import median

from machine import HERE, LOAD_CORE, PYTHON, TESTED_CORE, valkey

MOVES = 200
WANTED_P99_MS = 100.0
KINDS = ("endpoint breaker", "upstream breaker", "health")
APART_S = 0.06
A, B = "10.0.0.1:1", "10.0.0.2:1"


def ratio_of(kind: str) -> str:
    """Return what the share of the wanted time is called that a kind of move took."""
    return f"{WANTED_P99_MS:.0f} ms / p99 of a move, {kind}"


class Moments:
    """An observer that writes down when calls to A, or to all, are stopped."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.stopped_s: list[float] = []

    def __call__(self, event) -> None:
        from silence_gateway.events import BreakerMoved, EndpointDown

        if self.kind == "health":
            mine = isinstance(event, EndpointDown) and event.endpoint == A
        else:
            endpoint = A if self.kind == "endpoint breaker" else "*"
            shut = {"open", "held_open"}
            mine = isinstance(event, BreakerMoved) and event.endpoint == endpoint and event.new in shut
        if mine:
            self.stopped_s.append(time.monotonic())


async def instance(port: int, fleet: str, kind: str, moves: int) -> list[float]:
    """Be one instance: move that often or, with 0, follow until standard input ends."""
    from silence_gateway.clock import SystemClock
    from silence_gateway.stores.settings import StoreSettings
    from silence_gateway.stores.valkey import ValkeyStore
    from silence_gateway.testing.scripted_endpoints import ScriptedEndpoints
    from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
    from silence_gateway.upstreams.settings import (
        BreakerSettings,
        EndpointSettings,
        HealthSettings,
        UpstreamSettings,
    )

    store = ValkeyStore(StoreSettings(url=f"valkey://127.0.0.1:{port}/0", deadline_s=1.0), fleet)
    endpoints, moments = ScriptedEndpoints(SystemClock()), Moments(kind)
    settings = UpstreamSettings(
        name="shop",
        endpoints=tuple(EndpointSettings(address=name) for name in (A, B)),
        balancer="round_robin",
        breaker=BreakerSettings(consecutive=2, cool_down_s=60.0),
        health=HealthSettings(interval_s=0.1, timeout_s=0.1, unhealthy_after=1, healthy_after=1),
    )
    await store.start()
    try:
        async with GrpcUpstream(
            settings, connector=endpoints.connect, board=store.board, observer=moments
        ) as pool:
            while not all(one.health == "healthy" for one in pool.statistics.endpoints):  # noqa: ASYNC110 - pools do not tell
                await asyncio.sleep(0.01)
            print("ready", flush=True)
            if moves:
                # The other one begins only now: who checks the endpoints is this one.
                await asyncio.to_thread(sys.stdin.readline)
                for _ in range(moves):
                    await move(pool, endpoints, kind, moments)
            else:
                await asyncio.to_thread(sys.stdin.read)
    finally:
        await store.stop()
    return moments.stopped_s


async def move(pool, endpoints, kind: str, moments: Moments) -> None:
    """Stop calls to A, or to all, and take it back once the others must know."""
    from silence_gateway.core.breaker import State
    from silence_gateway.errors import GatewayError
    from silence_gateway.testing.scripted_endpoints import NOT_SERVING, SERVING
    from silence_gateway.testing.scripted_upstream import Failure, Reply
    from silence_gateway.upstreams.guarded import WHOLE

    before = len(moments.stopped_s)
    if kind == "health":
        endpoints[A].health.follow(NOT_SERVING)
        while len(moments.stopped_s) == before:  # noqa: ASYNC110 - pools do not tell
            await asyncio.sleep(0.002)
        await asyncio.sleep(APART_S)
        endpoints[A].health.follow(SERVING)
        while any(one.health != "healthy" for one in pool.statistics.endpoints):  # noqa: ASYNC110 - pools do not tell
            await asyncio.sleep(0.002)
        await asyncio.sleep(APART_S)
        return
    address = A
    if kind == "upstream breaker":
        address = WHOLE
        await pool.hold_breaker(WHOLE, State.HELD_OPEN, "", 60)
    else:
        endpoints[A].follow(Failure(14))
        while len(moments.stopped_s) == before:
            try:
                await pool.unary(b"/shop.Shop/Get", b"")
            except GatewayError:
                continue
        endpoints[A].follow(Reply(b"ok"))
    # Held closed and then left to itself, a breaker is closed at once, for everybody.
    for state in (State.HELD_CLOSED, State.CLOSED):
        await asyncio.sleep(APART_S)
        await pool.hold_breaker(address, state, "", 60)
    await asyncio.sleep(APART_S)


def run(kind: str, moves: int) -> dict[str, float]:
    """Let one instance move and another follow; return what lies between, in milliseconds."""

    def start(core: int, port: int, fleet: str, count: int) -> subprocess.Popen[str]:
        told = (str(port), fleet, kind, str(count))
        process = subprocess.Popen(
            ["taskset", "-c", str(core), PYTHON, str(HERE / "propagation.py"), *told],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if process.stdout.readline() != "ready\n":
            raise SystemExit(f"{kind}: an instance did not begin")
        return process

    started: list[subprocess.Popen[str]] = []
    with valkey() as port:
        fleet = f"moves-{time.time_ns()}"
        try:
            mover = start(TESTED_CORE, port, fleet, moves)
            started.append(mover)
            follower = start(LOAD_CORE, port, fleet, 0)
            started.append(follower)
            moved_s = json.loads(mover.communicate("go\n")[0])
            followed_s = json.loads(follower.communicate()[0])
        finally:
            for process in started:
                process.kill()
                process.wait()
    took_ms = []
    for at_s, next_s in zip(moved_s, [*moved_s[1:], float("inf")], strict=True):
        found = bisect_left(followed_s, at_s)
        if found == len(followed_s) or followed_s[found] >= next_s:
            raise SystemExit(f"{kind}: a move was not followed: the run is void")
        took_ms.append((followed_s[found] - at_s) * 1000)
    took_ms.sort()
    p99_ms = took_ms[min(len(took_ms) - 1, int(len(took_ms) * 0.99))]
    return {"moves": len(took_ms), "p50_ms": median(took_ms), "p99_ms": p99_ms, "worst_ms": took_ms[-1]}


def measure(rounds: int, seconds: float, moves: int = MOVES) -> dict[str, object]:
    """Run part p and return its results; the moves are its rounds, and it takes two minutes."""
    del rounds, seconds
    runs = {}
    ratios = {}
    for kind in KINDS:
        figures = run(kind, moves)
        print(f"  {kind:16} {figures}", file=sys.stderr)
        runs[kind] = [figures]
        ratios[ratio_of(kind)] = WANTED_P99_MS / figures["p99_ms"]
    return {"runs": runs, "ratios": ratios}


if __name__ == "__main__":
    if len(sys.argv) == 5:
        import uvloop

        _, target, name, what, count = sys.argv
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            print(json.dumps(runner.run(instance(int(target), name, what, int(count)))))
    else:
        measure(1, 0, int(sys.argv[1]) if len(sys.argv) > 1 else MOVES)
