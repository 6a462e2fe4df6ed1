"""A real grpcio server for the tests of this room, its code generated from a proto when tests run."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

PROTO = """
syntax = "proto3";
package echo;
message Text { string text = 1; bytes payload = 2; int32 count = 3; int32 status = 4; }
service Echo {
  rpc Unary (Text) returns (Text);
  rpc Split (Text) returns (stream Text);
  rpc Join (stream Text) returns (Text);
  rpc Chat (stream Text) returns (stream Text);
  rpc Hang (Text) returns (Text);
}
"""


@pytest.fixture(scope="session")
def echo(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The generated modules: `pb2` and `grpc`."""
    from grpc_tools import protoc

    folder = tmp_path_factory.mktemp("proto")
    (folder / "echo_for_tests.proto").write_text(PROTO)
    arguments = [
        f"-I{folder}",
        f"--python_out={folder}",
        f"--grpc_python_out={folder}",
        "echo_for_tests.proto",
    ]
    assert protoc.main(["protoc", *arguments]) == 0
    sys.path.insert(0, str(folder))
    try:
        return SimpleNamespace(
            pb2=importlib.import_module("echo_for_tests_pb2"),
            grpc=importlib.import_module("echo_for_tests_pb2_grpc"),
        )
    finally:
        sys.path.remove(str(folder))


class EchoService:
    """
    What the real server does; every method is told by its request.

    Attributes:
        hanging: Set once a call of Hang has arrived.
        left: Set once the client of a call of Hang has left it.
        deadlines_s: What remained of each call's deadline when it arrived; None if it had none.
        release: Lets every call of Hang answer.
    """

    def __init__(self, pb2: Any) -> None:
        self._pb2 = pb2
        self.hanging = threading.Event()
        self.left = threading.Event()
        self.release = threading.Event()
        self.deadlines_s: list[float | None] = []

    def Unary(self, request: Any, context: Any) -> Any:  # noqa: N802 - as in the proto
        self.deadlines_s.append(context.time_remaining())
        sent = tuple((name, value) for name, value in context.invocation_metadata() if name.startswith("x-"))
        context.send_initial_metadata(sent)
        context.set_trailing_metadata((*sent, ("x-end", "yes")))
        if request.status:
            context.abort(list(grpc.StatusCode)[request.status], request.text)
        return self._pb2.Text(text=request.text, payload=bytes(request.count))

    def Split(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        for number in range(request.count):
            yield self._pb2.Text(text=request.text, count=number, payload=request.payload)
        if request.status:
            context.abort(list(grpc.StatusCode)[request.status], "after the last")

    def Join(self, requests: Iterator[Any], context: Any) -> Any:  # noqa: N802
        texts = [request.text for request in requests]
        return self._pb2.Text(text="".join(texts), count=len(texts))

    def Chat(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:  # noqa: N802
        for request in requests:
            yield self._pb2.Text(text=request.text.upper())

    def Hang(self, request: Any, context: Any) -> Any:  # noqa: N802
        context.add_callback(self.left.set)
        self.hanging.set()
        self.release.wait(10)
        return self._pb2.Text(text="released")


class RealServer:
    """A running server: where it is, what it does, and how to stop it."""

    def __init__(self, server: Any, service: EchoService, address: str) -> None:
        self.server = server
        self.service = service
        self.address = address


StartServer = Callable[..., RealServer]


@pytest.fixture
def start_server(echo: SimpleNamespace) -> Iterator[StartServer]:
    """A function that starts a server; all are stopped after the test."""
    with ExitStack() as stack:

        def start(
            credentials: Any = None,
            path: Path | None = None,
            service: type[EchoService] = EchoService,
            host: str = "127.0.0.1",
            port: int = 0,
            **options: Any,
        ) -> RealServer:
            where = f"{host}:{port}" if path is None else f"unix:{path}"
            return stack.enter_context(_running(echo, credentials, where, service(echo.pb2), options))

        yield start


@contextmanager
def _running(
    echo: SimpleNamespace,
    credentials: Any,
    where: str,
    service: EchoService,
    options: dict[str, Any],
) -> Iterator[RealServer]:
    server = grpc.server(ThreadPoolExecutor(16), **options)
    echo.grpc.add_EchoServicer_to_server(service, server)
    port = server.add_secure_port(where, credentials) if credentials else server.add_insecure_port(where)
    server.start()
    try:
        yield RealServer(
            server, service, where if where.startswith("unix:") else f"{where.rpartition(':')[0]}:{port}"
        )
    finally:
        service.release.set()
        server.stop(0).wait(5)


@pytest.fixture
def real_server(start_server: StartServer) -> RealServer:
    """A plain server without TLS."""
    return start_server()
