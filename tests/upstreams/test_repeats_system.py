"""Retries, hedges and endpoints that come and go, against real grpcio servers under load."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from random import Random
from typing import Any

import grpc
import pytest
from tests.upstreams.dns_server import dns_server
from tests.upstreams.replicas import (
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

from silence_gateway.clock import SystemClock
from silence_gateway.core.status import Code
from silence_gateway.errors import RpcError
from silence_gateway.upstreams.discovery_dns import DnsSettings, DnsSource
from silence_gateway.upstreams.dns_resolver import DnsResolver
from silence_gateway.upstreams.retry_settings import RetrySettings
from silence_gateway.upstreams.settings import UpstreamSettings

pytestmark = pytest.mark.system

ECHO = frozenset({"test.Echo/*"})


@pytest.fixture
def replicas() -> Iterator[Callable[..., list[Replica]]]:
    with starting_replicas() as start:
        yield start


class Told:
    """A grpcio server in this process whose one method does what *behave* says."""

    def __init__(self, behave: Callable[[int, Any], bytes]) -> None:
        self.calls = 0
        self.previous: list[list[str]] = []
        self.left = threading.Event()
        self.release = threading.Event()
        self._behave = behave
        self._server = grpc.server(ThreadPoolExecutor(8))
        handlers = {
            "Say": grpc.unary_unary_rpc_method_handler(self._say),
            "Gather": grpc.stream_unary_rpc_method_handler(self._gather),
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def _say(self, _request: bytes, context: Any) -> bytes:
        self._count(context)
        context.add_callback(self.left.set)
        return self._behave(self.calls, context)

    def _gather(self, requests: Iterator[bytes], context: Any) -> bytes:
        self._count(context)
        first = next(requests)
        self._behave(self.calls, context)
        return first + b"".join(requests)

    def _count(self, context: Any) -> None:
        self.calls += 1
        self.previous.append(
            [value for name, value in context.invocation_metadata() if name == "grpc-previous-rpc-attempts"]
        )

    def stop(self) -> None:
        self.release.set()
        self._server.stop(0).wait(5)


@contextmanager
def told(*behaviours: Callable[[int, Any], bytes]) -> Iterator[list[Told]]:
    servers = [Told(behave) for behave in behaviours]
    try:
        yield servers
    finally:
        for server in servers:
            server.stop()


def at(servers: list[Told], **retry: Any) -> UpstreamSettings:
    found = UpstreamSettings.of(*(server.address for server in servers), name="echo")
    return UpstreamSettings(
        name="echo", endpoints=found.endpoints, health=None, retry=RetrySettings(methods=ECHO, **retry)
    )


def unavailable(times: int, *trailers: tuple[str, str]) -> Callable[[int, Any], bytes]:
    def behave(call: int, context: Any) -> bytes:
        if call <= times:
            context.set_trailing_metadata(trailers)
            context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        return b"ok"

    return behave


def test_a_real_servers_unavailable_is_tried_again_and_its_pushback_is_obeyed() -> None:
    async def scenario(servers: list[Told], least_s: float = 0.0) -> None:
        async with running(at(servers)) as watched:
            began_s = time.monotonic()
            assert (await watched.pool.unary(SAY, b"?")).message == b"ok"
            assert time.monotonic() - began_s >= least_s

    with told(unavailable(2)) as servers:
        run(lambda: scenario(servers))
        assert servers[0].calls == 3
    with told(unavailable(1, ("grpc-retry-pushback-ms", "300"))) as servers:
        run(lambda: scenario(servers, 0.3))
        assert servers[0].calls == 2


def test_a_real_servers_never_is_never() -> None:
    async def scenario(servers: list[Told]) -> None:
        async with running(at(servers)) as watched:
            with pytest.raises(RpcError) as caught:
                await watched.pool.unary(SAY, b"?")
            assert caught.value.code == Code.UNAVAILABLE

    with told(unavailable(9, ("grpc-retry-pushback-ms", "-1"))) as servers:
        run(lambda: scenario(servers))
        assert servers[0].calls == 1


def test_a_real_server_is_told_how_often_the_call_was_made_before() -> None:
    async def scenario(servers: list[Told]) -> None:
        async with running(at(servers, wait_s=0.001)) as watched:
            assert (await watched.pool.unary(SAY, b"?")).message == b"ok"

            async def requests() -> AsyncIterator[bytes]:
                yield b"1"

            servers[0].calls = 0
            stream = watched.pool.stream(b"/test.Echo/Gather", requests())
            assert [message async for message in stream] == [b"1"]
            assert servers[0].previous == [[], ["1"], ["2"]] * 2

    with told(unavailable(2)) as servers:
        run(lambda: scenario(servers))


def test_a_stream_of_requests_is_sent_again_while_its_caller_has_yet_to_give_the_next_one() -> None:
    async def scenario(servers: list[Told]) -> None:
        asked = 0

        async def requests() -> AsyncIterator[bytes]:
            nonlocal asked
            for message in (b"1", b"2", b"3"):
                asked += 1
                yield message
                if message == b"1":
                    # The first two attempts end here, in the middle of asking for the next message.
                    await until(lambda: servers[0].calls == 3)

        async with running(at(servers)) as watched:
            stream = watched.pool.stream(b"/test.Echo/Gather", requests())
            assert [message async for message in stream] == [b"123"]
            assert asked == 3
            assert servers[0].calls == 3

    with told(unavailable(2)) as servers:
        run(lambda: scenario(servers))


def test_the_loser_of_a_hedge_is_cancelled_at_its_server() -> None:
    def hang(_call: int, context: Any) -> bytes:
        # As long as the client is there: grpcio tells the handler nothing, only its callback.
        while context.is_active():
            time.sleep(0.01)
        return b"late"

    async def scenario(servers: list[Told]) -> None:
        async with running(at(servers, hedge_after_s=0.05)) as watched:
            began_s = time.monotonic()
            answers = [(await watched.pool.unary(SAY, b"?")).message for _ in range(8)]

            assert answers == [b"ok"] * 8
            assert watched.pool.statistics.hedges_won == servers[0].calls > 0
            assert time.monotonic() - began_s < 3
            await until(servers[0].left.is_set, limit_s=2)
            said = [value for server in servers for value in server.previous]
            assert said.count(["1"]) == watched.pool.statistics.hedges
            assert said.count([]) == 8

    with told(hang, lambda _call, _context: b"ok") as servers:
        run(lambda: scenario(servers))


def test_killing_one_of_three_under_load_fails_no_call_that_may_run_twice(
    replicas: Callable[..., list[Replica]],
) -> None:
    async def scenario() -> None:
        three = replicas(3)
        async with running(settings_for(three, retry=RetrySettings(methods=ECHO))) as watched:
            load = Load(watched, callers=12, method=SLOW)
            await load.served(60)
            three[0].kill()
            await load.served(100)
            await load.stop()

            assert load.errors == []
            assert watched.pool.statistics.retries > 0

    run(scenario)


def test_a_goodbye_under_load_fails_no_call_that_may_run_twice(
    replicas: Callable[..., list[Replica]],
) -> None:
    """
    Others can fail: grpcio cancels what reaches it after its shutdown began and before its goodbye is heard.

    On an idle machine that is no time at all, on a busy one it is several calls.
    """

    async def scenario() -> None:
        three = replicas(3)
        async with running(settings_for(three, retry=RetrySettings(methods=ECHO))) as watched:
            load = Load(watched, callers=12, method=SLOW)
            await load.served(60)
            three[0].tell("bye")
            await load.served(100)
            await load.stop()

            assert load.errors == []

    run(scenario)


def test_stopping_one_of_three_under_load_makes_no_call_later_than_one_attempt_may_take(
    replicas: Callable[..., list[Replica]],
) -> None:
    async def scenario() -> None:
        three = replicas(3)
        retry = RetrySettings(methods=ECHO, attempt_timeout_s=0.4)
        async with running(settings_for(three, retry=retry)) as watched:
            slowest_s = 0.0
            errors: list[BaseException] = []
            over = False

            async def caller() -> None:
                nonlocal slowest_s
                while not over:
                    began_s = time.monotonic()
                    try:
                        await watched.say(5)
                    except Exception as error:  # noqa: BLE001 - whatever it is, it is a failed call
                        errors.append(error)
                    slowest_s = max(slowest_s, time.monotonic() - began_s)
                    await asyncio.sleep(0.005)

            tasks = [asyncio.create_task(caller()) for _ in range(8)]
            await until(lambda: watched.pool.statistics.calls_by_code.get("OK", 0) > 200)
            os.kill(three[0].process.pid, signal.SIGSTOP)
            try:
                answered = watched.pool.statistics.calls_by_code["OK"]
                await until(lambda: watched.pool.statistics.calls_by_code["OK"] > answered + 800)
                over = True
                await asyncio.gather(*tasks)
            finally:
                os.kill(three[0].process.pid, signal.SIGCONT)

            print(f"slowest call: {slowest_s:.3f} s, {watched.pool.statistics.retries} retries")
            assert errors == []
            # Its attempt, the wait before the next, and that one.
            assert slowest_s < 1.0

    run(scenario)


def test_replicas_that_join_and_leave_by_dns_under_load_fail_no_call(
    replicas: Callable[..., list[Replica]],
) -> None:
    async def scenario() -> None:
        three = replicas(3)
        name = "_grpc._tcp.echo.internal"

        def records(*chosen: Replica) -> list[str]:
            return [f"0 1 {one.port} here.internal." for one in chosen]

        async with dns_server() as server:
            server.ttl_s = 1
            server.records["here.internal", "A"] = ["127.0.0.1"]
            server.records[name, "SRV"] = records(*three[:2])
            source = DnsSource(
                DnsSettings(name=name, refresh_s=1.0),
                DnsResolver(server.address),
                upstream="echo",
                clock=SystemClock(),
                rng=Random(1),
                observer=lambda _event: None,
            )
            async with running(UpstreamSettings(name="echo", health=None), sources=[source]) as watched:
                await until(lambda: [one.state for one in watched.pool.statistics.endpoints] == ["ready"] * 2)
                load = Load(watched, callers=12, method=SLOW)
                await load.served(24)
                server.records[name, "SRV"] = records(*three[1:])
                await until(lambda: load.ports[three[2].port] > 0)
                await until(lambda: watched.addresses() == {one.address for one in three[1:]})
                seen = load.ports[three[0].port]
                server.failing.add("SRV")
                await load.served(48)
                await load.stop()

                assert load.errors == []
                assert load.ports[three[0].port] == seen > 0
                assert watched.addresses() == {one.address for one in three[1:]}

    run(scenario)
