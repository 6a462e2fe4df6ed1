"""The pool against real grpcio servers: health, TLS, and two gateways that share one board."""

from __future__ import annotations

import os
import signal
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trustme
from tests.upstreams.replicas import (
    CHECKS,
    SAY,
    Replica,
    run,
    running,
    settings_for,
    starting_replicas,
    until,
)

from silence_gateway.errors import UpstreamUnavailable
from silence_gateway.stores.memory import MemoryHub, MemoryStore
from silence_gateway.upstreams.grpc_upstream import GrpcUpstream
from silence_gateway.upstreams.settings import (
    HealthSettings,
)

pytestmark = pytest.mark.system


@pytest.fixture
def replicas() -> Iterator[Callable[..., list[Replica]]]:
    with starting_replicas() as start:
        yield start


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


def test_two_gateways_on_one_board_check_a_server_once_per_interval(
    replicas: Callable[..., list[Replica]],
) -> None:
    async def scenario() -> None:
        (only,) = replicas(1)
        hub = MemoryHub()
        settings = settings_for(
            # Asking how often it was checked is a call that goes well: watched, it would not be asked at all.
            [only],
            health=HealthSettings(interval_s=0.3, timeout_s=0.3, unhealthy_after=2, watch=False),
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


def test_a_server_that_is_watched_is_left_alone_at_once_when_it_says_so(
    replicas: Callable[..., list[Replica]],
) -> None:
    async def scenario() -> None:
        (only,) = replicas(1)
        health = HealthSettings(interval_s=30.0, timeout_s=1.0)
        async with running(settings_for([only], health=health)) as watched:
            await until(lambda: watched.standing(only).health == "healthy")

            only.tell("sick")
            took_s = await until(lambda: watched.standing(only).health == "unhealthy")
            assert took_s < 5

            only.tell("well")
            await until(lambda: watched.standing(only).health == "healthy")

    run(scenario)
