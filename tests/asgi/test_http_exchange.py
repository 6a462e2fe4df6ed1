"""When a request is over, and what is settled then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.asgi.driver import Answer, App, Scene, headers, http_scope

from silence_gateway import RouteLimit
from silence_gateway.asgi.protocol import Message, Receive, Scope, Send

START: Message = {"type": "http.response.start", "status": 200, "headers": []}


def one_at_once(scene: Scene) -> Scene:
    return scene.limit(RouteLimit(scene.limiter.concurrency("one", 1)))


async def settled(scene: Scene) -> None:
    """Wait until what is settled in the background is settled."""
    while scene.limiter.engine.settling.background:
        await asyncio.gather(*scene.limiter.engine.settling.background)


def test_a_place_is_held_until_the_answer_has_ended_and_no_longer() -> None:
    async def scenario() -> None:
        scene = one_at_once(Scene())
        sent, go = asyncio.Event(), asyncio.Event()

        async def slow(_scope: Scope, _receive: Receive, send: Send) -> None:
            await send(START)
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
            sent.set()
            await go.wait()
            await send({"type": "http.response.body", "body": b"b"})
            # The answer is out; what runs behind it holds no place.
            assert scene.limiter.engine.holds.held == {}
            go.clear()

        with scene.answering(slow):
            first = asyncio.create_task(scene.get())
            await sent.wait()
            refused = await scene.get()
            go.set()
            assert (await first).body == b"ab"
        assert refused.status == 429
        assert refused.headers["ratelimit-policy"] == '"one";q=1;qu="concurrent-requests"'
        assert await scene.statuses(2) == [200, 200]

    asyncio.run(scenario())


async def fails(_scope: Scope, _receive: Receive, _send: Send) -> None:
    raise ZeroDivisionError


async def fails_late(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send(START)
    raise ZeroDivisionError


async def says_nothing(_scope: Scope, _receive: Receive, _send: Send) -> None:
    return


async def sends_a_file(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send(START)
    await send({"type": "http.response.pathsend", "path": "/tmp/file"})


async def sends_trailers(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({**START, "trailers": True})
    await send({"type": "http.response.body", "body": b""})
    await send({"type": "http.response.trailers", "headers": [], "more_trailers": False})


@pytest.mark.parametrize("app", [fails, fails_late, says_nothing, sends_a_file, sends_trailers])
def test_however_a_request_ends_its_place_is_free(
    app: Callable[[Scope, Receive, Send], Awaitable[None]],
) -> None:
    async def scenario() -> None:
        scene = one_at_once(Scene())
        with scene.answering(app):
            for _ in range(2):
                try:
                    await scene.get()
                except ZeroDivisionError:
                    assert app in {fails, fails_late}

        assert await scene.statuses(1) == [200]
        assert scene.limiter.engine.holds.held == {}

    asyncio.run(scenario())


def test_a_place_is_free_when_the_app_is_told_that_its_client_has_left() -> None:
    async def scenario() -> None:
        scene = one_at_once(Scene())
        go, free = asyncio.Event(), asyncio.Event()

        async def stubborn(_scope: Scope, receive: Receive, _send: Send) -> None:
            assert (await receive())["type"] == "http.disconnect"
            free.set()
            await go.wait()

        async def receive() -> Message:
            return {"type": "http.disconnect"}

        async def send(_message: Message) -> None:
            raise AssertionError

        scene.app.instead = stubborn
        stuck = asyncio.create_task(scene.limited(http_scope(), receive, send))
        await free.wait()
        scene.app.instead = None
        assert await scene.statuses(1) == [200]
        go.set()
        await stuck

    asyncio.run(scenario())


def test_a_cancelled_request_gives_its_place_back() -> None:
    async def scenario() -> None:
        scene = one_at_once(Scene())
        begun = asyncio.Event()

        async def endless(_scope: Scope, _receive: Receive, _send: Send) -> None:
            begun.set()
            await asyncio.Event().wait()

        with scene.answering(endless):
            task = asyncio.create_task(scene.get())
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await scene.statuses(1) == [200]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("told", "left"),
    [
        pytest.param(headers(x_cost="3"), 7, id="less-than-reserved"),
        pytest.param(headers(x_cost="9"), 1, id="more-than-reserved"),
        pytest.param(headers(x_cost="15"), 0, id="more-than-there-was"),
        pytest.param(headers(x_cost="0"), 10, id="nothing"),
        pytest.param(headers(x_cost="many"), 5, id="unreadable"),
        pytest.param([], 5, id="untold"),
    ],
)
def test_a_cost_that_the_answer_tells_is_settled(told: list[tuple[bytes, bytes]], left: int) -> None:
    async def scenario() -> None:
        scene = Scene(app=App(headers=told))
        tokens = scene.limiter.limit("tokens", "10/minute")
        scene.limit(RouteLimit(tokens, key="const", cost=5, settle_by="X-Cost"))
        answer = await scene.get()
        await settled(scene)

        assert "r=5" in answer.headers["ratelimit"]
        assert (await tokens.peek("const")).remaining == left

    asyncio.run(scenario())


def test_a_cost_may_be_told_by_a_trailer_and_what_failed_costs_what_was_reserved() -> None:
    async def scenario() -> None:
        async def streams(_scope: Scope, _receive: Receive, send: Send) -> None:
            await send({**START, "trailers": True})
            await send({"type": "http.response.body", "body": b""})
            await send({"type": "http.response.trailers", "headers": headers(x_cost="1")})

        scene = Scene()
        tokens = scene.limiter.limit("tokens", "10/minute")
        scene.limit(RouteLimit(tokens, key="const", cost=5, settle_by="x-cost"))
        with scene.answering(streams):
            await scene.get()
        await settled(scene)
        assert (await tokens.peek("const")).remaining == 9

        with scene.answering(fails), pytest.raises(ZeroDivisionError):
            await scene.get()
        await settled(scene)
        assert (await tokens.peek("const")).remaining == 4

    asyncio.run(scenario())


def test_an_error_of_the_app_is_left_to_its_server() -> None:
    async def scenario() -> None:
        scene = Scene().limit(RouteLimit("2/minute"))
        with scene.answering(fails):
            for _ in range(2):
                with pytest.raises(ZeroDivisionError):
                    await scene.get()
            assert (await scene.get()).status == 429

    asyncio.run(scenario())


def test_a_refusal_after_the_answer_has_begun_is_an_error_like_any_other() -> None:
    async def scenario() -> None:
        scene = Scene()
        jobs = scene.limiter.limit("jobs", "1/minute")

        async def late(_scope: Scope, _receive: Receive, send: Send) -> None:
            await send(START)
            await jobs.acquire()
            await jobs.acquire()

        scene.limit()
        with scene.answering(late), pytest.raises(Exception, match="over the limit jobs"):
            await scene.get()

    asyncio.run(scenario())


def test_the_app_reads_the_body_as_ever() -> None:
    async def scenario() -> None:
        seen: list[Any] = []

        async def reads(_scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(await receive())
            await App()(_scope, receive, send)

        scene = Scene().limit(RouteLimit("1/s"))
        with scene.answering(reads):
            answer: Answer = await scene.get(method="POST")
        assert answer.types() == ["http.response.start", "http.response.body"]
        assert seen == [{"type": "http.request", "body": b"", "more_body": False}]

    asyncio.run(scenario())
