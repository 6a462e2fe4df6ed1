"""Limits in Starlette: middleware and decorator, for requests and WebSockets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.authentication import AuthCredentials, AuthenticationBackend, BaseUser, SimpleUser
from starlette.background import BackgroundTask
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from silence_gateway import LimitDependency, LimitMiddleware, MessageLimit, RateLimiter, RouteLimit, limited

jobs = LimitDependency("2/minute", name="jobs", key="const")


class Named(AuthenticationBackend):
    """Believes a header."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        name = conn.headers.get("x-user")
        return (AuthCredentials(["authenticated"]), NamedUser(name)) if name else None


class NamedUser(SimpleUser):
    @property
    def identity(self) -> str:
        return self.username


@limited("1/minute", key="user", name="profile")
async def profile(request: Request) -> Response:
    return PlainTextResponse(request.headers.get("x-user", "nobody"))


class Items(HTTPEndpoint):
    @limited("1/minute", name="put-items")
    async def put(self, request: Request) -> Response:
        return PlainTextResponse(request.path_params["item"])


async def job(_request: Request) -> Response:
    await jobs()
    return PlainTextResponse("", background=BackgroundTask(lambda: None))


@limited("3/minute", name="hands")
@limited(MessageLimit("1/minute", name="talk", on_excess="drop", key="connection"))
async def talk(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect:
        return


class PassThrough(BaseHTTPMiddleware):
    """Runs what is inside in a task of its own, as many middlewares do."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


@pytest.fixture
def client() -> Iterator[TestClient]:
    routes = [
        Route("/profile", profile),
        Route("/items/{item}", Items),
        Route("/job", job),
        WebSocketRoute("/talk", talk),
    ]
    app = Starlette(
        routes=[*routes, Mount("/shop", routes=routes)],
        middleware=[
            Middleware(AuthenticationMiddleware, backend=Named()),
            Middleware(
                LimitMiddleware,
                limiter=RateLimiter(),
                limits=[RouteLimit("4/minute", name="items", path="/items/*", key=["user", "method"])],
                headers="both",
            ),
            Middleware(PassThrough),
        ],
    )
    with TestClient(app) as client:
        yield client


def test_users_count_apart_and_those_without_a_name_by_address(client: TestClient) -> None:
    for user in ({"x-user": "ann"}, {"x-user": "bob"}, {}):
        assert client.get("/profile", headers=user).status_code == 200
    for user in ({"x-user": "ann"}, {"x-user": "bob"}, {}):
        assert client.get("/profile", headers=user).status_code == 429


def test_a_method_of_an_endpoint_has_its_own_limit_beside_the_middlewares(client: TestClient) -> None:
    answers = [client.put("/items/7") for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 429]
    assert answers[0].headers["ratelimit"] == '"items";r=3;t=60, "put-items";r=0;t=60'
    assert answers[0].headers["x-ratelimit-remaining"] == "0"
    assert answers[1].json()["violated-policies"] == ["put-items"]
    assert client.get("/items/7").status_code == 405


def test_a_limit_may_be_asked_in_the_middle_of_a_route(client: TestClient) -> None:
    assert [client.get("/job").status_code for _ in range(3)] == [200, 200, 429]


def test_a_mounted_route_is_the_same_route(client: TestClient) -> None:
    assert client.get("/shop/profile").status_code == 200
    assert client.get("/profile").status_code == 429


def test_handshakes_and_messages_of_one_route_are_limited(client: TestClient) -> None:
    for _ in range(3):
        with client.websocket_connect("/talk") as socket:
            assert dict(socket.extra_headers or {})
            socket.send_text("a")
            assert socket.receive_text() == "a"
            socket.send_text("dropped")
    with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/talk"):
        pass

    assert denied.value.json()["violated-policies"] == ["hands"]


def test_without_the_middleware_the_error_says_what_to_add() -> None:
    client = TestClient(Starlette(routes=[Route("/profile", profile)]))

    with pytest.raises(RuntimeError, match="limits on routes need LimitMiddleware"):
        client.get("/profile")
