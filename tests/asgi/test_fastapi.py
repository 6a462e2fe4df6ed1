"""Limits in FastAPI: middleware, decorator and dependency, for requests and WebSockets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Annotated

import pytest
from fastapi import Depends, FastAPI, HTTPException, WebSocket
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from silence_gateway import LimitDependency, LimitMiddleware, MessageLimit, RateLimiter, RouteLimit, limited
from silence_gateway.asgi.spent import Spent

reports = LimitDependency("1/minute", name="reports")
tokens = LimitDependency("100/minute", name="tokens", cost=60, key="header:X-Tenant")
chatter = LimitDependency(MessageLimit("2/minute", name="chatter", key="connection"))


def made(limiter: RateLimiter) -> FastAPI:
    """Return an app, as one writes them."""
    ran: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.started_with_limiter = limiter.loop is not None
        yield

    app = FastAPI(lifespan=lifespan)
    app.state.ran = ran
    app.add_middleware(
        LimitMiddleware,
        limiter=limiter,
        limits=[
            RouteLimit("5/minute", path="/items/{item}", name="items"),
            RouteLimit(limiter.concurrency("exports", 1), path="/export"),
            RouteLimit("1/minute", path="/gate", methods=["WEBSOCKET"], name="gate"),
        ],
    )

    @app.get("/items/{item}")
    async def read_item(item: int) -> dict[str, int]:
        return {"item": item}

    @app.get("/search")
    @limited("2/minute", name="search")
    async def search(query: str, most: int = 3) -> list[str]:
        return [query] * most

    @app.get("/sync")
    @limited("1/minute", name="sync")
    def sync(word: str) -> str:
        return word.upper()

    @app.post("/reports", dependencies=[Depends(reports)], status_code=201)
    async def report() -> str:
        ran.append("report")
        return "done"

    @app.post("/complete")
    async def complete(spent: Annotated[Spent, Depends(tokens)]) -> int:
        spent.settle(10)
        return spent.decision.remaining

    @app.get("/export")
    async def export() -> StreamingResponse:
        async def rows() -> AsyncIterator[str]:
            for number in range(3):
                yield f"{number}\n"

        return StreamingResponse(rows(), media_type="text/csv")

    @app.get("/broken")
    @limited("1/minute", name="broken")
    async def broken() -> None:
        raise HTTPException(418, "a teapot")

    @app.websocket("/gate")
    async def gate(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    @app.websocket("/room", dependencies=[Depends(reports)])
    async def room(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    @app.websocket("/chat", dependencies=[Depends(chatter)])
    async def chat(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                await websocket.send_text(await websocket.receive_text())
        except WebSocketDisconnect as gone:
            ran.append(f"gone {gone.code}")

    return app


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(made(RateLimiter())) as client:
        yield client


def state(client: TestClient) -> list[str]:
    ran: list[str] = client.app.state.ran  # type: ignore[attr-defined]
    return ran


def test_the_middleware_limits_paths_and_starts_with_the_app(client: TestClient) -> None:
    answers = [client.get(f"/items/{number}") for number in range(6)]

    assert client.app.state.started_with_limiter is True  # type: ignore[attr-defined]
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert answers[0].json() == {"item": 0}
    assert answers[0].headers["ratelimit"] == '"items";r=4;t=60'
    assert answers[5].headers["content-type"] == "application/problem+json"
    assert answers[5].json()["violated-policies"] == ["items"]


def test_a_decorated_route_keeps_its_parameters_and_its_place_in_the_docs(client: TestClient) -> None:
    answers = [client.get("/search", params={"query": "a", "most": 2}) for _ in range(3)]

    assert client.get("/search").status_code == 422
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[1].json() == ["a", "a"]
    assert answers[1].headers["ratelimit-policy"] == '"search";q=2;w=60'
    assert int(answers[2].headers["retry-after"]) == 60
    described = client.get("/openapi.json").json()["paths"]["/search"]["get"]
    assert [parameter["name"] for parameter in described["parameters"]] == ["query", "most"]


def test_a_route_that_is_not_async_is_limited_too(client: TestClient) -> None:
    assert client.get("/sync", params={"word": "a"}).json() == "A"
    assert client.get("/sync", params={"word": "a"}).status_code == 429


def test_a_dependency_limits_before_the_route_runs(client: TestClient) -> None:
    answers = [client.post("/reports") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [201, 429]
    assert state(client) == ["report"]
    assert answers[1].json()["violated-policies"] == ["reports"]


def test_a_route_settles_what_its_dependency_has_spent(client: TestClient) -> None:
    left = [client.post("/complete", headers={"X-Tenant": "acme"}).json() for _ in range(4)]

    assert left == [40, 30, 20, 10]


def test_a_stream_holds_its_place_until_it_has_ended(client: TestClient) -> None:
    answers = [client.get("/export") for _ in range(3)]

    assert [answer.text for answer in answers] == ["0\n1\n2\n"] * 3
    assert answers[0].headers["ratelimit"] == '"exports";r=0'


def test_an_error_of_the_route_tells_what_is_left_like_any_answer(client: TestClient) -> None:
    answer = client.get("/broken")

    assert (answer.status_code, answer.headers["ratelimit"]) == (418, '"broken";r=0;t=60')


@pytest.mark.parametrize(("path", "limit"), [("/gate", "gate"), ("/room", "reports")])
def test_a_handshake_over_the_limit_is_refused_with_429(client: TestClient, path: str, limit: str) -> None:
    with client.websocket_connect(path):
        pass
    with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect(path):
        pass

    assert denied.value.status_code == 429
    assert denied.value.json()["violated-policies"] == [limit]
    assert denied.value.headers["retry-after"] == "60"


def test_messages_over_the_limit_close_that_connection_alone(client: TestClient) -> None:
    for _ in range(2):
        with client.websocket_connect("/chat") as socket:
            for word in ("a", "b"):
                socket.send_text(word)
                assert socket.receive_text() == word
            socket.send_text("c")
            with pytest.raises(WebSocketDisconnect) as closed:
                socket.receive_text()
            assert closed.value.code == 4029

    assert state(client) == ["gone 4029"] * 2


def test_an_app_may_answer_refusals_in_words_of_its_own() -> None:
    from fastapi.responses import PlainTextResponse
    from starlette.requests import Request

    from silence_gateway import RateLimited

    app = made(RateLimiter())

    async def slow_down(_request: Request, refused: Exception) -> PlainTextResponse:
        assert isinstance(refused, RateLimited)
        return PlainTextResponse("slow down", 429)

    app.add_exception_handler(RateLimited, slow_down)
    with TestClient(app) as client:
        client.post("/reports")
        assert client.post("/reports").text == "slow down"


def test_a_test_client_without_lifespan_is_limited_all_the_same() -> None:
    client = TestClient(made(RateLimiter()))

    assert [client.post("/reports").status_code for _ in range(2)] == [201, 429]
    assert [client.get("/export").status_code for _ in range(2)] == [200, 200]


def test_around_the_whole_app_the_answer_is_the_same() -> None:
    limiter = RateLimiter()
    app = FastAPI()

    @app.get("/", dependencies=[Depends(reports)])
    async def root() -> str:
        return "hello"

    with TestClient(LimitMiddleware(app, limiter=limiter)) as client:
        answers = [client.get("/") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[1].json()["violated-policies"] == ["reports"]


def test_one_app_may_live_several_times_as_in_the_tests_of_its_author() -> None:
    app = made(RateLimiter())

    for expected in (201, 429):
        with TestClient(app) as client:
            assert client.post("/reports").status_code == expected
