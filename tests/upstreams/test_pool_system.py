"""The pool against real grpcio servers, each a process that is killed, stopped, restarted or made ill."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from silence_gateway.errors import GatewayError, RpcError, UpstreamTimeout, UpstreamUnavailable
from silence_gateway.events import BreakerMoved, EndpointDown, EndpointUp, Event
from silence_gateway.stores.memory import MemoryHub, MemoryStore
from silence_gateway.upstreams.pool import GrpcUpstream
from silence_gateway.upstreams.pool_statistics import EndpointStatistics
from silence_gateway.upstreams.settings import (
    BreakerSettings,
    EndpointSettings,
    HealthSettings,
    UpstreamSettings,
)

pytestmark = pytest.mark.system

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


@pytest.fixture
def replicas() -> Iterator[Callable[..., list[Replica]]]:
    """Start some replicas; all are gone after the test, also when it failed."""
    started: list[Replica] = []

    def start(count: int, **more: Any) -> list[Replica]:
        begun = [Replica(**more) for _ in range(count)]
        started.extend(begun)
        return begun

    yield start
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


def test_killing_one_of_three_under_load_fails_only_what_it_had_and_it_is_used_when_it_is_back(
    replicas: Callable[..., list[Replica]],
) -> None:
    async def scenario() -> None:
        three = replicas(3)
        victim = three[0]
        async with running(settings_for(three)) as watched:
            load = Load(watched, callers=12, method=SLOW)
            await load.served(60)
            assert set(load.ports) == {replica.port for replica in three}

            killed_s = time.monotonic()
            victim.kill()
            await load.served(100)

            # What the victim had in its hands is lost and not repeated; everything else is served.
            assert all(isinstance(error, UpstreamUnavailable) and error.sent for _, error in load.errors)
            assert len(load.errors) <= 12
            assert all(at_s - killed_s < 1 for at_s, _ in load.errors)
            failed = len(load.errors)

            victim.start()
            before = load.ports[victim.port]
            back_s = await until(lambda: load.ports[victim.port] > before)
            await load.stop()

            print(f"lost {failed} calls, used again {back_s:.2f} s after it was up")
            assert back_s < 6
            assert len(load.errors) == failed
            kinds = [type(event) for event in watched.events]
            assert kinds[0] is EndpointDown
            assert kinds[-1] is EndpointUp

    run(scenario)


def test_killing_the_only_one_fails_fast_and_recovers_when_it_is_back(
    replicas: Callable[..., list[Replica]],
) -> None:
    async def scenario() -> None:
        (only,) = replicas(1)
        async with running(settings_for([only])) as watched:
            assert await watched.say() == only.port
            only.kill()
            await until(lambda: watched.standing(only).link == "broken")

            began_s = time.monotonic()
            with pytest.raises(UpstreamUnavailable, match="not connected") as caught:
                await watched.say()
            assert not caught.value.sent
            assert time.monotonic() - began_s < 0.5

            only.start()
            await until(lambda: watched.standing(only).link == "connected")
            assert await watched.say() == only.port

    run(scenario)


def test_an_orderly_goodbye_loses_nothing_that_we_could_save(replicas: Callable[..., list[Replica]]) -> None:
    async def scenario() -> None:
        two = replicas(2)
        async with running(settings_for(two)) as watched:
            load = Load(watched, callers=8)
            await load.served(100)

            two[0].tell("bye")
            await until(lambda: watched.standing(two[0]).link != "connected")
            await load.served(200)
            await load.stop()

            # grpcio itself may cancel a call that it reads between deciding to stop and saying goodbye.
            assert {type(error) for _, error in load.errors} <= {RpcError}
            assert len(load.errors) <= len(load.tasks)

    run(scenario)


def test_a_stopped_one_costs_timeouts_only_until_its_breaker_opens(
    replicas: Callable[..., list[Replica]],
) -> None:
    async def scenario() -> None:
        three = replicas(3)
        victim = three[0]
        breaker = BreakerSettings(consecutive=5, cool_down_s=1, patience_s=0.2)
        async with running(settings_for(three, breaker=breaker)) as watched:
            load = Load(watched, callers=12, deadline_s=0.3)
            await load.served(100)

            os.kill(victim.process.pid, signal.SIGSTOP)
            try:
                open_s = await until(lambda: watched.standing(victim).breaker == "open")
                lost = len(load.errors)
                assert all(isinstance(error, UpstreamTimeout) for _, error in load.errors)
                await load.served(200)
                print(f"breaker open after {open_s:.2f} s and {lost} timeouts")
                assert open_s < 3
                # Those already waiting there, and one probe per cool-down.
                assert len(load.errors) - lost <= 12 + 3
            finally:
                os.kill(victim.process.pid, signal.SIGCONT)

            await until(lambda: watched.standing(victim).breaker == "closed")
            before = load.ports[victim.port]
            await until(lambda: load.ports[victim.port] > before)
            await load.stop()
            assert BreakerMoved in {type(event) for event in watched.events}

    run(scenario)


def test_health_checks_take_a_stopped_one_out_without_traffic(
    replicas: Callable[..., list[Replica]],
) -> None:
    async def scenario() -> None:
        two = replicas(2)
        health = HealthSettings(interval_s=0.2, timeout_s=0.1, unhealthy_after=2)
        async with running(settings_for(two, health=health)) as watched:
            await until(lambda: all(watched.standing(one).health == "healthy" for one in two))

            os.kill(two[0].process.pid, signal.SIGSTOP)
            try:
                await until(lambda: watched.standing(two[0]).health == "unhealthy")
                assert {await watched.say(0.5) for _ in range(20)} == {two[1].port}
            finally:
                os.kill(two[0].process.pid, signal.SIGCONT)

            await until(lambda: watched.standing(two[0]).health == "healthy")
            assert {await watched.say() for _ in range(40)} == {one.port for one in two}

    run(scenario)


def test_one_that_says_not_serving_is_left_out_until_it_serves(
    replicas: Callable[..., list[Replica]],
) -> None:
    async def scenario() -> None:
        two = replicas(2)
        health = HealthSettings(interval_s=0.2, timeout_s=0.2, unhealthy_after=2, healthy_after=1)
        async with running(settings_for(two, health=health)) as watched:
            await until(lambda: watched.standing(two[0]).health == "healthy")

            two[0].tell("sick")
            await until(lambda: watched.standing(two[0]).health == "unhealthy")
            assert {await watched.say() for _ in range(20)} == {two[1].port}

            two[0].tell("well")
            await until(lambda: watched.standing(two[0]).health == "healthy")
            assert {await watched.say() for _ in range(40)} == {one.port for one in two}

    run(scenario)


def test_a_server_without_the_health_service_is_healthy_because_it_answers(
    replicas: Callable[..., list[Replica]],
) -> None:
    async def scenario() -> None:
        (plain,) = replicas(1, with_health=False)
        health = HealthSettings(interval_s=0.1, timeout_s=0.1)
        async with running(settings_for([plain], health=health)) as watched:
            await until(lambda: watched.standing(plain).health == "healthy")
            assert await watched.say() == plain.port

    run(scenario)


def test_everything_works_through_tls_and_a_stranger_is_refused(
    replicas: Callable[..., list[Replica]], tmp_path: Path
) -> None:
    async def scenario() -> None:
        authority = trustme.CA()
        identity = authority.issue_cert("127.0.0.1", "localhost")
        key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
        identity.private_key_pem.write_to_path(key)
        cert.write_bytes(b"".join(part.bytes() for part in identity.cert_chain_pems))
        two = replicas(2, key=str(key), cert=str(cert))
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        health = HealthSettings(interval_s=0.2, timeout_s=0.2)
        async with running(settings_for(two, tls=trusting, health=health)) as watched:
            await until(lambda: all(watched.standing(one).health == "healthy" for one in two))
            assert {await watched.say() for _ in range(40)} == {one.port for one in two}

        stranger = GrpcUpstream(settings_for(two, tls=ssl.create_default_context()))
        await stranger.start()
        with pytest.raises(UpstreamUnavailable, match=r"(?i)certificate"):
            await stranger.unary(SAY, b"hi")
        await stranger.stop()

    run(scenario)


def test_streams_go_through_the_pool_and_survive_a_lost_endpoint(
    replicas: Callable[..., list[Replica]],
) -> None:
    async def scenario() -> None:
        two = replicas(2)
        async with running(settings_for(two)) as watched:

            async def numbers() -> list[bytes]:
                return [message async for message in watched.pool.stream(COUNT, b"")]

            assert await numbers() == [b"0", b"1", b"2", b"3", b"4"]
            two[0].kill()
            await until(lambda: watched.standing(two[0]).link != "connected")
            assert [await numbers() for _ in range(10)] == [[b"0", b"1", b"2", b"3", b"4"]] * 10
            with pytest.raises(RpcError, match=r"(?i)method not found"):
                [message async for message in watched.pool.stream(b"/test.Echo/Nothing", b"")]
            assert sum(one.in_flight for one in watched.pool.statistics.endpoints) == 0

    run(scenario)


def test_two_gateways_on_one_board_check_a_server_once_per_interval(
    replicas: Callable[..., list[Replica]],
) -> None:
    async def scenario() -> None:
        (only,) = replicas(1)
        hub = MemoryHub()
        settings = settings_for(
            [only], health=HealthSettings(interval_s=0.3, timeout_s=0.3, unhealthy_after=2)
        )
        async with (
            running(settings, board=MemoryStore(hub).board) as one,
            running(settings, board=MemoryStore(hub).board) as other,
        ):
            both = (one, other)

            async def checks() -> int:
                return int((await one.pool.unary(CHECKS, b"")).message)

            await until(lambda: all(pool.standing(only).health == "healthy" for pool in both))
            before, began_s = await checks(), time.monotonic()
            await until(checks_reach(checks, before + 6))
            took_s = time.monotonic() - began_s
            # One checker at 0.27 s or slower; two would need half of that.
            assert took_s >= 6 * 0.27 * 0.9

            only.tell("sick")
            await until(lambda: all(pool.standing(only).health == "unhealthy" for pool in both))
            for pool in both:
                with pytest.raises(UpstreamUnavailable, match="unhealthy"):
                    await pool.say()

    run(scenario)


def checks_reach(checks: Callable[[], Awaitable[int]], goal: int) -> Callable[[], Awaitable[bool]]:
    async def reached() -> bool:
        return await checks() >= goal

    return reached
