"""Limits in Litestar: around the app and among its middleware, decorators and guards, WebSockets too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import pytest
from litestar import Litestar, WebSocket, get, post, websocket
from litestar.di import NamedDependency, Provide
from litestar.exceptions import WebSocketDisconnect
from litestar.handlers import websocket_listener
from litestar.middleware import DefineMiddleware
from litestar.params import FromPath, FromQuery
from litestar.response import Stream
from litestar.testing import TestClient

from silence_gateway import LimitDependency, LimitMiddleware, MessageLimit, RateLimiter, RouteLimit, limited
from silence_gateway.asgi.spent import Spent

AnySocket: TypeAlias = WebSocket[Any, Any, Any]
reports = LimitDependency("1/minute", name="reports")
tokens = LimitDependency("100/minute", name="tokens", cost=60)
chatter = LimitDependency(MessageLimit("2/minute", name="chatter", key="connection"))
hands = LimitDependency("1/minute", name="hands")


@get("/items/{item:int}")
async def read_item(item: FromPath[int]) -> dict[str, int]:
    return {"item": item}


@get("/search")
@limited("2/minute", name="search")
async def search(words: FromQuery[str], most: FromQuery[int] = 3) -> list[str]:
    return [words] * most


@get("/sync")
@limited("1/minute", name="sync")
def sync(word: FromQuery[str]) -> str:
    return word.upper()


@post("/reports", guards=[reports.guard])
async def report() -> str:
    return "done"


@post("/complete", dependencies={"spent": Provide(tokens)})
async def complete(spent: NamedDependency[Spent]) -> int:
    spent.settle(10)
    return spent.decision.remaining


@get("/export")
async def export() -> Stream:
    async def rows() -> AsyncIterator[str]:
        for number in range(3):
            yield f"{number}\n"

    return Stream(rows())


@get("/broken")
@limited("1/minute", name="broken")
async def broken() -> None:
    raise ZeroDivisionError


@websocket("/room", guards=[hands.guard])
async def room(socket: AnySocket) -> None:
    await socket.accept()
    await socket.close()


@websocket("/chat", guards=[chatter.guard])
async def chat(socket: AnySocket) -> None:
    await socket.accept()
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect:
        return


@websocket_listener("/listener", guards=[chatter.guard])
async def listener(data: str) -> str:
    return data


def limits(limiter: RateLimiter) -> list[RouteLimit | MessageLimit]:
    return [
        RouteLimit("5/minute", path="/items/{item:int}", name="items"),
        RouteLimit(limiter.concurrency("exports", 1), path="/export"),
    ]


HANDLERS = [read_item, search, sync, report, complete, export, broken, room, chat, listener]


def around() -> LimitMiddleware:
    limiter = RateLimiter()
    return LimitMiddleware(Litestar(HANDLERS), limiter=limiter, limits=limits(limiter))


def among() -> Litestar:
    limiter = RateLimiter()
    return Litestar(
        HANDLERS,
        middleware=[DefineMiddleware(LimitMiddleware, limiter=limiter, limits=limits(limiter))],
        lifespan=[lambda _app: limiter],
    )


@pytest.fixture(params=[around, among])
def client(request: pytest.FixtureRequest) -> TestClient[Litestar]:
    return TestClient(request.param())


def test_the_middleware_limits_paths(client: TestClient[Litestar]) -> None:
    with client:
        answers = [client.get(f"/items/{number}") for number in range(6)]

    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert answers[0].json() == {"item": 0}
    assert answers[0].headers["ratelimit"] == '"items";r=4;t=60'
    assert answers[5].headers["content-type"] == "application/problem+json"
    assert answers[5].json()["violated-policies"] == ["items"]


def test_a_decorated_route_keeps_its_parameters(client: TestClient[Litestar]) -> None:
    with client:
        answers = [client.get("/search", params={"words": "a", "most": 2}) for _ in range(3)]
        assert client.get("/search").status_code == 400
        words = [client.get("/sync", params={"word": "a"}) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[1].json() == ["a", "a"]
    assert answers[2].json()["violated-policies"] == ["search"]
    assert int(answers[2].headers["retry-after"]) == 60
    assert [word.status_code for word in words] == [200, 429]
    assert words[0].text == "A"


def test_a_guard_limits_before_the_route_runs(client: TestClient[Litestar]) -> None:
    with client:
        answers = [client.post("/reports") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [201, 429]
    assert answers[0].headers["ratelimit"] == '"reports";r=0;t=60'
    assert answers[1].json()["violated-policies"] == ["reports"]


def test_a_route_settles_what_its_dependency_has_spent(client: TestClient[Litestar]) -> None:
    with client:
        assert [client.post("/complete").json() for _ in range(4)] == [40, 30, 20, 10]


def test_a_stream_holds_its_place_until_it_has_ended(client: TestClient[Litestar]) -> None:
    with client:
        assert [client.get("/export").text for _ in range(3)] == ["0\n1\n2\n"] * 3


def test_an_error_of_the_route_stays_an_error(client: TestClient[Litestar]) -> None:
    with client:
        answers = [client.get("/broken") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [500, 429]
    assert answers[0].headers["ratelimit"] == '"broken";r=0;t=60'


def test_a_handshake_over_the_limit_is_refused(client: TestClient[Litestar]) -> None:
    with client:
        with client.websocket_connect("/room"):
            pass
        with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect("/room"):
            pass

    assert refused.value.code == 4029


@pytest.mark.parametrize("path", ["/chat", "/listener"])
def test_messages_over_the_limit_close_that_connection_alone(client: TestClient[Litestar], path: str) -> None:
    with client:
        for _ in range(2):
            with client.websocket_connect(path) as socket:
                for word in ("a", "b"):
                    socket.send_text(word)
                    assert socket.receive_text() == word
                socket.send_text("c")
                with pytest.raises(WebSocketDisconnect) as closed:
                    socket.receive_text()
                assert closed.value.code == 4029
