"""
Parts c and o: what one process reaches as a client of gRPC, ours against grpcio.aio.

Part c is unary calls of four sizes, 64 in flight; part o is streams of small messages, 16 at a time. Ours is
measured three times: the connection, which is what the gateway's pools call with; the channel that takes the
place of grpc.aio's, on such a connection; and the channel for an address, which makes a pool of its own, with
balancing, health and statistics, and gives each unary call a deadline of 5 s. Messages are bytes for all of
them, which flatters grpcio.aio. CPU is that of the client's process alone; the server has the other core and
is our own (`responder.py`, `streaming_responder.py`), because one of grpcio would be the bottleneck.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any

from machine import HERE, ITEM_HEX, PYTHON, TESTED_CORE, abba, backend, median_ratio, streaming_backend

CALLS_IN_FLIGHT = 64
STREAMS = 16
MESSAGES = 500
METHOD = "/bench.Shop/PutItem"
ITEM = bytes.fromhex(ITEM_HEX)
CONNECTION, CHANNEL, POOL, PEER = NAMES = (
    "silence",
    "silence, channel",
    "silence, channel with a pool",
    "grpcio.aio",
)
OURS = (CONNECTION, CHANNEL, POOL)

UNARY: dict[str, tuple[bytes, Callable[[], AbstractContextManager[int]]]] = {
    "": (ITEM, lambda: backend(ITEM)),
    "empty": (b"", lambda: backend(b"")),
    "1 KB": (bytes(1_024), lambda: backend(bytes(1_024))),
    "64 KB": (bytes(65_536), lambda: streaming_backend("--message-bytes", "65536")),
}
STREAMED: dict[str, Callable[[], AbstractContextManager[int]]] = {
    "server": lambda: streaming_backend("--message-bytes", str(len(ITEM)), "--messages", str(MESSAGES)),
    "client": lambda: backend(ITEM),
    "bidi": lambda: streaming_backend("--echo"),
}


async def requests() -> AsyncIterator[bytes]:
    """Give the requests of one stream."""
    for _ in range(MESSAGES):
        yield ITEM


async def count(answers: Any) -> None:
    """Read one stream to its end."""
    got = 0
    async for _ in answers:
        got += 1
    if got != MESSAGES:
        raise SystemExit(f"{got} messages came instead of {MESSAGES}")


def on_connection(connection: Any, kind: str) -> Callable[[], Awaitable[object]]:
    """Return what makes one call of *kind* on our connection."""
    method = METHOD.encode()
    if kind == "server":
        return lambda: count(connection.stream(method, ITEM))
    if kind == "bidi":
        return lambda: count(connection.stream(method, requests()))
    if kind == "client":

        async def send() -> None:
            async for _ in connection.stream(method, requests()):
                pass

        return send
    message = UNARY[kind][0]
    return lambda: connection.unary(method, message)


def on_channel(channel: Any, kind: str) -> Callable[[], Awaitable[object]]:
    """Return what makes one call of *kind* on a channel, ours or theirs."""
    if kind == "server":
        get = channel.unary_stream(METHOD)
        return lambda: count(get(ITEM))
    if kind == "bidi":
        exchange = channel.stream_stream(METHOD)
        return lambda: count(exchange(requests()))
    if kind == "client":
        put = channel.stream_unary(METHOD)
        return lambda: put(requests())
    call, message = channel.unary_unary(METHOD), UNARY[kind][0]
    return lambda: call(message)


async def paced(call: Callable[[], Awaitable[object]], kind: str, seconds: float) -> dict[str, float]:
    """Keep calls of *kind* going for *seconds* and return CPU and rate."""
    streamed = kind in STREAMED
    in_flight, at_once, unit = (STREAMS, 1, "message") if streamed else (CALLS_IN_FLIGHT, 20, "call")

    async def caller(until: float) -> int:
        calls = 0
        while time.monotonic() < until:
            for _ in range(at_once):
                await call()
            calls += at_once
        return calls * MESSAGES if streamed else calls

    await asyncio.gather(*(caller(time.monotonic() + 0.5) for _ in range(in_flight)))
    cpu, started = time.process_time(), time.monotonic()
    counts = await asyncio.gather(*(caller(started + seconds) for _ in range(in_flight)))
    cpu, elapsed = time.process_time() - cpu, time.monotonic() - started
    return {f"cpu_us_per_{unit}": cpu / sum(counts) * 1e6, f"{unit}s_per_second": sum(counts) / elapsed}


async def work(name: str, kind: str, port: int, seconds: float) -> dict[str, float]:
    """Measure one client."""
    where = f"127.0.0.1:{port}"
    if name == PEER:
        import grpc

        async with grpc.aio.insecure_channel(where) as theirs:
            return await paced(on_channel(theirs, kind), kind, seconds)
    from silence_gateway import Channel, connect

    if name == POOL:
        async with Channel(where) as channel:
            await channel.channel_ready()
            return await paced(on_channel(channel, kind), kind, seconds)
    connection = await connect(where)
    try:
        make = (
            on_connection(connection, kind) if name == CONNECTION else on_channel(Channel(connection), kind)
        )
        return await paced(make, kind, seconds)
    finally:
        await connection.close()


def measured(
    kinds: dict[str, Callable[[], AbstractContextManager[int]]], rounds: int, seconds: float
) -> dict[str, Any]:
    """Measure every client with every kind of call."""
    runs: dict[str, list[dict[str, float]]] = {}
    ratios: dict[str, float] = {}
    for kind, server in kinds.items():
        note = f" ({kind})" if kind else ""
        ran: dict[str, list[dict[str, float]]] = {name: [] for name in NAMES}
        with server() as port:
            for _, name in abba(NAMES, rounds):
                result = alone(name, kind, port, seconds)
                ran[name].append(result)
                shown = ", ".join(f"{key} {value:,.1f}" for key, value in result.items())
                print(f"  {name + note:32} {shown}", file=sys.stderr)
        runs |= {name + note: results for name, results in ran.items()}
        used, reached = list(ran[PEER][0])
        for name in OURS:
            theirs, ours = ([run[used] for run in ran[each]] for each in (PEER, name))
            ratios[f"grpcio.aio / {name} (CPU{', ' + kind if kind else ''})"] = median_ratio(theirs, ours)
            theirs, ours = ([run[reached] for run in ran[each]] for each in (PEER, name))
            ratios[f"{name} / grpcio.aio (rate{', ' + kind if kind else ''})"] = median_ratio(ours, theirs)
    return {"runs": runs, "ratios": ratios}


def alone(name: str, kind: str, port: int, seconds: float) -> dict[str, float]:
    """Measure one client in a process and on a core of its own."""
    file = str(HERE / "calls.py")
    done = subprocess.run(
        ["taskset", "-c", str(TESTED_CORE), PYTHON, file, name, kind, str(port), str(seconds)],
        stdout=subprocess.PIPE,
        check=True,
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


WANTED = {
    (part, ratio.format(name, f", {kind}" if kind else "")): wanted
    for part, kinds, ratio, usual, large in (
        ("c", UNARY, "grpcio.aio / {} (CPU{})", 6.0, 2.0),
        ("c", UNARY, "{} / grpcio.aio (rate{})", 5.0, 2.0),
        ("o", STREAMED, "{} / grpcio.aio (rate{})", 3.0, 3.0),
    )
    for kind in kinds
    for name in OURS
    for wanted in (large if kind == "64 KB" else usual,)
}
"""What each ratio should reach, by part and name."""


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Run part c and return its results."""
    return measured({kind: server for kind, (_, server) in UNARY.items()}, rounds, seconds)


def measure_streams(rounds: int, seconds: float) -> dict[str, Any]:
    """Run part o and return its results."""
    return measured(STREAMED, rounds, seconds)


if __name__ == "__main__":
    import uvloop

    _, which, what, target, duration = sys.argv
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(work(which, what, int(target), float(duration)))))
