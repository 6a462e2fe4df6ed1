"""Limits on the messages of WebSockets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.asgi.driver import Scene, WebSocketClient, connect

from silence_gateway import MessageLimit
from silence_gateway.asgi.protocol import Message, Receive, Scope, Send


async def opened(scene: Scene, **more: Any) -> WebSocketClient:
    client = connect(scene.limited, **more)
    assert (await client.hear())["type"] == "websocket.accept"
    return client


async def idle(turns: int = 20) -> None:
    """Let everything run that can."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def heard(client: WebSocketClient) -> list[str]:
    await idle()
    return [str(client.outgoing.get_nowait().get("text")) for _ in range(client.outgoing.qsize())]


def test_messages_over_the_limit_are_dropped_and_nobody_hears_of_them() -> None:
    async def scenario() -> None:
        scene = Scene().limit(MessageLimit("2/10s", on_excess="drop"))
        client = await opened(scene)
        client.say("a", "b", "c")
        assert await heard(client) == ["a", "b"]
        await scene.clock.advance(10)
        client.say("d")

        assert await heard(client) == ["d"]
        client.leave()
        assert await client.end() == []

    asyncio.run(scenario())


def test_messages_over_the_limit_wait_and_arrive_in_order() -> None:
    async def scenario() -> None:
        scene = Scene().limit(MessageLimit("1/s", on_excess="wait"))
        client = await opened(scene)
        client.say("a", "b", "c")
        assert await heard(client) == ["a"]
        await scene.clock.advance(0.9)
        assert await heard(client) == []
        await scene.clock.advance(0.2)
        assert await heard(client) == ["b"]
        await scene.clock.advance(1.1)

        assert await heard(client) == ["c"]
        client.leave()
        await client.end()

    asyncio.run(scenario())


def test_a_message_that_would_wait_too_long_closes() -> None:
    async def scenario() -> None:
        scene = Scene().limit(MessageLimit("1/minute", on_excess="wait", max_wait_s=10))
        client = await opened(scene)
        client.say("a", "b")
        _, closed = await client.end()

        assert closed["code"] == 4029

    asyncio.run(scenario())


def test_waiting_is_bounded_in_all_when_others_are_always_first() -> None:
    async def scenario() -> None:
        scene = Scene()
        talk = scene.limiter.limit("talk", "1/s")
        scene.limit(MessageLimit(talk, key="const", on_excess="wait", max_wait_s=2.5))
        client = await opened(scene)
        client.say("a", "b")
        assert await heard(client) == ["a"]
        for _ in range(3):
            await scene.clock.advance(0.9995)
            await scene.clock.advance(0.0006)
            await talk.try_acquire("const")
            await idle()
            await scene.clock.advance(0.0005)
            await idle()

        assert (await client.hear())["code"] == 4029
        await client.end()

    asyncio.run(scenario())


def test_who_stops_waiting_for_a_message_gets_it_the_next_time() -> None:
    """As a time-out around `receive` does."""

    async def scenario() -> None:
        got: list[Message] = []
        waiting = asyncio.Event()

        async def impatient(_scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            got.append(await receive())
            task: asyncio.Task[Message] = asyncio.create_task(receive())  # type: ignore[arg-type]
            await idle()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled()
            waiting.set()
            got.append(await receive())
            got.append(await receive())

        scene = Scene().limit(MessageLimit("1/s", on_excess="wait"))
        with scene.answering(impatient):
            client = await opened(scene)
            client.say("a", "b")
            await waiting.wait()
            await idle()
            await scene.clock.advance(1.1)
            client.leave()
            await client.end()
        assert [message.get("text", message["type"]) for message in got] == ["a", "b", "websocket.disconnect"]

    asyncio.run(scenario())


def test_a_message_may_cost_its_size_and_one_above_the_limit_closes_even_where_others_wait() -> None:
    async def scenario() -> None:
        scene = Scene().limit(MessageLimit("10/s", cost=len, on_excess="wait"))
        client = await opened(scene)
        client.say("12345", b"12345", "1")
        assert await heard(client) == ["12345", "b'12345'"]
        await scene.clock.advance(1.1)
        assert await heard(client) == ["1"]
        client.say("12345678901")

        assert (await client.hear())["reason"].endswith("retry never")
        await client.end()

    asyncio.run(scenario())


def test_by_connection_everyone_counts_apart_and_the_store_is_not_asked() -> None:
    async def scenario() -> None:
        scene = Scene().limit(MessageLimit("1/minute", key="connection", on_excess="drop"))
        scene.limiter.engine.decider.store = None  # type: ignore[assignment] # whoever asks it fails
        clients = [await opened(scene) for _ in range(3)]
        for client in clients:
            client.say("a", "b")
            assert await heard(client) == ["a"]
            client.leave()
            await client.end()

    asyncio.run(scenario())


def test_by_address_connections_share_and_several_limits_decide_together() -> None:
    async def scenario() -> None:
        scene = Scene().limit(
            MessageLimit("3/minute", name="client", on_excess="drop"),
            MessageLimit("2/minute", name="line", key="connection", on_excess="drop"),
            MessageLimit("1/minute", name="elsewhere", path="/other"),
        )
        one, two = await opened(scene, path="/chat"), await opened(scene, path="/chat")
        one.say("a", "b", "c")
        two.say("d", "e")

        assert await heard(one) == ["a", "b"]
        assert await heard(two) == ["d"]
        for client in (one, two):
            client.leave()
            await client.end()

    asyncio.run(scenario())


def test_an_exempt_connection_says_what_it_likes() -> None:
    async def scenario() -> None:
        scene = Scene().limit(MessageLimit("1/minute", exempt=lambda scope: scope["path"] == "/admin"))
        client = await opened(scene, path="/admin")
        client.say("a", "b", "c")

        assert await heard(client) == ["a", "b", "c"]
        client.leave()
        await client.end()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"on_excess": "shout"}, "shout"),
        ({"max_wait_s": 0}, "max_wait_s"),
        ({"max_wait_s": float("inf")}, "max_wait_s"),
        ({"methods": ["GET"]}, "no methods"),
        ({"cost": 3}, "never fits"),
    ],
)
def test_what_is_wrong_with_a_limit_is_said_when_it_is_made(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        MessageLimit("2/s", **options)


def test_places_are_no_limit_on_messages() -> None:
    with pytest.raises(ValueError, match="messages are limited by a rate"):
        MessageLimit(Scene().limiter.concurrency("places", 3))
