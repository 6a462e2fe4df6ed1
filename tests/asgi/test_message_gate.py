"""Limits on the messages of WebSockets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.asgi.driver import Scene, WebSocketClient, connect, echo

from silence_gateway import LimitDependency, MessageLimit
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

        assert "never helps" in (await client.hear())["reason"]
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


def test_a_limit_that_is_added_again_is_the_same_one() -> None:
    """As where a route's function is called once per message."""

    async def scenario() -> None:
        talk = LimitDependency(MessageLimit("3/minute", name="talk", on_excess="drop"))

        async def app(_scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            await talk()
            while (message := await receive())["type"] != "websocket.disconnect":
                await talk()
                await send({"type": "websocket.send", "text": message["text"]})

        scene = Scene().limit()
        with scene.answering(app):
            client = await opened(scene)
            client.say("a", "b", "c", "d")
            assert await heard(client) == ["a", "b", "c"]
            client.leave()
            await client.end()

    asyncio.run(scenario())


def test_a_limit_that_stands_in_two_places_counts_a_message_once() -> None:
    async def scenario() -> None:
        scene = Scene()
        talk = MessageLimit(scene.limiter.limit("talk", "3/minute"), on_excess="drop")
        again = LimitDependency(talk)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await again()
            await echo(scope, receive, send)

        scene.limit(talk)
        with scene.answering(app):
            client = await opened(scene)
            client.say("a", "b", "c", "d")
            assert await heard(client) == ["a", "b", "c"]
            client.leave()
            await client.end()

    asyncio.run(scenario())


steps = st.lists(st.one_of(st.integers(1, 4), st.floats(0.05, 3)), max_size=12)


@given(way=st.sampled_from(["drop", "wait"]), count=st.integers(1, 3), steps=steps)
def test_whatever_comes_when_order_is_kept_and_no_window_sees_more_than_the_rate(
    way: str, count: int, steps: list[int | float]
) -> None:
    """Whole numbers say so many messages, the others let so many seconds pass."""

    async def scenario() -> None:
        got: list[tuple[int, int]] = []
        scene = Scene().limit(MessageLimit(f"{count}/s", on_excess=way, max_wait_s=1000))

        async def app(_scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] != "websocket.disconnect":
                got.append((int(message["text"]), int(scene.clock.monotonic_s() * 1_000_000)))

        with scene.answering(app):
            client = await opened(scene)
            said = 0
            for step in steps:
                if isinstance(step, int):
                    client.say(*[str(said + number) for number in range(step)])
                    said += step
                    await idle()
                else:
                    await scene.clock.advance(step)
            for _ in range(said if way == "wait" else 0):
                await idle()
                await scene.clock.advance(1.1)
            client.leave()
            await client.end()

        numbers = [number for number, _ in got]
        assert numbers == (list(range(said)) if way == "wait" else sorted(numbers))
        moments = [moment for _, moment in got]
        for first, beyond in zip(moments, moments[count:], strict=False):
            assert beyond - first >= 1_000_000

    asyncio.run(scenario())
