"""Limits on single routes, without any framework."""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tests.asgi.driver import Scene, WebSocketClient, connect, echo, headers, request

from silence_gateway import (
    LimitDependency,
    LimitMiddleware,
    MessageLimit,
    RateLimited,
    RateLimiter,
    RouteLimit,
    limited,
)
from silence_gateway.asgi.call import CURRENT, Call
from silence_gateway.asgi.protocol import Receive, Scope, Send


async def say(
    send: Send, text: str, status: int = 200, lines: list[tuple[bytes, bytes]] | None = None
) -> None:
    await send({"type": "http.response.start", "status": status, "headers": lines or []})
    await send({"type": "http.response.body", "body": text.encode()})


@limited("2/minute")
async def limited_view(_scope: Scope, _receive: Receive, send: Send) -> None:
    await say(send, "hello")


def test_a_route_has_a_limit_of_its_own_and_refuses_like_the_middleware() -> None:
    async def scenario() -> None:
        scene = Scene().limit(RouteLimit("9/minute", name="all"))
        scene.app.instead = limited_view

        assert (await scene.get()).headers == {
            "ratelimit-policy": '"all";q=9;w=60, "tests.asgi.test_routes.limited_view-2-per-m";q=2;w=60',
            "ratelimit": '"all";r=8;t=60, "tests.asgi.test_routes.limited_view-2-per-m";r=1;t=60',
        }
        await scene.get()
        refused = await scene.get()
        assert refused.status == 429
        assert refused.json["violated-policies"] == ["tests.asgi.test_routes.limited_view-2-per-m"]
        assert refused.headers["retry-after"] == "60"

    asyncio.run(scenario())


def test_old_headers_of_several_places_are_those_of_the_nearest_limit() -> None:
    async def scenario() -> None:
        scene = Scene().limit(RouteLimit("9/minute", name="all"), headers="legacy")
        scene.app.instead = limited_view

        assert (await scene.get()).headers == {
            "x-ratelimit-limit": "2",
            "x-ratelimit-remaining": "1",
            "x-ratelimit-reset": "60",
        }

    asyncio.run(scenario())


def test_an_answer_of_500_that_a_framework_made_of_a_refusal_is_replaced() -> None:
    async def scenario() -> None:
        async def framework(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await limited_view(scope, receive, send)
            except Exception:
                await say(send, "Internal Server Error", 500)
                raise

        scene = Scene().limit()
        scene.app.instead = framework
        answers = [await scene.get() for _ in range(3)]

        assert [answer.status for answer in answers] == [200, 200, 429]
        assert answers[2].json["status"] == 429
        assert answers[2].types() == ["http.response.start", "http.response.body"]

    asyncio.run(scenario())


def test_an_answer_that_the_app_makes_of_a_refusal_is_its_own() -> None:
    async def scenario() -> None:
        async def framework(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await limited_view(scope, receive, send)
            except RateLimited as refused:
                await say(send, f"slow down: {refused.limits}", 420)

        scene = Scene().limit(RouteLimit("9/minute", name="all"))
        scene.app.instead = framework
        answers = [await scene.get() for _ in range(3)]

        assert answers[2].status == 420
        assert answers[2].body.startswith(b"slow down")
        assert answers[2].headers["ratelimit"] == '"all";r=6;t=60'

    asyncio.run(scenario())


def test_without_the_middleware_the_error_says_what_to_add() -> None:
    with pytest.raises(RuntimeError, match=r"app\.add_middleware\(LimitMiddleware"):
        asyncio.run(request(limited_view))


def test_a_function_that_is_not_async_runs_in_a_thread_with_its_arguments() -> None:
    async def scenario() -> None:
        seen: list[Any] = []

        @limited("1/minute", key="const")
        def work(number: int, *, word: str) -> str:
            seen.append((number, word, threading.current_thread() is threading.main_thread()))
            return word * number

        async def view(_scope: Scope, _receive: Receive, send: Send) -> None:
            await say(send, str(await work(2, word="ab")))

        scene = Scene().limit()
        scene.app.instead = view

        assert (await scene.get()).body == b"abab"
        assert (await scene.get()).status == 429
        assert seen == [(2, "ab", False)]
        assert work.__name__ == "work"

    asyncio.run(scenario())


def test_limits_of_one_decorator_decide_together() -> None:
    async def scenario() -> None:
        limiter = RateLimiter()
        users = limiter.limit("users", "1/minute")

        @limited(users, RouteLimit("5/minute", name="all", key="const"))
        async def view(_scope: Scope, _receive: Receive, send: Send) -> None:
            await say(send, "")

        app = LimitMiddleware(view, limiter=limiter)
        await request(app)
        assert (await request(app)).json["violated-policies"] == ["users"]
        assert 'all";r=3' in (await request(app, client=("192.0.2.99", 1))).headers["ratelimit"]

    asyncio.run(scenario())


def test_a_dependency_returns_what_was_spent_and_settles_it_when_the_answer_is_out() -> None:
    async def scenario() -> None:
        tokens = LimitDependency("100/minute", name="tokens", cost=50, key="const")
        told: list[tuple[int, int]] = []

        async def view(_scope: Scope, _receive: Receive, send: Send) -> None:
            spent = await tokens()
            spent.settle(99)
            spent.settle(7)
            told.append((spent.decision.limit, spent.decision.remaining))
            with pytest.raises(ValueError, match="at least 0"):
                spent.settle(-1)
            await say(send, "")

        scene = Scene().limit()
        scene.app.instead = view
        for _ in range(2):
            await scene.get()
            await asyncio.gather(*scene.limiter.engine.settling.background)

        assert told == [(100, 50), (100, 43)]
        assert (await scene.limiter.named("tokens").peek("const")).remaining == 86

    asyncio.run(scenario())


def test_on_an_open_websocket_each_message_may_spend_and_settle_and_nothing_piles_up() -> None:
    async def scenario() -> None:
        tokens = LimitDependency("100/minute", name="tokens", cost=10, key="const")
        calls: list[Call] = []

        async def view(_scope: Scope, receive: Receive, send: Send) -> None:
            calls.append(CURRENT.get())
            await receive()
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] != "websocket.disconnect":
                spent = await tokens()
                spent.settle(len(message["text"]))
                with pytest.raises(ValueError, match="settled already"):
                    spent.settle(3)
                await tokens()  # not settled at all

        scene = Scene().limit()
        with scene.answering(view):
            client = connect(scene.limited)
            client.say("a", "ab", "abc")
            await client.hear()
            client.leave()
            await client.end()
        await asyncio.gather(*scene.limiter.engine.settling.background)

        assert (await scene.limiter.named("tokens").peek("const")).remaining == 100 - 6 - 30
        assert (calls[0].passed, calls[0].spent, calls[0].holders) == ([], [], [])

    asyncio.run(scenario())


@pytest.mark.parametrize("settle_by", ["", "x-tokens"])
@pytest.mark.parametrize("begun", [True, False], ids=["in-the-middle", "after-the-answer"])
def test_what_an_app_says_once_its_answer_has_begun_is_settled_once_and_goes_before_headers(
    settle_by: str, begun: bool
) -> None:
    async def scenario() -> None:
        tokens = LimitDependency("100/minute", name="tokens", cost=10, key="const", settle_by=settle_by)

        async def view(_scope: Scope, _receive: Receive, send: Send) -> None:
            spent = await tokens()
            await send({"type": "http.response.start", "status": 200, "headers": headers(x_tokens="1")})
            if begun:
                spent.settle(1)
            await send({"type": "http.response.body", "body": b""})
            if not begun and not settle_by:
                spent.settle(1)

        scene = Scene().limit()
        scene.app.instead = view
        await scene.get()
        await asyncio.gather(*scene.limiter.engine.settling.background)

        assert (await scene.limiter.named("tokens").peek("const")).remaining == 99

    asyncio.run(scenario())


@pytest.mark.parametrize("status", [420, 503])
def test_an_app_that_catches_a_refusal_answers_as_it_likes(status: int) -> None:
    async def scenario() -> None:
        once = LimitDependency("1/minute", name="once")

        async def view(_scope: Scope, _receive: Receive, send: Send) -> None:
            try:
                await once()
            except RateLimited:
                await say(send, "busy", status)
            else:
                await say(send, "")

        scene = Scene().limit()
        scene.app.instead = view
        assert await scene.statuses(2) == [200, status]

    asyncio.run(scenario())


def test_a_place_taken_in_the_middle_of_a_request_is_free_at_its_end_and_has_no_cost() -> None:
    async def scenario() -> None:
        scene = Scene()
        one = LimitDependency(scene.limiter.concurrency("one", 1))

        async def view(_scope: Scope, _receive: Receive, send: Send) -> None:
            place = await one()
            with pytest.raises(ValueError, match="released by themselves"):
                place.settle(3)
            await say(send, str(len(scene.limiter.engine.holds.held)))

        scene.limit().app.instead = view
        assert [(await scene.get()).body for _ in range(2)] == [b"1", b"1"]
        assert scene.limiter.engine.holds.held == {}

    asyncio.run(scenario())


def test_a_place_taken_after_the_answer_is_out_is_free_at_once() -> None:
    async def scenario() -> None:
        scene = Scene()
        one = LimitDependency(scene.limiter.concurrency("one", 1))

        async def view(_scope: Scope, _receive: Receive, send: Send) -> None:
            await say(send, "")
            await one()
            assert scene.limiter.engine.holds.held == {}

        scene.limit().app.instead = view
        assert (await scene.get()).status == 200

    asyncio.run(scenario())


def test_an_exempt_request_spends_nothing_in_a_dependency() -> None:
    async def scenario() -> None:
        never = LimitDependency("1/minute", name="never", exempt=lambda _scope: True)

        async def view(_scope: Scope, _receive: Receive, send: Send) -> None:
            spent = await never()
            spent.settle(9)
            await say(send, str(spent.decision.remaining))

        scene = Scene().limit()
        scene.app.instead = view
        assert [(await scene.get()).body for _ in range(3)] == [b"1"] * 3
        assert scene.limiter.engine.settling.background == set()

    asyncio.run(scenario())


def test_messages_of_one_websocket_route_are_limited_where_it_stands() -> None:
    async def scenario() -> None:
        @limited("2/minute", name="hands")
        @limited(MessageLimit("1/minute", key="connection", on_excess="drop"))
        async def talk(scope: Scope, receive: Receive, send: Send) -> None:
            await echo(scope, receive, send)

        scene = Scene().limit()
        scene.app.instead = talk
        for _ in range(2):
            client: WebSocketClient = connect(scene.limited)
            accept = await client.hear()
            assert b"ratelimit" in dict(accept["headers"])
            client.say("a", "b")
            client.leave()
            assert [message["text"] for message in await client.end()] == ["a"]
        [refused] = await connect(scene.limited).end()
        assert refused["code"] == 4029

    asyncio.run(scenario())


def test_a_close_that_a_framework_made_of_a_refused_handshake_is_replaced() -> None:
    async def scenario() -> None:
        @limited("1/minute", name="hands")
        async def talk(scope: Scope, receive: Receive, send: Send) -> None:
            await echo(scope, receive, send)

        async def framework(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await talk(scope, receive, send)
            except RateLimited:
                await send({"type": "websocket.close", "code": 4500, "reason": "Internal Server Error"})

        scene = Scene().limit()
        scene.app.instead = framework
        client = connect(scene.limited)
        await client.hear()
        client.leave()
        await client.end()
        start, body = await connect(scene.limited, extensions={"websocket.http.response": {}}).end()
        assert (start["status"], body["type"]) == (429, "websocket.http.response.body")

    asyncio.run(scenario())


def test_a_limit_of_messages_says_nothing_to_requests() -> None:
    async def scenario() -> None:
        talk = LimitDependency(MessageLimit("1/minute", name="talk"))

        async def view(_scope: Scope, _receive: Receive, send: Send) -> None:
            assert not (await talk()).counts
            await say(send, "")

        scene = Scene().limit()
        scene.app.instead = view
        assert await scene.statuses(3) == [200, 200, 200]

    asyncio.run(scenario())


def test_settling_by_a_header_works_on_a_route_too() -> None:
    async def scenario() -> None:
        @limited("100/minute", name="tokens", key="const", cost=50, settle_by="x-tokens")
        async def view(_scope: Scope, _receive: Receive, send: Send) -> None:
            await say(send, "", lines=headers(x_tokens="8"))

        scene = Scene().limit()
        scene.app.instead = view
        await scene.get()
        await asyncio.gather(*scene.limiter.engine.settling.background)

        assert (await scene.limiter.named("tokens").peek("const")).remaining == 92

    asyncio.run(scenario())


def test_the_guard_asks_like_the_dependency_and_copies_are_the_same_one() -> None:
    async def scenario() -> None:
        once = LimitDependency("1/minute", name="once")

        async def view(_scope: Scope, _receive: Receive, send: Send) -> None:
            await copy.deepcopy(once).guard(object(), object())
            await say(send, "")

        scene = Scene().limit()
        scene.app.instead = view
        assert await scene.statuses(2) == [200, 429]
        assert copy.deepcopy(once) is once
        assert CURRENT.get(None) is None

    asyncio.run(scenario())


def many() -> Iterator[int]:
    yield 1


async def many_later() -> AsyncIterator[int]:
    yield 1


class Endpoint:
    """A class that serves requests."""


@pytest.mark.parametrize("function", [many, many_later, Endpoint])
def test_the_decorator_stands_on_functions_alone(function: Any) -> None:
    with pytest.raises(TypeError, match="under the framework's own decorator"):
        limited("1/s")(function)


def test_what_cannot_be_meant_is_said_at_once() -> None:
    with pytest.raises(ValueError, match="say which limit"):
        limited()
    with pytest.raises(ValueError, match="a name is for one limit"):
        limited("1/s", "5/minute", name="both")
    with pytest.raises(ValueError, match="path and methods are for LimitMiddleware"):
        LimitDependency(RouteLimit("1/s", name="a", path="/a"))
    with pytest.raises(ValueError, match="a name: LimitDependency"):
        LimitDependency("1/s")
