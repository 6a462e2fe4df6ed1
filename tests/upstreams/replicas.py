"""Real grpcio servers as processes, a pool that calls them, and load: what system tests of the pool share."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from silence_gateway.errors import GatewayError
from silence_gateway.events import Event
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.pool_statistics import EndpointStatistics
from silence_gateway.upstreams.settings import (
    EndpointSettings,
    UpstreamSettings,
)

SAY, SLOW, COUNT, CHECKS = b"/test.Echo/Say", b"/test.Echo/Slow", b"/test.Echo/Count", b"/test.Echo/Checks"

# A stock server with handlers that take and give bytes. It obeys words on its standard input and ends
# when that does, so that it cannot outlive the test that started it.
REPLICA = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

port, with_health, key, cert = int(sys.argv[1]), sys.argv[2] == "health", sys.argv[3], sys.argv[4]
checks = 0

class Counting(health.HealthServicer):
    def Check(self, request, context):
        global checks
        checks += 1
        return super().Check(request, context)

    def Watch(self, request, context, *more):
        global checks
        checks += 1
        return super().Watch(request, context, *more)

def say(request, context):
    return b"%d:%b" % (port, request)

def slow(request, context):
    time.sleep(0.2)
    return say(request, context)

def count(request, context):
    for number in range(5):
        yield b"%d" % number

def told(request, context):
    return b"%d" % checks

server = grpc.server(ThreadPoolExecutor(64), options=[("grpc.so_reuseport", 0)])
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {
    "Say": grpc.unary_unary_rpc_method_handler(say),
    "Slow": grpc.unary_unary_rpc_method_handler(slow),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "Checks": grpc.unary_unary_rpc_method_handler(told),
}),))
servicer = Counting()
servicer.set("", health_pb2.HealthCheckResponse.SERVING)
if with_health:
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
where = "127.0.0.1:%d" % port
if key:
    credentials = grpc.ssl_server_credentials([(open(key, "rb").read(), open(cert, "rb").read())])
    port = server.add_secure_port(where, credentials)
else:
    port = server.add_insecure_port(where)
server.start()
print(port, flush=True)
for line in sys.stdin:
    if line.strip() == "sick":
        servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    elif line.strip() == "well":
        servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    elif line.strip() == "bye":
        break
server.stop(1).wait()
"""


class Replica:
    """One server process that keeps its port over restarts."""

    def __init__(self, *, with_health: bool = True, key: str = "", cert: str = "") -> None:
        self.arguments = ["health" if with_health else "none", key, cert]
        self.port = 0
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", REPLICA, str(self.port), *self.arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"GRPC_VERBOSITY": "NONE"},
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def tell(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@contextmanager
def starting_replicas() -> Iterator[Callable[..., list[Replica]]]:
    """Start some replicas; all are gone afterwards, also when the test failed."""
    started: list[Replica] = []

    def start(count: int, **more: Any) -> list[Replica]:
        begun = [Replica(**more) for _ in range(count)]
        started.extend(begun)
        return begun

    try:
        yield start
    finally:
        for replica in started:
            if replica.process.returncode is None:
                replica.kill()


def settings_for(replicas: list[Replica], **more: Any) -> UpstreamSettings:
    endpoints = tuple(EndpointSettings(address=replica.address) for replica in replicas)
    return UpstreamSettings(**({"name": "echo", "endpoints": endpoints, "health": None} | more))


class Watched:
    """A running pool and what it said."""

    def __init__(self, settings: UpstreamSettings, **more: Any) -> None:
        self.events: list[Event] = []
        self.pool = GrpcUpstream(settings, observer=self.events.append, **more)

    def standing(self, replica: Replica) -> EndpointStatistics:
        told = self.pool.statistics.endpoints
        return next(one for one in told if one.address == replica.address)

    def addresses(self) -> set[str]:
        return {one.address for one in self.pool.statistics.endpoints}

    async def say(self, deadline_s: float | None = None) -> int:
        """Return the port that answered."""
        until_s = None if deadline_s is None else time.monotonic() + deadline_s
        reply = await self.pool.unary(SAY, b"hi", (), until_s)
        return int(reply.message.split(b":")[0])


@asynccontextmanager
async def running(settings: UpstreamSettings, **more: Any) -> AsyncIterator[Watched]:
    watched = Watched(settings, **more)
    await watched.pool.start()
    await until(lambda: all(one.link == "connected" for one in watched.pool.statistics.endpoints))
    try:
        yield watched
    finally:
        await watched.pool.stop()


async def until(is_so: Callable[[], bool | Awaitable[bool]], limit_s: float = 15) -> float:
    """Wait for a condition, and return the seconds it took."""
    began_s = time.monotonic()
    async with asyncio.timeout(limit_s):
        while True:
            answer = is_so()
            if answer if isinstance(answer, bool) else await answer:
                return time.monotonic() - began_s
            await asyncio.sleep(0.01)


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 60))


class Load:
    """Callers that call without pause until told to stop, and what they got."""

    def __init__(self, watched: Watched, callers: int, *, method: bytes = SAY, deadline_s: float = 5) -> None:
        self.watched = watched
        self.method = method
        self.deadline_s = deadline_s
        self.ports: Counter[int] = Counter()
        self.errors: list[tuple[float, GatewayError]] = []
        self.stopped = False
        self.tasks = [asyncio.create_task(self.call()) for _ in range(callers)]

    async def call(self) -> None:
        while not self.stopped:
            try:
                until_s = time.monotonic() + self.deadline_s
                reply = await self.watched.pool.unary(self.method, b"hi", (), until_s)
                self.ports[int(reply.message.split(b":")[0])] += 1
            except GatewayError as error:
                self.errors.append((time.monotonic(), error))

    async def served(self, more: int) -> None:
        """Wait for so many more answers."""
        goal = self.ports.total() + more
        await until(lambda: self.ports.total() >= goal)

    async def stop(self) -> None:
        self.stopped = True
        await asyncio.gather(*self.tasks)
