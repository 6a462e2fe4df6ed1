"""A scripted admin API that speaks real HTTP, for the commands that talk to a running gateway."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass
class ScriptedAdmin:
    """
    Answers what it is told to, and writes down what it was asked.

    Attributes:
        url: Where it listens.
        answers: Status and body by `METHOD /path`; anything else is 404.
        asked: `METHOD /path` and the Authorization header of each request.
    """

    url: str
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@pytest.fixture
def admin() -> Iterator[ScriptedAdmin]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            asked = f"{self.command} {self.path}"
            scripted.asked.append((asked, self.headers["Authorization"]))
            status, body = scripted.answers.get(asked, (404, b'{"error": "nothing here"}'))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - the names that http.server calls

        def log_message(self, *_: object) -> None:
            """Say nothing on standard error."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    scripted = ScriptedAdmin(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield scripted
    server.shutdown()
    server.server_close()
    thread.join()
