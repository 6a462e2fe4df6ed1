"""Health as a service: states that somebody sets, told to whoever asks or watches."""

from __future__ import annotations

from tests.edge.http2_scene import run, scene

from silence_gateway.core import h2_frames as h2
from silence_gateway.core.grpc_messages import framed
from silence_gateway.edge.grpc_health import HealthService, Serving
from silence_gateway.testing.clock import settle
from silence_gateway.testing.h2_client import call
from silence_gateway.transcoding.wire import write_bytes

CHECK, WATCH, LIST = (b"/grpc.health.v1.Health/" + name for name in (b"Check", b"Watch", b"List"))


def about(service: str) -> bytes:
    return write_bytes(1, service.encode()) if service else b""


def states(*found: Serving) -> bytes:
    return b"".join([framed(b"\x08%c" % state if state else b"") for state in found])


def test_check_tells_the_state_now() -> None:
    async def scenario() -> None:
        health = HealthService()
        async with scene(health.methods()) as served:
            client = served.client()
            health.set("shop", Serving.NOT_SERVING)
            health.set("cafe", Serving.UNKNOWN)
            for stream, service in ((1, ""), (3, "shop"), (5, "cafe"), (7, "nope")):
                client.send(call(stream, CHECK, about(service)))

            assert await client.content(1) == states(Serving.SERVING)
            assert await client.content(3) == states(Serving.NOT_SERVING)
            assert await client.content(5) == states(Serving.UNKNOWN)
            assert await client.status(7) == 5

    run(scenario())


def test_a_question_that_makes_no_sense_is_the_callers_fault() -> None:
    async def scenario() -> None:
        async with scene(HealthService().methods()) as served:
            client = served.client()
            client.send(call(1, CHECK, b"\xff"), call(3, WATCH, b"\x08\x01"), call(5, CHECK, b"\x10\x01"))

            assert [await client.status(stream) for stream in (1, 3, 5)] == [3, 3, 0]

    run(scenario())


def test_watch_tells_every_change_and_nothing_twice() -> None:
    async def scenario() -> None:
        health = HealthService()
        async with scene(health.methods()) as served:
            client = served.client()
            client.send(call(1, WATCH, about("shop")))
            await client.hear()
            for state in (Serving.SERVING, Serving.SERVING, Serving.NOT_SERVING, Serving.SERVING):
                health.set("shop", state)
                await settle()
            health.set("other", Serving.NOT_SERVING)

            assert await client.content(1) == states(
                Serving.SERVICE_UNKNOWN, Serving.SERVING, Serving.NOT_SERVING, Serving.SERVING
            )
            client.send(h2.rst_stream_frame(1, 8))
            await settle()
            assert health.watchers == {}

    run(scenario())


def test_a_slow_watcher_is_told_the_last_state_and_not_all_of_them() -> None:
    async def scenario() -> None:
        health = HealthService()
        async with scene(health.methods()) as served:
            client = served.client()
            client.send(call(1, WATCH, about("shop")))
            await client.hear()
            for _ in range(50):
                health.set("shop", Serving.NOT_SERVING)
                health.set("shop", Serving.SERVING)

            assert await client.content(1) == states(Serving.SERVICE_UNKNOWN, Serving.SERVING)

    run(scenario())


def test_shutting_down_tells_watchers_and_ends_them() -> None:
    async def scenario() -> None:
        health = HealthService()
        async with scene(health.methods()) as served:
            client = served.client()
            client.send(call(1, WATCH), call(3, WATCH, about("nope")))
            await client.hear()
            health.shut_down()
            health.set("", Serving.SERVING)

            assert await client.content(1) == states(Serving.SERVING, Serving.NOT_SERVING)
            assert await client.content(3) == states(Serving.SERVICE_UNKNOWN)
            assert [await client.status(stream) for stream in (1, 3)] == [14, 14]
            client.send(call(5, CHECK))
            assert await client.content(5) == states(Serving.NOT_SERVING)

    run(scenario())


def test_list_tells_all_states() -> None:
    async def scenario() -> None:
        health = HealthService()
        health.set("shop", Serving.NOT_SERVING)
        async with scene(health.methods()) as served:
            client = served.client()
            client.send(call(1, LIST))

            entries = [b"\x0a\0\x12\x02\x08\x01", b"\x0a\x04shop\x12\x02\x08\x02"]
            assert await client.content(1) == framed(b"".join([write_bytes(1, each) for each in entries]))

    run(scenario())
