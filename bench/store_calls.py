"""
CPU of our process per small script call at 64 concurrent callers: why the hot lane is our own.

Three ways over one unix socket, in turns: our pipeline; the same batching over redis-py's connection
object (send_packed_command, then read_response for each reply); redis-py's client as people call it.
Run: python bench/store_calls.py
"""

from __future__ import annotations

import asyncio
import hashlib
import statistics
import time
from collections.abc import Awaitable, Callable

import redis.asyncio
import uvloop
from redis.asyncio.connection import UnixDomainSocketConnection

from silence_gateway.stores.client import pack
from silence_gateway.stores.contracts import Script
from silence_gateway.stores.settings import StoreSettings
from silence_gateway.stores.valkey import ValkeyStore
from silence_gateway.testing.valkey import ValkeyServer

CALLERS = 64
ROUNDS = 5
SCRIPT = Script(
    "incr", "redis.call('PEXPIRE', KEYS[1], 60000); return redis.call('INCRBY', KEYS[1], ARGV[1])"
)
SHA = hashlib.sha1(SCRIPT.text.encode(), usedforsecurity=False).hexdigest()


class OverRedisPy:
    """Our batching over redis-py's connection object."""

    def __init__(self, connection: UnixDomainSocketConnection) -> None:
        self.connection = connection
        self.queue: list[tuple[bytes, asyncio.Future[object]]] = []
        self.wake = asyncio.Event()

    def run(self) -> asyncio.Future[object]:
        """Queue one call."""
        done: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self.queue.append((pack((b"EVALSHA", SHA, 1, b"k", 1)), done))
        self.wake.set()
        return done

    async def work(self) -> None:
        """Send all that waits, read all that is owed."""
        while True:
            await self.wake.wait()
            self.wake.clear()
            batch, self.queue = self.queue, []
            await self.connection.send_packed_command(b"".join(packed for packed, _ in batch))
            for _, done in batch:
                done.set_result(await self.connection.read_response())


async def measure(call: Callable[[], Awaitable[object]], calls_each: int) -> float:
    """Microseconds of CPU per call."""

    async def caller() -> None:
        for _ in range(calls_each):
            await call()

    begin = time.process_time()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return (time.process_time() - begin) / (CALLERS * calls_each) * 1_000_000


async def main(server: ValkeyServer) -> None:
    """Measure in turns and print medians."""
    store = ValkeyStore(StoreSettings(url=server.url, deadline_s=1), "bench")
    await store.start()
    await store.scripts.run(SCRIPT, [b"k"], [1])
    connection = UnixDomainSocketConnection(path=server.socket, protocol=2, socket_timeout=0.25)
    await connection.connect()
    over = OverRedisPy(connection)
    worker = asyncio.create_task(over.work())
    client = redis.asyncio.Redis(unix_socket_path=server.socket, protocol=2, max_connections=CALLERS)
    ways: dict[str, tuple[Callable[[], Awaitable[object]], int]] = {
        "our pipeline": (lambda: store.scripts.run(SCRIPT, [b"k"], [1]), 300),
        "batching over redis-py's connection": (over.run, 300),
        "redis-py's client": (lambda: client.evalsha(SHA, 1, "k", "1"), 30),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, (call, calls_each) in ways.items():
            taken[name].append(await measure(call, calls_each))
    ours = statistics.median(taken["our pipeline"])
    for name, figures in taken.items():
        median = statistics.median(figures)
        print(f"{name}: {median:.1f} us, {median / ours:.1f} x ours")
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)
    await connection.disconnect()
    await client.aclose()
    await store.stop()


if __name__ == "__main__":
    with ValkeyServer() as valkey:
        uvloop.run(main(valkey))
