"""The example apps, served by uvicorn and used as their readers would."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.system.yard import Answer, Process, ask, free_port, until
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from silence_gateway.testing.valkey import ValkeyServer

pytestmark = pytest.mark.system

EXAMPLES = Path(__file__).parents[2] / "examples"


class Served(Process):
    """A running example."""

    port = 0

    def statuses(self, times: int, method: str, path: str, **headers: str) -> list[int]:
        return [ask(self.port, method, path, headers=headers).status for _ in range(times)]

    def ask(self, method: str, path: str, **headers: str) -> Answer:
        return ask(self.port, method, path, headers=headers)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    started: list[Served] = []

    def start(name: str, store: str | None = None) -> Served:
        port = free_port()
        log = tmp_path / f"{name}-{len(started)}.log"
        with log.open("wb") as out:
            popen = subprocess.Popen(
                [sys.executable, "-m", "uvicorn", f"{name}:app", "--port", str(port)],
                cwd=EXAMPLES,
                env={**os.environ, **({"STORE": store} if store else {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        served = Served(popen, log)
        served.port = port
        started.append(served)
        until(
            lambda: "Uvicorn running" in served.output(), lambda: f"it runs; it said:\n{served.output()}", 20
        )
        return served

    yield start
    for each in started:
        each.end()


def test_the_fastapi_app(serve: Callable[..., Served]) -> None:
    app = serve("limits_fastapi")

    assert app.statuses(6, "POST", "/login") == [200] * 5 + [429]
    assert app.ask("POST", "/login").json()["violated-policies"] == ["post-login-5-per-m"]
    policies = app.ask("GET", "/search?words=a+b").headers["ratelimit-policy"]
    assert policies == '"all-100-per-m";q=100;w=60, "limits_fastapi.search-10-per-s";q=10;w=1'
    left = [app.ask("POST", "/complete", **{"X-Tenant": "acme"}).headers["ratelimit"] for _ in range(3)]
    assert ['"tokens";r=900;' in left[0], '"tokens";r=863;' in left[1], '"tokens";r=826;' in left[2]] == [
        True
    ] * 3
    assert app.ask("GET", "/export").body == b"row 0\nrow 1\nrow 2\n"
    assert app.statuses(4, "GET", "/export") == [200] * 4
    with connect(f"ws://127.0.0.1:{app.port}/chat") as client:
        for word in ("a", "b", "c"):
            client.send(word)
            assert client.recv(timeout=10) == word
        client.send("d")
        with pytest.raises(ConnectionClosedError, match="over the limit talk"):
            client.recv(timeout=10)
    until(lambda: "gone with 4029" in app.output(), "the app was told")


@pytest.mark.valkey
def test_two_of_the_fastapi_app_on_one_store_count_together(serve: Callable[..., Served]) -> None:
    with ValkeyServer() as server:
        one, two = serve("limits_fastapi", server.url), serve("limits_fastapi", server.url)

        assert one.statuses(3, "POST", "/login") == [200] * 3
        assert two.statuses(3, "POST", "/login") == [200, 200, 429]


def test_the_starlette_app(serve: Callable[..., Served]) -> None:
    app = serve("limits_starlette")

    for tenant in ("acme", "other"):
        assert app.statuses(6, "GET", "/orders", **{"X-Tenant": tenant}) == [200] * 5 + [429]
    assert app.statuses(3, "POST", "/mail/ann") == [200, 200, 429]
    refused = app.ask("POST", "/mail/ann")
    assert refused.json()["violated-policies"] == ["mails"]
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.headers["ratelimit-policy"] == '"mails";q=2;w=60'
    assert refused.headers["ratelimit"].startswith('"mails";r=0;t=')
    assert refused.headers["x-ratelimit-limit"] == "2"
    assert app.ask("POST", "/mail/bob").headers["x-ratelimit-limit"] == "100"
    with connect(f"ws://127.0.0.1:{app.port}/echo") as client:
        began = time.monotonic()
        for number in range(5):
            client.send(str(number))
        assert [client.recv(timeout=10) for _ in range(5)] == ["0", "1", "2", "3", "4"]
        assert time.monotonic() - began >= 2


def test_the_litestar_app(serve: Callable[..., Served]) -> None:
    app = serve("limits_litestar")

    assert app.statuses(4, "GET", "/search") == [200] * 3 + [429]
    assert app.statuses(3, "POST", "/reports") == [201, 201, 429]
    assert app.ask("POST", "/reports").json()["violated-policies"] == ["reports"]
    with connect(f"ws://127.0.0.1:{app.port}/chat") as client:
        for number in range(4):
            client.send(str(number))
        assert [client.recv(timeout=10) for _ in range(3)] == ["0", "1", "2"]
        with pytest.raises(TimeoutError):
            client.recv(timeout=0.2)


def test_a_head_request_has_no_body_when_it_is_refused(serve: Callable[..., Served]) -> None:
    app = serve("limits_litestar")
    app.statuses(100, "GET", "/search")
    connection = http.client.HTTPConnection("127.0.0.1", app.port, timeout=10)
    connection.request("HEAD", "/search")
    answer = connection.getresponse()

    assert (answer.status, answer.read()) == (429, b"")
    connection.close()
