"""
Part s: a million calls of all kinds with random ends, and what is left of them.

Calls go through a pool whose connections have fewer streams than there are callers, so that there is always
a line; half of them through a channel. Each is unary or one of the three kinds of streams, to a server that
sends back what it gets, and ends as a seed says: in its own time, by a deadline that may be too short, by
cancelling whoever waits for it after some turns of the loop, or by leaving a stream after its first message.
After the first tenth and at the end all callers pause, and what this process holds is compared.

    python bench/leaks.py 20000

It fails if memory grew by more than 5 %, or the objects that the garbage collector knows did, or a stream, a
waiting call or a task is left, or a call failed that had no reason to.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from machine import HERE, PYTHON, TESTED_CORE, resident_bytes, streaming_backend

CALLS = 1_000_000
CALLERS = 96
CONNECTIONS, STREAMS = 2, 32
MESSAGES = 5
MEMORY, OBJECTS = "memory after a tenth / at the end", "objects after a tenth / at the end"
WANTED = {("p", MEMORY): 0.95, ("p", OBJECTS): 0.95}
EXPECTED = ("ok", "cancelled", "DeadlineExceeded", "UpstreamTimeout")
METHOD = "/bench.Shop/PutItem"


class Fate(random.Random):
    """Draws how a call goes."""

    def deadline_s(self) -> float | None:
        """Return a timeout in seconds: mostly none, else too short or barely long enough."""
        return self.uniform(0.0001, 0.004) if self.random() < 0.2 else None

    def patience(self) -> int:
        """Return after how many turns of the loop the waiting task is cancelled; 0 for never."""
        return self.randrange(1, 8) if self.random() < 0.2 else 0

    def leaves(self) -> bool:
        """Tell whether a stream is left after its first message."""
        return self.random() < 0.2


async def requests(fate: Fate, count: int) -> AsyncIterator[bytes]:
    """Give the requests of one stream, some of them later than others."""
    for _ in range(count):
        if fate.random() < 0.1:
            await asyncio.sleep(0)
        yield b"a request"


async def read(stream: Any, *, leaves: bool) -> None:
    """Read a stream to its end, or leave it after one message."""
    async for _ in stream:
        if leaves:
            break
    if leaves:
        stream.cancel()


def by_pool(pool: Any, fate: Fate) -> Awaitable[object]:
    """Begin a call of any kind on the pool."""
    timeout_s = fate.deadline_s()
    deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
    kind, method = fate.randrange(3), METHOD.encode()
    if kind == 0:
        return pool.unary(method, b"a request", (), deadline_s)
    messages = b"a request" if kind == 1 else requests(fate, MESSAGES)
    return read(pool.stream(method, messages, (), deadline_s), leaves=fate.leaves())


def by_channel(channel: Any, fate: Fate) -> Awaitable[object]:
    """Begin a call of any kind on the channel."""
    timeout = fate.deadline_s()
    kind = fate.randrange(4)
    if kind == 0:
        return channel.unary_unary(METHOD)(b"a request", timeout=timeout)
    if kind == 1:
        return read(channel.unary_stream(METHOD)(b"a request", timeout=timeout), leaves=fate.leaves())
    if kind == 2:
        return channel.stream_unary(METHOD)(requests(fate, 1), timeout=timeout)
    return read(
        channel.stream_stream(METHOD)(requests(fate, MESSAGES), timeout=timeout), leaves=fate.leaves()
    )


async def one_call(begin: Callable[[], Awaitable[object]], fate: Fate) -> str:
    """Make a call, wait for it or not, and say how it ended."""
    from silence_gateway.errors import GatewayError

    async def waited_for() -> None:
        await begin()

    task = asyncio.ensure_future(waited_for())
    turns = fate.patience()
    for _ in range(turns):
        await asyncio.sleep(0)
    if turns:
        task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return "cancelled"
    except GatewayError as error:
        return type(error).__name__
    return "ok"


async def one_after_the_other(pool: Any, channel: Any, calls: int, seed: int) -> Counter[str]:
    """Be one caller."""
    fate = Fate(seed)
    ends: Counter[str] = Counter()
    for _ in range(calls):
        if fate.random() < 0.5:
            ends[await one_call(lambda: by_pool(pool, fate), fate)] += 1
        else:
            ends[await one_call(lambda: by_channel(channel, fate), fate)] += 1
    return ends


async def many(pool: Any, channel: Any, calls: int, seed: int) -> Counter[str]:
    """Make *calls* calls and return how many ended in which way."""
    share, more = divmod(calls, CALLERS)
    callers = (
        one_after_the_other(pool, channel, share + (number < more), seed * CALLERS + number)
        for number in range(CALLERS)
    )
    ends: Counter[str] = Counter()
    for each in await asyncio.gather(*callers):
        ends += each
    return ends


async def settled(pool: Any, tasks: int) -> dict[str, float]:
    """Wait until nothing is on its way, at most a second, and return what is held."""
    until = time.monotonic() + 1
    while True:
        left = {
            "streams": sum(each.streams for each in pool.statistics.endpoints),
            "in_flight": sum(each.in_flight for each in pool.statistics.endpoints),
            "waiting": pool.statistics.waiting,
            "tasks": len(asyncio.all_tasks()) - tasks,
        }
        if not any(left.values()) or time.monotonic() > until:
            break
        await asyncio.sleep(0.01)
    gc.collect()
    return {
        **left,
        "resident_mb": resident_bytes(os.getpid()) / 1e6,
        "objects": len(gc.get_objects()),
    }


async def work(port: int, calls: int) -> dict[str, float]:
    """Make the calls in this process and return what it held."""
    from silence_gateway import Channel
    from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
    from silence_gateway.upstreams.settings import EndpointSettings, PoolSettings, UpstreamSettings

    settings = UpstreamSettings(
        name="shop",
        endpoints=(EndpointSettings(address=f"127.0.0.1:{port}"),),
        health=None,
        pool=PoolSettings(max_connections=CONNECTIONS, max_streams=STREAMS),
    )
    async with GrpcUpstream(settings) as pool:
        channel = Channel(pool)
        await pool.unary(METHOD.encode(), b"a request")
        tasks = len(asyncio.all_tasks())
        ends = await many(pool, channel, calls // 10, 1)
        early = await settled(pool, tasks)
        ends += await many(pool, channel, calls - calls // 10, 2)
        late = await settled(pool, tasks)
    print("  " + ", ".join(f"{count} {end}" for end, count in ends.most_common()), file=sys.stderr)
    return {
        **{f"{name}_left": late[name] for name in ("streams", "in_flight", "waiting", "tasks")},
        "resident_mb_early": early["resident_mb"],
        "resident_mb_late": late["resident_mb"],
        "objects_early": early["objects"],
        "objects_late": late["objects"],
        "calls": ends.total(),
        "cancelled": ends["cancelled"],
        "late": ends["DeadlineExceeded"] + ends["UpstreamTimeout"],
        "unexplained": ends.total() - sum(ends[end] for end in EXPECTED),
    }


def measure(rounds: int, seconds: float, calls: int = CALLS) -> dict[str, Any]:
    """Run part s and return its results; one run says it all."""
    del rounds, seconds
    with streaming_backend("--echo") as port:
        done = subprocess.run(
            ["taskset", "-c", str(TESTED_CORE), PYTHON, str(HERE / "leaks.py"), str(calls), str(port)],
            stdout=subprocess.PIPE,
            check=True,
        )
    run: dict[str, float] = json.loads(done.stdout)
    ratios = {
        MEMORY: run["resident_mb_early"] / run["resident_mb_late"],
        OBJECTS: run["objects_early"] / run["objects_late"],
    }
    shown = ", ".join(f"{name} {value:,.1f}".removesuffix(".0") for name, value in run.items())
    print(f"  {shown}", file=sys.stderr)
    left = [name for name, value in run.items() if value and name.endswith(("_left", "unexplained"))]
    grown = [name for name, ratio in ratios.items() if ratio < WANTED["p", name]]
    if left or grown:
        raise SystemExit(f"this is left of {calls:,} calls: {', '.join(left + grown)}")
    return {"runs": {"silence": [run]}, "ratios": ratios}


if __name__ == "__main__":
    if len(sys.argv) > 2:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            print(json.dumps(runner.run(work(int(sys.argv[2]), int(sys.argv[1])))))
    else:
        measure(1, 0, int(sys.argv[1]) if len(sys.argv) > 1 else CALLS)
