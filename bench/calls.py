"""Part c: CPU time per unary gRPC call of one process, ours against grpcio.aio, 64 calls in flight."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

from machine import HERE, ITEM_HEX, PYTHON, TESTED_CORE, abba, backend, median_ratio

IN_FLIGHT = 64
METHOD = "/bench.Shop/PutItem"
MESSAGE = bytes.fromhex(ITEM_HEX)


async def paced(call: Callable[[], Awaitable[object]], seconds: float) -> dict[str, float]:
    """Keep IN_FLIGHT calls going for *seconds* and return CPU and rate."""

    async def caller(until: float) -> int:
        count = 0
        while time.monotonic() < until:
            for _ in range(20):
                await call()
            count += 20
        return count

    await asyncio.gather(*(caller(time.monotonic() + 0.5) for _ in range(IN_FLIGHT)))
    cpu, started = time.process_time(), time.monotonic()
    counts = await asyncio.gather(*(caller(started + seconds) for _ in range(IN_FLIGHT)))
    cpu, elapsed = time.process_time() - cpu, time.monotonic() - started
    return {"cpu_us_per_call": cpu / sum(counts) * 1e6, "calls_per_second": sum(counts) / elapsed}


async def ours(port: int, seconds: float) -> dict[str, float]:
    """Measure our connection."""
    from silence_gateway.upstreams.connection import connect

    connection = await connect(f"127.0.0.1:{port}")
    method = METHOD.encode()
    try:
        return await paced(lambda: connection.unary(method, MESSAGE), seconds)
    finally:
        await connection.close()


async def our_channel(port: int, seconds: float) -> dict[str, float]:
    """Measure our channel on one connection, called as a stub calls it; not part of the table."""
    from silence_gateway import Channel, connect

    connection = await connect(f"127.0.0.1:{port}")
    try:
        call = Channel(connection).unary_unary(METHOD)
        return await paced(lambda: call(MESSAGE), seconds)
    finally:
        await connection.close()


async def theirs(port: int, seconds: float) -> dict[str, float]:
    """Measure grpcio.aio with bytes as messages, which flatters it."""
    import grpc

    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(METHOD)
        return await paced(lambda: call(MESSAGE), seconds)


def measure(rounds: int, seconds: float) -> dict[str, object]:
    """Run part c and return its results."""
    names = ["silence", "grpcio.aio"]
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with backend() as port:
        for _, name in abba(names, rounds):
            done = subprocess.run(
                [
                    "taskset",
                    "-c",
                    str(TESTED_CORE),
                    PYTHON,
                    str(HERE / "calls.py"),
                    name,
                    str(port),
                    str(seconds),
                ],
                stdout=subprocess.PIPE,
                check=True,
            )
            result = json.loads(done.stdout)
            runs[name].append(result)
            print(
                f"  {name:32} {result['cpu_us_per_call']:7.1f} us CPU per call, "
                f"{result['calls_per_second']:.0f} calls/s",
                file=sys.stderr,
            )
    mine, other = ([run["cpu_us_per_call"] for run in runs[name]] for name in names)
    return {"runs": runs, "ratios": {"grpcio.aio / silence (CPU)": median_ratio(other, mine)}}


if __name__ == "__main__":
    import uvloop

    _, which, target, duration = sys.argv
    work = {"silence": ours, "channel": our_channel}.get(which, theirs)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(work(int(target), float(duration)))))
