"""Limits in an app that a real uvicorn serves."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest
from tests.system.yard import Process, ask, free_port, until
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from silence_gateway.testing.valkey import ValkeyServer

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]


class Served(Process):
    """A running uvicorn."""

    port = 0


@pytest.fixture
def uvicorn(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    started: list[Served] = []

    def serve(store: str, *options: str, app: str = "tests.asgi.served_app:app") -> Served:
        port = free_port()
        log = tmp_path / f"uvicorn-{len(started)}.log"
        with log.open("wb") as out:
            popen = subprocess.Popen(
                [sys.executable, "-m", "uvicorn", app, "--port", str(port), "--no-proxy-headers", *options],
                cwd=ROOT,
                env={**os.environ, "STORE": store},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        served = Served(popen, log)
        served.port = port
        started.append(served)
        until(lambda: answers(port), lambda: f"uvicorn answers; it said:\n{served.output()}", 20)
        return served

    yield serve
    for each in started:
        each.end()


def answers(port: int) -> bool:
    with suppress(OSError):
        return ask(port, "GET", "/").status == 200
    return False


def end_well(served: Served) -> None:
    """Ask it to end, and see that it does without a word of complaint."""
    served.signal(signal.SIGTERM)
    assert served.wait() in {0, -signal.SIGTERM}
    said = served.output()
    assert "Traceback" not in said
    assert "Task was destroyed" not in said


@contextmanager
def streaming(port: int) -> Iterator[bytes]:
    """Hold a stream open, and leave in the middle of it."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        head = b""
        while b"begun" not in head and b"}" not in head:
            head += client.recv(65536)
        yield head


@contextmanager
def connection_to_each_worker(port: int, workers: int) -> Iterator[list[HTTPConnection]]:
    """Open connections until there is one to every worker: which one takes it is the kernel's choice."""
    found: dict[bytes, HTTPConnection] = {}
    opened: list[HTTPConnection] = []

    def all_found() -> bool:
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        opened.append(connection)
        connection.request("GET", "/")
        found.setdefault(connection.getresponse().read(), connection)
        return len(found) == workers

    try:
        until(all_found, "every worker has taken a connection", 20)
        yield list(found.values())
    finally:
        for connection in opened:
            connection.close()


@pytest.mark.valkey
def test_workers_that_share_a_store_admit_together_what_one_would(uvicorn: Callable[..., Served]) -> None:
    with ValkeyServer() as server:
        served = uvicorn(server.url, "--workers", "2")

        def hammer(connection: HTTPConnection) -> list[HTTPResponse]:
            got = []
            for _ in range(30):
                connection.request("GET", "/hello")
                got.append(connection.getresponse())
                got[-1].read()
            return got

        with connection_to_each_worker(served.port, 2) as connections, ThreadPoolExecutor(2) as pool:
            one, two = pool.map(hammer, connections)

        allowed = [sum(answer.status == 200 for answer in each) for each in (one, two)]
        assert sum(allowed) == 20
        assert {answer.status for answer in one + two} == {200, 429}
        assert 1 <= int(one[-1].headers["retry-after"]) <= 60
        end_well(served)


@pytest.mark.valkey
@pytest.mark.parametrize("lifespan", ["on", "off"])
def test_the_limiter_needs_no_lifespan_and_ends_with_its_process(
    uvicorn: Callable[..., Served], lifespan: str
) -> None:
    with ValkeyServer() as server:
        served = uvicorn(server.url, "--lifespan", lifespan)

        assert [ask(served.port, "GET", "/hello").status for _ in range(22)] == [200] * 20 + [429] * 2
        end_well(served)


@pytest.mark.valkey
def test_no_request_fails_while_the_store_is_stopped_and_counts_go_on(uvicorn: Callable[..., Served]) -> None:
    with ValkeyServer() as server:
        served = uvicorn(server.url)
        assert ask(served.port, "GET", "/hello").status == 200
        server.kill()
        statuses = [ask(served.port, "GET", "/hello").status for _ in range(30)]

        assert set(statuses) == {200, 429}
        assert 19 <= statuses.count(200) <= 20
        end_well(served)


def test_a_place_is_free_when_the_client_has_left(uvicorn: Callable[..., Served]) -> None:
    served = uvicorn("memory://")
    with streaming(served.port) as head:
        assert head.startswith(b"HTTP/1.1 200")
        assert ask(served.port, "GET", "/stream").status == 429

    def free() -> bool:
        with streaming(served.port) as head:
            return head.startswith(b"HTTP/1.1 200")

    until(free, "the place of the client that has left is free")
    end_well(served)


def test_websockets_over_a_limit_are_told_so(uvicorn: Callable[..., Served]) -> None:
    served = uvicorn("memory://")
    address = f"ws://127.0.0.1:{served.port}/talk"
    for left in (2, 1, 0):
        with connect(address) as client:
            assert client.response is not None
            assert client.response.headers["ratelimit"].startswith(f'"hands";r={left};')
            for word in ("a", "b"):
                client.send(word)
                assert client.recv(timeout=10) == word
            client.send("c")
            with pytest.raises(ConnectionClosedError) as closed:
                client.recv(timeout=10)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4029
            assert closed.value.rcvd.reason.startswith("over the limit words; retry in ")
    with pytest.raises(InvalidStatus) as refused, connect(address):
        pass

    assert refused.value.response.status_code == 429
    assert refused.value.response.headers["content-type"] == "application/problem+json"
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 60
    assert "over the limit hands" not in served.output()
    end_well(served)
