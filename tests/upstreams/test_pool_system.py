"""The pool against real grpcio servers that are killed, stopped and restarted under load."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from tests.upstreams.replicas import (
    COUNT,
    SAY,
    SLOW,
    Load,
    Replica,
    run,
    running,
    settings_for,
    starting_replicas,
    until,
)

from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError, UpstreamTimeout, UpstreamUnavailable
from silence_gateway.events import BreakerMoved, EndpointDown, EndpointUp
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.settings import BreakerSettings, EndpointSettings, UpstreamSettings

pytestmark = pytest.mark.system


@pytest.fixture
def replicas() -> Iterator[Callable[..., list[Replica]]]:
    with starting_replicas() as start:
        yield start


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
            assert all(at_s - killed_s < 2 for at_s, _ in load.errors)
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
            assert time.monotonic() - began_s < 2

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

            # grpcio itself may cancel a call that it reads between deciding to stop and saying goodbye, and
            # rarely says so first. Such a call may have run, so it is made again only where that is allowed.
            for _, error in load.errors:
                if isinstance(error, RpcError):
                    assert (error.code, error.details) == (Code.CANCELLED, "CANCELLED")
                else:
                    assert isinstance(error, UpstreamUnavailable)
                    assert error.sent
            assert len(load.errors) <= len(load.tasks)

    run(scenario)


def test_a_burst_at_a_server_with_a_cap_on_streams_fails_nothing() -> None:
    """grpcio servers turn calls away although the cap is kept: they count calls a moment longer."""

    async def scenario() -> None:
        server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.max_concurrent_streams", 8)])
        say = grpc.unary_unary_rpc_method_handler(lambda request, _context: request)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {"Say": say}),))
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            settings = UpstreamSettings(name="capped", endpoints=(EndpointSettings(address=address),))
            async with GrpcUpstream(settings) as pool:
                replies = await asyncio.gather(*(pool.unary(SAY, b"%d" % number) for number in range(1000)))
                assert [reply.message for reply in replies] == [b"%d" % number for number in range(1000)]
                print(f"offered again: {pool.statistics.failovers}")
        finally:
            server.stop(None).wait()

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
