"""Limits on WebSockets: the handshake, and the end that a limit makes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.asgi.driver import Scene, connect, echo

from silence_gateway import LimitDependency, MessageLimit, RateLimited, RouteLimit
from silence_gateway.asgi.protocol import Message, Receive, Scope, Send

DENIAL: dict[str, Any] = {"extensions": {"websocket.http.response": {}}}


def test_an_accepted_handshake_is_told_what_is_left() -> None:
    async def scenario() -> None:
        scene = Scene().limit(RouteLimit("5/minute", name="hands"))
        client = connect(scene.limited)
        accept = await client.hear()
        client.leave()

        assert accept["type"] == "websocket.accept"
        assert (b"ratelimit", b'"hands";r=4;t=60') in accept["headers"]
        assert await client.end() == []

    asyncio.run(scenario())


def test_a_refused_handshake_gets_the_whole_answer_where_the_server_can_send_it() -> None:
    async def scenario() -> None:
        scene = Scene().limit(RouteLimit("1/minute", name="hands", methods=["WEBSOCKET"]))
        first = connect(scene.limited, **DENIAL)
        assert (await first.hear())["type"] == "websocket.accept"
        first.leave()
        await first.end()
        start, body = await connect(scene.limited, **DENIAL).end()

        assert (start["type"], start["status"]) == ("websocket.http.response.start", 429)
        assert (b"retry-after", b"60") in start["headers"]
        assert json.loads(body["body"])["violated-policies"] == ["hands"]
        assert scene.app.seen == ["/"]
        assert (await scene.get()).status == 200

    asyncio.run(scenario())


def test_a_refused_handshake_is_closed_before_it_is_accepted_where_the_server_can_only_do_that() -> None:
    async def scenario() -> None:
        scene = Scene().limit(RouteLimit("1/minute", name="hands"))
        first = connect(scene.limited)
        await first.hear()
        first.leave()
        await first.end()
        [closed] = await connect(scene.limited).end()

        assert closed == {
            "type": "websocket.close",
            "code": 4029,
            "reason": "over the limit hands; retry in 60.000 s",
        }

    asyncio.run(scenario())


def test_a_place_is_held_for_as_long_as_the_connection_is_open() -> None:
    async def scenario() -> None:
        scene = Scene()
        scene.limit(RouteLimit(scene.limiter.concurrency("open", 1)))
        first = connect(scene.limited)
        await first.hear()
        [refused] = await connect(scene.limited).end()
        first.leave()
        await first.end()
        third = connect(scene.limited)

        assert refused["code"] == 4029
        assert (await third.hear())["type"] == "websocket.accept"
        third.leave()
        await third.end()
        assert scene.limiter.engine.holds.held == {}

    asyncio.run(scenario())


@pytest.mark.parametrize("how", ["closes", "refuses", "fails"])
def test_however_a_connection_ends_its_place_is_free(how: str) -> None:
    async def scenario() -> None:
        async def app(_scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            if how == "fails":
                raise ZeroDivisionError
            if how == "refuses":
                await send({"type": "websocket.http.response.start", "status": 403, "headers": []})
                await send({"type": "websocket.http.response.body", "body": b"no"})
            else:
                await send({"type": "websocket.accept"})
                await send({"type": "websocket.close", "code": 1000})
            assert scene.limiter.engine.holds.held == {}

        scene = Scene()
        scene.limit(RouteLimit(scene.limiter.concurrency("open", 1)))
        with scene.answering(app):
            for _ in range(2):
                client = connect(scene.limited)
                try:
                    messages = await client.end()
                except ZeroDivisionError:
                    assert how == "fails"
                else:
                    assert messages[0]["type"] in {"websocket.accept", "websocket.http.response.start"}
                    assert "ratelimit-policy" in [name.decode() for name, _ in messages[0]["headers"]]
                    assert messages[0].get("status") != 429

    asyncio.run(scenario())


def test_an_app_whose_client_was_over_its_limit_reads_that_it_is_gone_and_cannot_write() -> None:
    async def scenario() -> None:
        read: list[Message] = []
        errors: list[Exception] = []

        async def app(_scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            while not read or read[-1]["type"] != "websocket.disconnect":
                read.append(await receive())
            read.append(await receive())
            try:
                await send({"type": "websocket.send", "text": "still there?"})
            except OSError as error:
                errors.append(error)
            await send({"type": "websocket.close"})

        scene = Scene().limit(MessageLimit("1/minute", name="talk"))
        with scene.answering(app):
            client = connect(scene.limited)
            client.say("one", "two")
            messages = await client.end()

        gone = {"code": 4029, "reason": "over the limit talk; retry in 60.000 s"}
        assert messages[1:] == [{"type": "websocket.close", **gone}]
        assert read == [
            {"type": "websocket.receive", "text": "one"},
            *[{"type": "websocket.disconnect", **gone}] * 2,
        ]
        assert [str(error) for error in errors] == ["over the limit talk; retry in 60.000 s"]

    asyncio.run(scenario())


def test_an_app_that_spends_for_itself_and_is_refused_closes_its_websocket() -> None:
    async def scenario() -> None:
        scene = Scene().limit()
        jobs = scene.limiter.limit("jobs", "1/minute")

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await jobs.acquire()
            assert (await receive())["type"] == "websocket.connect"
            await send({"type": "websocket.accept"})
            await jobs.acquire()
            await echo(scope, receive, send)

        with scene.answering(app):
            accept, close = await connect(scene.limited).end()
            [refused] = await connect(scene.limited).end()
            start, _body = await connect(scene.limited, **DENIAL).end()
        assert (b"ratelimit", b'"jobs";r=0;t=60') in start["headers"]
        assert (accept["type"], close["type"], close["code"]) == ("websocket.accept", "websocket.close", 4029)
        assert refused["type"] == "websocket.close"

    asyncio.run(scenario())


@pytest.mark.parametrize("status", [403, 500])
def test_an_answer_that_a_framework_made_of_a_refused_handshake_is_replaced_if_it_is_no_answer(
    status: int,
) -> None:
    async def scenario() -> None:
        once = LimitDependency("1/minute", name="once")

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await once()
            except RateLimited:
                await receive()
                await send({"type": "websocket.http.response.start", "status": status, "headers": []})
                await send({"type": "websocket.http.response.body", "body": b"made by the app"})
            else:
                await echo(scope, receive, send)

        scene = Scene().limit()
        with scene.answering(app):
            first = connect(scene.limited, **DENIAL)
            await first.hear()
            first.leave()
            await first.end()
            start, body = await connect(scene.limited, **DENIAL).end()
        assert start["status"] == (403 if status == 403 else 429)
        assert (body["body"] == b"made by the app") is (status == 403)

    asyncio.run(scenario())
